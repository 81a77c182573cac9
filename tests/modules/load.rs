//! Libraries that are none, and libraries of another standard.

use crate::{emulator::fails, library::Emulator};
use skproxy::signer::sidecar::{Class, ModuleError, Sdf, Skf, SkfToken};
use std::path::Path;

fn both(library: &Path) -> [ModuleError; 2] {
    let sdf = fails(Sdf::load(library, "1"), Class::Permanent);
    let skf = fails(Skf::load(library, SkfToken::default()), Class::Permanent);
    [sdf, skf]
}

#[test]
fn a_file_that_is_no_library_says_what_the_loader_says() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    for (path, expect) in [
        (Path::new("/nowhere/module.so"), "No such file"),
        (directory.path(), "directory"),
        (&text, "file too short"),
    ] {
        for error in both(path) {
            assert_eq!(error.name, "LIBRARY_NOT_LOADED");
            assert!(error.detail.contains(expect), "{error}");
            assert!(error.detail.contains(&path.display().to_string()), "{error}");
        }
    }
}

#[test]
fn a_library_of_another_standard_says_every_function_that_it_lacks() {
    let (sdf, skf) = (Emulator::new("sdf_emulator", ""), Emulator::new("skf_emulator", ""));
    let no_sdf = fails(Sdf::load(&skf.library(), "1"), Class::Permanent);
    let no_skf = fails(Skf::load(&sdf.library(), SkfToken::default()), Class::Permanent);
    for (error, first, last) in [
        (no_sdf, "SDF_OpenDevice", "SDF_InternalSign_ECC"),
        (no_skf, "SKF_EnumDev", "SKF_ECCSignData"),
    ] {
        assert_eq!(error.name, "FUNCTIONS_MISSING");
        assert!(error.detail.contains(first) && error.detail.ends_with(last), "{error}");
    }
}
