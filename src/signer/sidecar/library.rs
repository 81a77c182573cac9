//! Opens a foreign C library and finds its functions. Says of one that is no such library which
//! functions it lacks, all at once.
//!
//! Invariant: a library stays loaded until the process ends, so what was found in it stays valid.

#![expect(unsafe_code, reason = "dlopen runs foreign code, dlsym takes its types on trust")]

use super::module::{Class, ModuleError};
use libloading::os::unix;
use std::{mem::ManuallyDrop, path::Path};

/// A loaded library. Never unloaded: vendors' libraries leave threads and exit handlers behind that
/// would run into unmapped code.
#[derive(Debug)]
pub(super) struct Library {
    inner: ManuallyDrop<unix::Library>,
    path: String,
}

impl Library {
    /// Opens a library; what it needs itself is resolved now, and not when it is first called.
    ///
    /// # Errors
    /// Of class `Permanent`, with what the loader says.
    pub(super) fn open(path: &Path) -> Result<Self, ModuleError> {
        let text = path.display().to_string();
        // SAFETY: the library's constructors run. That is what it is configured for, and why this
        // runs in a process of its own.
        let opened = unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) };
        match opened {
            Ok(inner) => Ok(Self { inner: ManuallyDrop::new(inner), path: text }),
            Err(error) => Err(ModuleError {
                class: Class::Permanent,
                code: 0,
                name: "LIBRARY_NOT_LOADED".to_owned(),
                detail: format!("{text}: {}", crate::refusal::chain(&error)),
            }),
        }
    }

    /// A function by its name. `None` when the library has none.
    ///
    /// # Safety
    /// `F` is a C function pointer type, and that of the function.
    pub(super) unsafe fn function<F: Copy>(&self, name: &str) -> Option<F> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.get::<F>(name) }.ok().map(|symbol| *symbol)
    }

    /// The error of a library that lacks functions.
    pub(super) fn lacks(&self, names: &[&str]) -> ModuleError {
        ModuleError {
            class: Class::Permanent,
            code: 0,
            name: "FUNCTIONS_MISSING".to_owned(),
            detail: format!("{} has no {}", self.path, names.join(", ")),
        }
    }
}

/// A table of C functions that answer with a code of 32 bits, and its `load`.
macro_rules! functions {
    ($(#[$doc:meta])* $name:ident {
        $($field:ident = $symbol:literal: fn($($argument:ty),*);)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        struct $name {
            $($field: unsafe extern "C" fn($($argument),*) -> u32,)*
        }

        impl $name {
            fn load(path: &std::path::Path) -> Result<Self, ModuleError> {
                let library = $crate::signer::sidecar::library::Library::open(path)?;
                let mut missing = Vec::new();
                $(
                    // SAFETY: the type is the one that the standard gives to this name.
                    let $field = unsafe { library.function($symbol) };
                    if $field.is_none() {
                        missing.push($symbol);
                    }
                )*
                match ($($field,)*) {
                    ($(Some($field),)*) => Ok(Self { $($field,)* }),
                    _ => Err(library.lacks(&missing)),
                }
            }
        }
    };
}
pub(super) use functions;
