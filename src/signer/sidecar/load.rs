//! Opens the foreign module that a request names. The one place that knows every standard.

use super::{
    module::{Module, ModuleError},
    pkcs11::Pkcs11Module,
    sdf::Sdf,
    skf::{Skf, SkfToken},
    spec::{ModuleSpec, TokenSelector},
};

/// Loads a module and finds its token. In a sidecar process, once.
///
/// # Errors
/// Of class `Permanent` when the library cannot be loaded or has no such token; else what the
/// module answers.
pub(super) fn load(spec: &ModuleSpec) -> Result<Box<dyn Module>, ModuleError> {
    match &spec.token {
        TokenSelector::Pkcs11 { label, serial } => {
            Pkcs11Module::load(&spec.module, label, serial.as_deref())
                .map(|module| -> Box<dyn Module> { Box::new(module) })
        }
        TokenSelector::Sdf { key } => Ok(Box::new(Sdf::load(&spec.module, key)?)),
        TokenSelector::Skf { device, application } => {
            let wanted = SkfToken { device: device.clone(), application: application.clone() };
            Ok(Box::new(Skf::load(&spec.module, wanted)?))
        }
    }
}
