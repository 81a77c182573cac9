//! An emulated crypto machine behind SDF.

use crate::{
    emulator::{Outside, fails, wait_for},
    library::Emulator,
};
use skproxy::{
    secret::Secret,
    signer::sidecar::{Class, Module, ModuleError, ModuleSession, Sdf, Tries},
};
use std::{os::unix::process::ExitStatusExt as _, process::Command, thread};

const PIN: &str = "emulated-pin";
const RIGHT: &str = "SDF_GetPrivateKeyAccessRight";

fn pin() -> Secret<String> {
    Secret::new(PIN.to_owned())
}

fn machine(control: &str) -> (Emulator, Sdf) {
    let emulator = Emulator::new("sdf_emulator", control);
    let module = Sdf::load(&emulator.library(), "2").unwrap();
    (emulator, module)
}

/// A machine with a password that was presented.
fn logged_in(control: &str) -> (Emulator, Sdf) {
    let (emulator, module) = machine(&with_pin(control));
    module.log_in(&pin()).unwrap();
    (emulator, module)
}

fn with_pin(control: &str) -> String {
    format!("pin {PIN}\n{control}")
}

fn sign(session: &mut dyn ModuleSession) -> Result<[u8; 64], ModuleError> {
    session.sign(&[7; 32])
}

#[test]
fn a_machine_signs_with_the_key_of_an_index_as_it_exports_it() {
    for control in ["", "narrow\n"] {
        let (emulator, module) = logged_in(control);
        assert_eq!(module.token(), "sdf Emulator SDF 2026010100100001 key 2");
        assert_eq!(module.tries().unwrap(), Tries::Unknown);
        let outside = Outside::new(&module.find_key("2").unwrap());
        let mut session = module.open_session("2").unwrap();
        outside.check_signatures(session.as_mut(), 1_000);
        drop(session);
        drop(module);
        assert_eq!(emulator.calls("SDF_OpenSession"), emulator.calls("SDF_CloseSession"));
        assert_eq!(emulator.calls("SDF_OpenDevice"), emulator.calls("SDF_CloseDevice"));
        assert_eq!(emulator.calls(RIGHT), emulator.calls("SDF_ReleasePrivateKeyAccessRight"));
    }
}

#[test]
fn keys_differ_and_a_machine_without_passwords_needs_no_login() {
    let (_emulator, module) = machine("");
    let keys: Vec<_> = ["1", "2", "3"].map(|key| module.find_key(key).unwrap()).into();
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    for (label, found) in ["1", "2", "3"].iter().zip(&keys) {
        let mut session = module.open_session(label).unwrap();
        Outside::new(found).check_signatures(session.as_mut(), 3);
    }
}

#[test]
fn sessions_sign_side_by_side_each_with_its_right() {
    let (emulator, module) = logged_in("");
    let outside = Outside::new(&module.find_key("2").unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut session = module.open_session("2").unwrap();
            let outside = &outside;
            scope.spawn(move || outside.check_signatures(session.as_mut(), 50));
        }
    });
    assert_eq!(emulator.calls(RIGHT), 4, "one presentation a session, the login's was the first");
}

#[test]
fn a_wrong_index_is_permanent() {
    let (_emulator, module) = machine("");
    for label in ["0", "4", "key", ""] {
        fails(module.find_key(label), Class::Permanent);
    }
    let mut session = module.open_session("4").unwrap();
    assert_eq!(fails(sign(session.as_mut()), Class::Permanent).name, "SDR_KEYNOTEXIST");
    let (_emulator, module) = logged_in("");
    let error = fails(module.open_session("3"), Class::Permanent);
    assert!(error.detail.contains("the password is that of key 2"), "{error}");
}

#[test]
fn a_wrong_password_is_presented_once_and_bars_sessions() {
    let (emulator, module) = machine("pin another\n");
    let error = fails(module.log_in(&pin()), Class::Pin);
    assert_eq!(error.name, "SDR_PRKRERR");
    assert!(!format!("{error:?} {module:?}").contains(PIN));
    for _ in 0..3 {
        fails(module.open_session("2"), Class::Pin);
    }
    assert_eq!(emulator.calls(RIGHT), 1);
}

#[test]
fn a_password_that_fails_once_is_not_presented_by_the_next_session() {
    // Not only a wrong password: a try without a known result is no good one either.
    for fault in ["pin changed", "answer SDF_GetPrivateKeyAccessRight 0x01000003"] {
        let (emulator, module) = logged_in("");
        let mut first = module.open_session("2").unwrap();
        emulator.control(&format!("{fault}\npin {PIN}"));
        fails(module.open_session("2"), Class::Pin);
        assert_eq!(emulator.calls(RIGHT), 2, "{fault}");
        emulator.control(&with_pin(""));
        assert_eq!(fails(module.open_session("2"), Class::Pin).name, "PASSWORD_BARRED");
        assert_eq!(emulator.calls(RIGHT), 2, "{fault}");
        assert!(sign(first.as_mut()).is_ok(), "a session that has its right keeps it");
        module.log_in(&pin()).unwrap();
        assert!(sign(module.open_session("2").unwrap().as_mut()).is_ok());
        assert_eq!(emulator.calls(RIGHT), 3, "{fault}");
    }
}

#[test]
fn a_session_without_a_right_stops_the_device() {
    let (_emulator, module) = machine(&with_pin(""));
    let mut session = module.open_session("2").unwrap();
    assert_eq!(fails(sign(session.as_mut()), Class::Pin).name, "SDR_PARDENY");
}

#[test]
fn the_session_limit_is_transient_and_ends_with_a_session() {
    let (_emulator, module) = logged_in("sessions 2\n");
    let first = module.open_session("2").unwrap();
    let _second = module.open_session("2").unwrap();
    assert_eq!(fails(module.open_session("2"), Class::Transient).name, "SDR_OPENSESSION");
    drop(first);
    assert!(sign(module.open_session("2").unwrap().as_mut()).is_ok());
}

#[test]
fn a_restarted_machine_is_opened_again_and_its_password_presented_once() {
    let (emulator, module) = logged_in("");
    let mut session = module.open_session("2").unwrap();
    emulator.control(&with_pin("plug 1"));
    assert_eq!(fails(sign(session.as_mut()), Class::SessionLost).name, "SDR_COMMFAIL");
    drop(session);
    let mut session = module.open_session("2").unwrap();
    assert!(sign(session.as_mut()).is_ok());
    assert_eq!((emulator.calls(RIGHT), emulator.calls("SDF_OpenDevice")), (2, 2));
    emulator.control(&with_pin("plug 2\nserial 2026010100200002"));
    fails(sign(session.as_mut()), Class::SessionLost);
    drop(session);
    let error = fails(module.open_session("2"), Class::Permanent);
    assert_eq!(error.name, "ANOTHER_MACHINE");
    assert_eq!(emulator.calls(RIGHT), 2, "another machine is told no password");
}

#[test]
fn another_key_or_garbage_never_verifies() {
    for fault in ["wrong_key", "garbage"] {
        let (_emulator, module) = logged_in(fault);
        let outside = Outside::new(&module.find_key("2").unwrap());
        let mut session = module.open_session("2").unwrap();
        let pair = session.sign(&outside.digest(b"record")).unwrap();
        assert!(!outside.accepts(b"record", &pair), "{fault}");
    }
}

#[test]
fn every_code_ends_in_its_class() {
    use Class::{Permanent, Pin, SessionLost, Transient};
    let expected: [(Class, &[u32]); 4] = [
        (SessionLost, &[0x01, 0x03, 0x04, 0x05]),
        (Transient, &[0x06, 0x0C, 0x0D, 0x17, 0x1C]),
        (Pin, &[0x07, 0x18]),
        (
            Permanent,
            &[
                0x02,
                0x08,
                0x09,
                0x0A,
                0x0B,
                0x0E,
                0x0F,
                0x10,
                0x11,
                0x12,
                0x13,
                0x14,
                0x15,
                0x16,
                0x19,
                0x1A,
                0x1B,
                0x1D,
                0x1E,
                0x1F,
                0x20,
                0x2F,
                0x00FF_FFFF,
            ],
        ),
    ];
    let (emulator, module) = machine("");
    let mut session = module.open_session("2").unwrap();
    for (class, numbers) in expected {
        for number in numbers {
            let code = 0x0100_0000 + number;
            for function in ["SDF_InternalSign_ECC", "SDF_ExportSignPublicKey_ECC"] {
                emulator.control(&format!("answer {function} {code:#x}"));
                let error = match function {
                    "SDF_InternalSign_ECC" => fails(sign(session.as_mut()), class),
                    _ => fails(module.find_key("2"), class),
                };
                assert_eq!(error.code, u64::from(code));
                assert!(error.detail.starts_with(function), "{error}");
            }
        }
    }
}

#[test]
fn each_step_of_loading_says_what_failed() {
    for function in ["SDF_OpenDevice", "SDF_OpenSession", "SDF_GetDeviceInfo"] {
        let emulator = Emulator::new("sdf_emulator", &format!("answer {function} 0x01000005"));
        let error = fails(Sdf::load(&emulator.library(), "1"), Class::SessionLost);
        assert_eq!(error.to_string(), format!("SDR_OPENDEVICE (0x01000005): {function}"));
    }
    let emulator = Emulator::new("sdf_emulator", "");
    fails(Sdf::load(&emulator.library(), "first"), Class::Permanent);
}

#[test]
fn calls_that_hang_hold_no_other_and_are_not_ended_here() {
    let (emulator, module) = logged_in("");
    let hung = [module.open_session("2").unwrap(), module.open_session("2").unwrap()];
    let other = module.open_session("2").unwrap();
    emulator.control(&with_pin("hang SDF_InternalSign_ECC"));
    thread::scope(|scope| {
        let calls = hung.map(|mut session| scope.spawn(move || sign(session.as_mut())));
        wait_for(&emulator, "SDF_InternalSign_ECC", 2);
        // What needs no signature goes on beside them.
        module.find_key("2").unwrap();
        drop(other);
        assert!(calls.iter().all(|call| !call.is_finished()));
        emulator.control(&with_pin(""));
        for call in calls {
            assert!(call.join().unwrap().is_ok());
        }
    });
}

const CRASH: &str = "SKPROXY_TEST_CRASHING_LIBRARY";

#[test]
fn a_crash_ends_the_process_that_loaded_the_library() {
    if let Some(library) = std::env::var_os(CRASH) {
        let module = Sdf::load(library.as_ref(), "1").unwrap();
        drop(sign(module.open_session("1").unwrap().as_mut()));
        return;
    }
    for (control, signal) in [("", None), ("crash SDF_InternalSign_ECC", Some(6))] {
        let emulator = Emulator::new("sdf_emulator", control);
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "sdf::a_crash_ends_the_process_that_loaded_the_library"]);
        let output = child.env(CRASH, emulator.library()).output().unwrap();
        assert_eq!(emulator.calls("SDF_InternalSign_ECC"), 1);
        assert_eq!(output.status.signal(), signal, "{control}: {output:?}");
    }
}
