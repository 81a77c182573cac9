//! An emulated key behind SKF.

use crate::{
    emulator::{Outside, fails, wait_for},
    library::Emulator,
};
use skproxy::{
    secret::Secret,
    signer::sidecar::{Class, Module, ModuleError, ModuleSession, Skf, SkfToken, Tries},
};
use std::thread;

const PIN: &str = "12345678";
const VERIFY: &str = "SKF_VerifyPIN";

fn token() -> SkfToken {
    SkfToken { device: "EMU-1".to_owned(), application: "TAX".to_owned() }
}

fn key(control: &str) -> (Emulator, Skf) {
    let emulator = Emulator::new("skf_emulator", control);
    let module = Skf::load(&emulator.library(), token()).unwrap();
    (emulator, module)
}

fn log_in(module: &Skf, pin: &str) -> Result<(), ModuleError> {
    module.log_in(&Secret::new(pin.to_owned()))
}

fn logged_in(control: &str) -> (Emulator, Skf) {
    let (emulator, module) = key(control);
    log_in(&module, PIN).unwrap();
    (emulator, module)
}

fn sign(session: &mut dyn ModuleSession) -> Result<[u8; 64], ModuleError> {
    session.sign(&[7; 32])
}

#[test]
fn a_key_signs_with_its_container_in_every_build_of_its_library() {
    for control in ["", "ulong8\n", "narrow\n", "narrow\nulong8\n"] {
        let (emulator, module) = logged_in(control);
        assert_eq!(module.token(), "skf EMU20260101 TAX");
        assert_eq!(module.tries().unwrap(), Tries::Left(6));
        let outside = Outside::new(&module.find_key("KEY-2").unwrap());
        let mut session = module.open_session("KEY-2").unwrap();
        outside.check_signatures(session.as_mut(), if control.is_empty() { 1_000 } else { 30 });
        drop(session);
        drop(module);
        for (opens, closes) in [
            ("SKF_OpenContainer", "SKF_CloseContainer"),
            ("SKF_OpenApplication", "SKF_CloseApplication"),
            ("SKF_ConnectDev", "SKF_DisConnectDev"),
        ] {
            assert_eq!(emulator.calls(opens), emulator.calls(closes), "{control}");
        }
        assert_eq!(emulator.calls(VERIFY), 1);
    }
}

#[test]
fn a_token_need_not_be_named_when_it_is_the_only_one() {
    let emulator = Emulator::new("skf_emulator", "");
    let module = Skf::load(&emulator.library(), SkfToken::default()).unwrap();
    assert_eq!(module.token(), "skf EMU20260101 TAX");
    for (device, application, class, expect) in [
        ("EMU-9", "TAX", Class::SessionLost, "not plugged in"),
        ("EMU-1", "TAX-9", Class::Permanent, "TAX-9"),
        ("EMU-1", "TA\0X", Class::Permanent, "no application"),
    ] {
        let wanted = SkfToken { device: device.into(), application: application.into() };
        let error = fails(Skf::load(&emulator.library(), wanted), class);
        assert!(error.detail.contains(expect), "{error}");
    }
}

#[test]
fn a_wrong_container_is_permanent_and_the_others_are_named() {
    let (_emulator, module) = logged_in("containers KEY-1,KEY-2,KEY-2\n");
    for (label, expect) in [
        ("KEY-3", "[\"KEY-1\", \"KEY-2\", \"KEY-2\"]"),
        ("KEY-2", "more than once"),
        ("", "no container"),
        ("KEY-1\0", "no container"),
    ] {
        for error in [
            fails(module.find_key(label), Class::Permanent),
            fails(module.open_session(label), Class::Permanent),
        ] {
            assert!(error.detail.contains(expect), "{error}");
        }
    }
    assert!(module.open_session("KEY-1").is_ok());
}

#[test]
fn each_wrong_pin_costs_one_try_until_the_key_is_locked() {
    let (emulator, module) = key("tries 3\n");
    for left in [2, 1, 0] {
        let error = fails(log_in(&module, "87654321"), Class::Pin);
        assert_eq!(error.name, "SAR_PIN_INCORRECT");
        assert!(error.detail.ends_with(&format!("{left} tries left")), "{error}");
        assert!(!error.to_string().contains("87654321"));
        let expect = if left == 0 { Tries::Locked } else { Tries::Left(left) };
        assert_eq!(module.tries().unwrap(), expect);
    }
    assert_eq!(fails(log_in(&module, PIN), Class::Pin).name, "SAR_PIN_LOCKED");
    assert_eq!(emulator.calls(VERIFY), 4);
    drop(module);
    let module = Skf::load(&emulator.library(), token()).unwrap();
    assert_eq!(module.tries().unwrap(), Tries::Locked, "the key keeps it, not the process");
}

#[test]
fn a_right_pin_restores_the_tries() {
    let (_emulator, module) = key("");
    fails(log_in(&module, "87654321"), Class::Pin);
    assert_eq!(module.tries().unwrap(), Tries::Left(5));
    log_in(&module, PIN).unwrap();
    assert_eq!(module.tries().unwrap(), Tries::Left(6));
}

#[test]
fn a_pin_that_is_no_text_for_c_is_never_presented() {
    let (emulator, module) = key("");
    for pin in ["\0", "1234\x005678", "12345678\0"] {
        assert_eq!(fails(log_in(&module, pin), Class::Pin).name, "SAR_PIN_INVALID");
    }
    assert_eq!(emulator.calls(VERIFY), 0);
}

#[test]
fn a_login_that_finds_the_user_logged_in_is_one() {
    let (emulator, module) = logged_in("");
    emulator.control("answer SKF_VerifyPIN 0x0A000028");
    log_in(&module, PIN).unwrap();
    assert!(sign(module.open_session("KEY-1").unwrap().as_mut()).is_ok());
}

#[test]
fn a_library_need_not_know_tries_or_state() {
    let (emulator, module) = key("");
    emulator.control("answer SKF_GetPINInfo 0x0A000003\nanswer SKF_GetDevState 0x0A000003");
    assert_eq!(module.tries().unwrap(), Tries::Unknown);
    assert!(Skf::load(&emulator.library(), token()).is_ok(), "nor need it know a device's state");
}

#[test]
fn a_key_has_one_session_at_a_time() {
    let (emulator, module) = logged_in("");
    let session = module.open_session("KEY-1").unwrap();
    fails(module.open_session("KEY-1"), Class::Transient);
    fails(module.open_session("KEY-2"), Class::Transient);
    assert_eq!(emulator.calls("SKF_OpenContainer"), 1);
    drop(session);
    emulator.control("sessions 0");
    assert_eq!(fails(module.open_session("KEY-2"), Class::Transient).name, "SAR_MEMORYERR");
    emulator.control("");
    assert!(sign(module.open_session("KEY-2").unwrap().as_mut()).is_ok());
}

#[test]
fn without_a_login_no_session_opens() {
    let (_emulator, module) = key("");
    let error = fails(module.open_session("KEY-1"), Class::SessionLost);
    assert_eq!(error.name, "SAR_USER_NOT_LOGGED_IN");
}

#[test]
fn a_login_that_the_key_forgot_is_asked_for_again() {
    let (emulator, module) = logged_in("");
    let mut session = module.open_session("KEY-1").unwrap();
    emulator.control("answer SKF_ECCSignData 0x0A00002D");
    fails(sign(session.as_mut()), Class::SessionLost);
    drop(session);
    emulator.control("");
    fails(module.open_session("KEY-1"), Class::SessionLost);
    log_in(&module, PIN).unwrap();
    assert!(sign(module.open_session("KEY-1").unwrap().as_mut()).is_ok());
    assert_eq!(emulator.calls("SKF_ConnectDev"), 1, "the connection was good");
}

#[test]
fn an_unplugged_key_is_found_again_and_the_pin_presented_once() {
    let (emulator, module) = logged_in("");
    let mut session = module.open_session("KEY-1").unwrap();
    emulator.control("absent");
    assert_eq!(fails(sign(session.as_mut()), Class::SessionLost).name, "SAR_DEVICE_REMOVED");
    assert_eq!(fails(sign(session.as_mut()), Class::SessionLost).name, "CONNECTION_LOST");
    drop(session);
    for _ in 0..2 {
        fails(module.open_session("KEY-1"), Class::SessionLost);
    }
    emulator.control("plug 1");
    let error = fails(module.open_session("KEY-1"), Class::SessionLost);
    assert_eq!(error.name, "SAR_USER_NOT_LOGGED_IN");
    assert_eq!(emulator.calls(VERIFY), 1);
    log_in(&module, PIN).unwrap();
    assert!(sign(module.open_session("KEY-1").unwrap().as_mut()).is_ok());
    assert_eq!(emulator.calls(VERIFY), 2);
}

#[test]
fn a_session_of_an_earlier_connection_never_signs_in_a_later_one() {
    let (emulator, module) = logged_in("");
    let mut session = module.open_session("KEY-1").unwrap();
    emulator.control("answer SKF_ECCSignData 0x0A000005");
    fails(sign(session.as_mut()), Class::SessionLost);
    emulator.control("");
    log_in(&module, PIN).unwrap();
    let before = emulator.calls("SKF_ECCSignData");
    assert_eq!(fails(sign(session.as_mut()), Class::SessionLost).name, "CONNECTION_LOST");
    let closed = emulator.calls("SKF_CloseContainer");
    drop(session);
    assert_eq!(emulator.calls("SKF_CloseContainer"), closed, "its handle may be another's now");
    assert_eq!(emulator.calls("SKF_ECCSignData"), before);
    assert!(sign(module.open_session("KEY-1").unwrap().as_mut()).is_ok());
}

#[test]
fn another_key_in_the_same_socket_is_told_no_pin() {
    let (emulator, module) = logged_in("");
    let mut session = module.open_session("KEY-1").unwrap();
    emulator.control("plug 1\nserial EMU20269999");
    fails(sign(session.as_mut()), Class::SessionLost);
    drop(session);
    for error in [
        fails(log_in(&module, PIN), Class::Permanent),
        fails(module.tries(), Class::Permanent),
        fails(module.find_key("KEY-1"), Class::Permanent),
        fails(module.open_session("KEY-1"), Class::Permanent),
    ] {
        assert_eq!(error.name, "ANOTHER_KEY");
    }
    assert_eq!(emulator.calls(VERIFY), 1);
}

#[test]
fn another_key_or_garbage_never_verifies() {
    for fault in ["wrong_key", "garbage"] {
        let (_emulator, module) = logged_in(fault);
        let outside = Outside::new(&module.find_key("KEY-1").unwrap());
        let mut session = module.open_session("KEY-1").unwrap();
        let pair = session.sign(&outside.digest(b"record")).unwrap();
        assert!(!outside.accepts(b"record", &pair), "{fault}");
    }
}

/// Numbers of GM/T 0016's codes, and tax codes, by class: written from the documents, apart from
/// the table of the product.
const EXPECTED: [(Class, &[u32]); 5] = [
    (Class::SessionLost, &[0x01, 0x02, 0x05, 0x0C, 0x23, 0x2D]),
    (Class::Transient, &[0x0E, 0x12]),
    (Class::InDoubt, &[0x0F]),
    (Class::Pin, &[0x24, 0x25, 0x26, 0x27, 0x29]),
    (
        Class::Permanent,
        &[
            0x03, 0x04, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0D, 0x10, 0x11, 0x13, 0x14, 0x15,
            0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x28,
            0x2A, 0x2B, 0x2C, 0x2E, 0x2F, 0x30, 0x31, 0x32, 0x33, 0x101, 0x0FFF,
        ],
    ),
];

const EXPECTED_TAX: [(Class, &[u32]); 3] = [
    (Class::SessionLost, &[0x09_C000]),
    (
        Class::Pin,
        &[0x09_63C0, 0x09_63C1, 0x09_63C2, 0x09_63C3, 0x09_63C4, 0x09_63C5, 0x09_63C6, 0x09_63C7],
    ),
    (
        Class::Permanent,
        &[
            0x09_240D, 0x09_D106, 0x09_D108, 0x09_D109, 0x09_D110, 0x09_D11C, 0x09_D11F, 0x09_D120,
            0x09_D121, 0x09_D122, 0x09_D200, 0x09_E105, 0x09_FFFF,
        ],
    ),
];

#[test]
fn every_code_ends_in_its_class() {
    let (emulator, module) = key("");
    let standard = EXPECTED.iter().map(|(class, codes)| (class, codes, 0x0A00_0000));
    let tax = EXPECTED_TAX.iter().map(|(class, codes)| (class, codes, 0));
    for (class, numbers, base) in standard.chain(tax) {
        for number in *numbers {
            let code = base + number;
            emulator.control("");
            log_in(&module, PIN).unwrap();
            let mut session = module.open_session("KEY-1").unwrap();
            emulator.control(&format!("answer SKF_ECCSignData {code:#x}"));
            let error = fails(sign(session.as_mut()), *class);
            assert_eq!((error.code, error.detail.as_str()), (code.into(), "SKF_ECCSignData"));
            drop(session);
            emulator.control(&format!("answer SKF_VerifyPIN {code:#x}"));
            if code != 0x0A00_0028 {
                let error = fails(log_in(&module, PIN), *class);
                let tells_tries = error.detail.contains("tries left");
                assert_eq!(tells_tries, *class == Class::Pin, "{error}");
            }
            emulator.control(&format!("answer SKF_ExportPublicKey {code:#x}"));
            fails(module.find_key("KEY-1"), *class);
        }
    }
}

#[test]
fn each_step_of_loading_says_what_failed() {
    for function in [
        "SKF_EnumDev",
        "SKF_GetDevState",
        "SKF_ConnectDev",
        "SKF_GetDevInfo",
        "SKF_EnumApplication",
        "SKF_OpenApplication",
    ] {
        let emulator = Emulator::new("skf_emulator", &format!("answer {function} 0x0A000001"));
        let error = fails(Skf::load(&emulator.library(), token()), Class::SessionLost);
        assert!(error.to_string().starts_with(&format!("SAR_FAIL (0x0A000001): {function}")));
        let connected = emulator.calls("SKF_ConnectDev") == 1 && function != "SKF_ConnectDev";
        assert_eq!(emulator.calls("SKF_DisConnectDev"), usize::from(connected), "{function}");
    }
    let emulator = Emulator::new("skf_emulator", "absent");
    let error = fails(Skf::load(&emulator.library(), token()), Class::SessionLost);
    assert_eq!(error.name, "SAR_DEVICE_REMOVED");
}

#[test]
fn a_call_that_hangs_holds_the_key_and_is_not_ended_here() {
    let (emulator, module) = logged_in("");
    let mut session = module.open_session("KEY-1").unwrap();
    emulator.control("hang SKF_ECCSignData");
    thread::scope(|scope| {
        let call = scope.spawn(move || sign(session.as_mut()));
        wait_for(&emulator, "SKF_ECCSignData", 1);
        let module = &module;
        let other = scope.spawn(move || module.tries());
        assert!(!call.is_finished() && !other.is_finished());
        assert_eq!(emulator.calls("SKF_GetPINInfo"), 0, "one thing at a time");
        emulator.control("");
        assert!(call.join().unwrap().is_ok());
        assert_eq!(other.join().unwrap().unwrap(), Tries::Left(6));
    });
}
