//! What a platform may do for a taxpayer that it is bound to (操作授权), and what a taxpayer must not
//! issue (禁止开票). Values and their stored text; they are judged where a request is decided.

use super::Registry;
use crate::{
    model::{Color, Kind, PlatformNo, TaxpayerNo},
    refusal::{Reason, Refusal},
};
use std::collections::BTreeSet;

/// Something that is granted for itself (操作).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Blue invoices: issue and validate.
    Issue,
    /// Red letters: issue, validate and check.
    Red,
    /// Voids.
    Void,
    /// What became of a serial or a number: get and resolve.
    Query,
    /// Lists and their sums.
    List,
    /// The taxpayer's devices: description, monitor, rates and stock.
    Device,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] =
        [Self::Issue, Self::Red, Self::Void, Self::Query, Self::List, Self::Device];

    /// How the store keeps it and operators write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Red => "red",
            Self::Void => "void",
            Self::Query => "query",
            Self::List => "list",
            Self::Device => "device",
        }
    }

    /// Reads `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// What issuing an invoice of a colour takes.
    #[must_use]
    pub fn issuing(color: Color) -> Self {
        match color {
            Color::Blue => Self::Issue,
            Color::Red => Self::Red,
        }
    }
}

/// The operations that a binding grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants(BTreeSet<Operation>);

impl FromIterator<Operation> for Grants {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        Self(operations.into_iter().collect())
    }
}

impl Grants {
    /// Every operation: what a binding grants unless told otherwise.
    #[must_use]
    pub fn all() -> Self {
        Operation::ALL.into_iter().collect()
    }

    /// Whether an operation is granted.
    #[must_use]
    pub fn has(&self, operation: Operation) -> bool {
        self.0.contains(&operation)
    }

    /// The operations, in the order of `Operation::ALL`.
    pub fn iter(&self) -> impl Iterator<Item = Operation> {
        self.0.iter().copied()
    }

    /// Names, a blank between them.
    #[must_use]
    pub fn text(&self) -> String {
        self.iter().map(Operation::name).collect::<Vec<_>>().join(" ")
    }

    /// Reads `text`. `None` for a name that is no operation's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().map(Operation::parse).collect()
    }
}

/// What a taxpayer must not issue (开票标志, kpbz).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forbidden {
    /// Nothing may be issued, of whatever kind.
    pub everything: bool,
    /// Kinds that must not be issued.
    pub kinds: BTreeSet<Kind>,
}

impl Forbidden {
    /// Whether a kind must not be issued.
    #[must_use]
    pub fn forbids(&self, kind: Kind) -> bool {
        self.everything || self.kinds.contains(&kind)
    }

    /// `*` for everything, and legacy codes; a blank between them.
    #[must_use]
    pub fn text(&self) -> String {
        let everything = self.everything.then(|| "*".to_owned());
        let kinds = self.kinds.iter().map(|kind| format!("{:03}", kind.legacy_code()));
        everything.into_iter().chain(kinds).collect::<Vec<_>>().join(" ")
    }

    /// Reads `text`. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().try_fold(Self::default(), |mut forbidden, word| {
            match word {
                "*" => forbidden.everything = true,
                code => {
                    forbidden.kinds.insert(Kind::from_legacy_code(code.parse().ok()?)?);
                }
            }
            Some(forbidden)
        })
    }
}

impl Registry {
    /// Whether a platform is bound to a taxpayer.
    #[must_use]
    pub fn is_bound(&self, asker: (PlatformNo, TaxpayerNo)) -> bool {
        self.bindings.contains_key(&asker)
    }

    /// Whether a platform is bound to a taxpayer and granted an operation for it.
    ///
    /// # Errors
    /// `TaxpayerNotBound`, `OperationNotAllowed`.
    pub fn may(
        &self,
        asker: (PlatformNo, TaxpayerNo),
        operation: Operation,
    ) -> Result<(), Refusal> {
        let hint = "the platform is not bound to this taxpayer";
        let unbound = || Refusal::new(Reason::TaxpayerNotBound, hint);
        let grants = self.bindings.get(&asker).ok_or_else(unbound)?;
        grants.has(operation).then_some(()).ok_or_else(|| {
            let name = operation.name();
            let hint = format!("the platform is not granted {name:?} for this taxpayer");
            Refusal::new(Reason::OperationNotAllowed, hint)
        })
    }

    /// Whether a platform may read what may be its own: a binding that grants something else
    /// forbids it, one that is not there does not, since what was issued stays its platform's.
    ///
    /// # Errors
    /// `OperationNotAllowed`.
    pub fn may_read(
        &self,
        asker: (PlatformNo, TaxpayerNo),
        operation: Operation,
    ) -> Result<(), Refusal> {
        if self.is_bound(asker) { self.may(asker, operation) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: (PlatformNo, TaxpayerNo) = (PlatformNo(1), TaxpayerNo(1));

    #[test]
    fn what_is_stored_is_read_back_and_nothing_else_is() {
        for text in ["issue red void query list device", "query", ""] {
            assert_eq!(Grants::parse(text).unwrap().text(), text);
        }
        for text in ["*", "*  004 007", "028", ""] {
            let forbidden = Forbidden::parse(text).unwrap();
            assert_eq!(Forbidden::parse(&forbidden.text()), Some(forbidden), "{text}");
        }
        for text in ["issues", "issue,red", "Issue"] {
            assert_eq!(Grants::parse(text), None, "{text}");
        }
        for text in ["all", "003", "4,7", "-4"] {
            assert_eq!(Forbidden::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_binding_grants_what_it_says_and_no_binding_grants_nothing_but_reading() {
        for operation in Operation::ALL {
            let mut registry = Registry::default();
            let refused = |registry: &Registry| {
                let reasons = [registry.may(ASKER, operation), registry.may_read(ASKER, operation)];
                reasons.map(|result| result.err().map(|refusal| refusal.reason))
            };
            assert_eq!(refused(&registry), [Some(Reason::TaxpayerNotBound), None]);
            registry.bindings.insert(ASKER, [operation].into_iter().collect());
            assert_eq!(refused(&registry), [None, None], "{operation:?}");
            let others = Operation::ALL.into_iter().filter(|other| *other != operation);
            registry.bindings.insert(ASKER, others.collect());
            let denied = Some(Reason::OperationNotAllowed);
            assert_eq!(refused(&registry), [denied, denied], "{operation:?}");
        }
    }

    #[test]
    fn a_ban_of_everything_holds_for_every_kind() {
        let one = Forbidden { everything: false, kinds: [Kind::Roll].into() };
        let all = Forbidden { everything: true, ..Forbidden::default() };
        for kind in Kind::ALL {
            assert_eq!(one.forbids(kind), kind == Kind::Roll);
            assert!(all.forbids(kind));
            assert!(!Forbidden::default().forbids(kind));
        }
    }
}
