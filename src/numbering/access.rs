//! The decisions about who may do what: bindings, what they grant, and what a taxpayer is
//! forbidden.

use super::{book::Round, operate::absent};
use crate::{
    model::{PlatformNo, TaxpayerNo},
    refusal::{Reason, Refusal},
    registry::{Forbidden, Grants, Taxpayer},
    store::RegistryChange,
};

impl Round<'_> {
    /// Lets a platform do everything for a taxpayer. Binding twice changes nothing.
    ///
    /// # Errors
    /// `NotFound` for either.
    pub fn add_binding(
        &mut self,
        actor: &str,
        platform_id: &str,
        taxpayer_id: &str,
    ) -> Result<(), Refusal> {
        self.bind(actor, (platform_id, taxpayer_id), Grants::all()).map(drop)
    }

    /// Lets a platform act for a taxpayer. A binding that is there already stays as it is: binding
    /// twice widens nothing. Says what is granted.
    ///
    /// # Errors
    /// `NotFound` for either.
    pub fn bind(
        &mut self,
        actor: &str,
        ids: (&str, &str),
        grants: Grants,
    ) -> Result<Grants, Refusal> {
        let bound = self.bound_by(ids)?;
        if let Some(known) = self.registry().bindings.get(&bound) {
            return Ok(known.clone());
        }
        self.put_grants(bound, grants.clone());
        let (platform_id, taxpayer_id) = ids;
        let what = format!("bind platform {platform_id} to taxpayer {taxpayer_id}");
        self.audit(actor, format!("{what}: {}", grants.text()));
        Ok(grants)
    }

    /// Replaces what a binding grants; it holds from the next decision on.
    ///
    /// # Errors
    /// `NotFound` for platform, taxpayer or binding.
    pub fn grant(&mut self, actor: &str, ids: (&str, &str), grants: Grants) -> Result<(), Refusal> {
        let bound = self.bound_by(ids)?;
        let (platform_id, taxpayer_id) = ids;
        if !self.registry().is_bound(bound) {
            let hint = format!("platform {platform_id} is not bound to taxpayer {taxpayer_id}");
            return Err(Refusal::new(Reason::NotFound, hint));
        }
        let what = format!("grant platform {platform_id} for taxpayer {taxpayer_id}");
        self.audit(actor, format!("{what}: {}", grants.text()));
        self.put_grants(bound, grants);
        Ok(())
    }

    fn bound_by(
        &self,
        (platform_id, taxpayer_id): (&str, &str),
    ) -> Result<(PlatformNo, TaxpayerNo), Refusal> {
        let registry = self.registry();
        let platform = registry.platform_by_id(platform_id);
        let taxpayer = registry.taxpayer_by_id(taxpayer_id);
        let platform = platform.ok_or_else(|| absent("platform", platform_id))?.no;
        Ok((platform, taxpayer.ok_or_else(|| absent("taxpayer", taxpayer_id))?.no))
    }

    fn put_grants(&mut self, bound: (PlatformNo, TaxpayerNo), grants: Grants) {
        self.batch.registry.push(RegistryChange::Binding(bound.0, bound.1, grants.clone()));
        self.registry_mut().bindings.insert(bound, grants);
    }

    /// Replaces what a taxpayer must not issue (开票标志); it holds from the next decision on.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn forbid(
        &mut self,
        actor: &str,
        (id, forbidden): (&str, Forbidden),
        reason: &str,
    ) -> Result<Taxpayer, Refusal> {
        let known = self.registry().taxpayer_by_id(id).ok_or_else(|| absent("taxpayer", id))?;
        let taxpayer = Taxpayer { forbidden, ..Taxpayer::clone(known) };
        let text = taxpayer.forbidden.text();
        self.audit(actor, format!("forbid taxpayer {id} to issue {text:?}: {reason}"));
        self.batch.registry.push(RegistryChange::Taxpayer(taxpayer.clone()));
        self.registry_mut().put_taxpayer(taxpayer.clone());
        Ok(taxpayer)
    }
}
