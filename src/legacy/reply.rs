//! How a request is answered: in its encoding, dialect and frame. IN_DOUBT never becomes a failure
//! code (docs/legacy.md, "In doubt").

use super::{
    answer::Answer,
    charset::Charset,
    codes,
    dialect::{Dialect, Doubt},
    envelope::{Content, Head, wrap},
    fields::Fields,
    print::Printer,
    request::Operation,
};
use crate::refusal::{Reason, Refusal};

/// What stands around an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// `<business>`, with the caller's id and comment.
    Business {
        /// Id, at most 100 characters.
        id: String,
        /// Comment, at most 100 characters.
        comment: String,
    },
    /// `<interface>`, with the caller's header.
    Interface(Box<Head>),
}

/// How to answer one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Encoding of the answer.
    pub charset: Charset,
    /// Dialect.
    pub dialect: Dialect,
    /// What was asked for; `None` when that could not be read.
    pub operation: Option<Operation>,
    /// Request serial, at most 100 characters; empty when there is none. Refusals echo it.
    pub serial: String,
    /// What stands around it.
    pub frame: Frame,
}

/// What goes back to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Printed {
    /// These bytes.
    Message(Vec<u8>),
    /// Nothing: hold the answer, then close the connection.
    HoldThenClose,
}

/// Code and text of an answer.
pub(super) struct State {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Reply {
    /// Whether the caller asks in CA mode, and so is answered with `print_sealed`.
    #[must_use]
    pub fn in_ca_mode(&self) -> bool {
        matches!(&self.frame, Frame::Interface(head) if head.ca_mode)
    }

    /// Prints an answer; content of an `<interface>` goes out plain.
    #[must_use]
    pub fn print(&self, answer: &Answer) -> Printed {
        self.print_sealed(answer, |body| Some(Content::Plain(body)))
    }

    /// Prints an answer whose content is sealed first, for callers of CA mode. Only the content of
    /// an `<interface>` is; `<business>` has none. What cannot be sealed is held.
    #[must_use]
    pub fn print_sealed(
        &self,
        answer: &Answer,
        seal: impl FnOnce(Vec<u8>) -> Option<Content>,
    ) -> Printed {
        let Some(state) = self.state(answer) else { return Printed::HoldThenClose };
        let message = match &self.frame {
            Frame::Business { id, comment } => {
                let mut printer = Printer::new(self.charset.label());
                printer.open_with("business", &[("id", id), ("comment", comment)]);
                self.body(&mut printer, answer, &state);
                self.charset.encode(&printer.finish())
            }
            Frame::Interface(head) => {
                let mut content = None;
                if self.operation.is_some() {
                    let mut printer = Printer::new(head.content_charset.label());
                    self.body(&mut printer, answer, &state);
                    content = seal(head.content_charset.encode(&printer.finish()));
                    if content.is_none() {
                        return Printed::HoldThenClose;
                    }
                }
                self.charset.encode(&wrap(head, self.charset, &state, content))
            }
        };
        Printed::Message(message)
    }

    /// Code and text; `None` for a doubt that the dialect cannot tell.
    fn state(&self, answer: &Answer) -> Option<State> {
        let refused = |refusal: &Refusal| State {
            code: codes::code(refusal, self.dialect),
            message: codes::message(refusal, self.dialect),
        };
        match answer {
            Answer::InDoubt => match self.dialect.in_doubt() {
                Doubt::Code(code) => {
                    Some(State { code, message: "处理中，请稍后查询".into() })
                }
                Doubt::HoldThenClose => None,
            },
            Answer::Refused(refusal) => Some(refused(refusal)),
            // Success without a number would be none; a failure might be none either.
            Answer::Invoices(found)
                if found.is_empty() && self.operation == Some(Operation::Issue) =>
            {
                self.state(&Answer::InDoubt)
            }
            Answer::Invoices(found)
                if found.is_empty() && self.operation == Some(Operation::Query) =>
            {
                let refusal = Refusal::new(Reason::NotFound, "no such invoice");
                Some(refused(&refusal))
            }
            Answer::Invoices(_)
            | Answer::Voided { .. }
            | Answer::Stock(_)
            | Answer::Device(_)
            | Answer::Monitor(_)
            | Answer::Rates(_)
            | Answer::Key { .. } => {
                Some(State { code: self.dialect.success(), message: "成功".into() })
            }
        }
    }

    fn body(&self, printer: &mut Printer, answer: &Answer, state: &State) {
        match self.dialect {
            Dialect::Platform | Dialect::PlatformOlder | Dialect::Common => {
                let root = response_root(self.operation);
                printer.open_with(root, &[("class", root)]);
                if matches!(answer, Answer::Refused(_) | Answer::InDoubt) {
                    printer.leaf("FPQQLSH", &self.serial);
                }
                self.fields(printer, answer);
                printer.leaf("RETURNCODE", state.code);
                printer.leaf("RETURNMSG", &state.message);
                printer.close();
            }
            Dialect::Component => {
                printer.open_with("body", &[("yylxdm", "1")]);
                printer.open("output");
                self.fields(printer, answer);
                printer.leaf("returncode", state.code);
                printer.leaf("returnmsg", &state.message);
                printer.close();
                printer.close();
            }
            Dialect::Server => {
                printer.open_with("body", &[("yylxdm", "1")]);
                printer.leaf("returncode", state.code);
                printer.leaf("returnmsg", &state.message);
                printer.open("returndata");
                self.fields(printer, answer);
                printer.close();
                printer.close();
            }
        }
    }

    fn fields(&self, printer: &mut Printer, answer: &Answer) {
        if let Some(operation) = self.operation {
            Fields { printer, dialect: self.dialect }.answer(operation, answer);
        }
    }
}

/// Root of a COMMON answer.
fn response_root(operation: Option<Operation>) -> &'static str {
    match operation {
        None | Some(Operation::Issue) => "RESPONSE_COMMON_FPKJ",
        Some(Operation::Query) => "RESPONSE_COMMON_FPCX",
        Some(Operation::Void) => "RESPONSE_COMMON_FPZF",
        Some(Operation::CurrentNumber | Operation::Stock) => "RESPONSE_COMMON_FPKCCX",
        Some(Operation::Device) => "RESPONSE_COMMON_SKSBXXCX",
        Some(Operation::Monitor) => "RESPONSE_COMMON_JKXXCX",
        Some(Operation::Rates) => "RESPONSE_COMMON_SQSLCX",
        Some(Operation::Key) => "RESPONSE_COMMON_KEYXX",
    }
}
