//! Opens the foreign module that a request names. The one place that knows every standard.

use super::{
    module::{Class, Module, ModuleError},
    pkcs11::Pkcs11Module,
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
        TokenSelector::Sdf | TokenSelector::Skf { .. } => Err(ModuleError {
            class: Class::Permanent,
            code: 0,
            name: "STANDARD".into(),
            detail: format!("this build has no {} backend", spec.token.standard().name()),
        }),
    }
}
