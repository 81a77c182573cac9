//! A machine never gambles with a PIN (docs/protocol.md 12). The module counts how often one was
//! presented.

use crate::{
    pins::{FilePins, MemoryPins},
    softhsm::PIN,
    token::{Token, open_in_time, program},
};
use skproxy::signer::{
    SignerError,
    sidecar::{SidecarSessions, Sidecars},
};
use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

/// A daemon's life: new sidecars, the records of before.
fn daemon(token: &Token) -> (Arc<FilePins>, SidecarSessions) {
    let pins = Arc::new(FilePins::open(token.path("pins")));
    let sidecars = Sidecars::with_program(program(), pins.clone());
    let sessions = sidecars.sessions("D1", &token.spec(), token.key()).unwrap();
    (pins, sessions)
}

/// Tries until something other than "later" is said, which is that the PIN stops the device.
#[track_caller]
fn stopped(sessions: &SidecarSessions, expect: &str) {
    let error = crate::token::wait_for("an end of the backoff", || match sessions.open() {
        Err(SignerError::Unavailable { .. }) => None,
        Err(error) => Some(error),
        Ok(_) => panic!("it was let in"),
    });
    assert!(matches!(error, SignerError::Pin { .. }), "{error}");
    assert!(error.to_string().contains(expect), "{error}");
    assert!(!error.to_string().contains(PIN), "{error}");
}

#[test]
fn a_wrong_pin_costs_one_try_whatever_is_restarted() {
    let token = Token::new();
    token.write_pin("000000");
    {
        let (pins, sessions) = daemon(&token);
        stopped(&sessions, "CKR_PIN_INCORRECT");
        assert_eq!(pins.states(), ["Bad"]);
        // The process of the first try has ended; others are started and present nothing.
        stopped(&sessions, "a wrong PIN was presented");
    }
    let (pins, sessions) = daemon(&token);
    assert_eq!(pins.states(), ["Bad"], "the record is durable");
    stopped(&sessions, "nothing was presented");
    // Neither the right PIN nor an unlocked record is enough while the token's own flag warns.
    token.write_pin(PIN);
    pins.unlock();
    stopped(&sessions, "nothing was presented");
    assert_eq!(token.count("login"), 1);
    // The operator logs in with the vendor's tool, which resets the flag.
    token.import("another", "09", &[]);
    token.sign(&mut *open_in_time(&sessions)).unwrap();
    assert_eq!(token.count("login"), 2);
    assert_eq!(pins.states(), ["Good"]);
}

#[test]
fn a_record_that_is_not_good_keeps_the_right_pin_back_too() {
    let token = Token::new();
    fs::write(token.path("pins"), "").unwrap();
    {
        let (pins, sessions) = daemon(&token);
        token.fail("login crash");
        let error = sessions.open().unwrap_err();
        assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
        assert_eq!(pins.states(), ["Unknown"], "a crash may have cost a try");
    }
    token.well();
    let (pins, sessions) = daemon(&token);
    stopped(&sessions, "the last result is Unknown");
    assert_eq!(token.count("login"), 1);
    pins.unlock();
    token.sign(&mut *open_in_time(&sessions)).unwrap();
    assert_eq!(token.count("login"), 2);
}

#[test]
fn a_login_that_hangs_is_unknown_and_ended() {
    let token = Token::new();
    token.fail("login hang");
    let mut spec = token.spec();
    // The start takes part of it.
    spec.start_deadline = std::time::Duration::from_secs(5);
    let pins = Arc::new(MemoryPins::default());
    let sidecars = Sidecars::with_program(program(), pins.clone());
    let sessions = sidecars.sessions("D1", &spec, token.key()).unwrap();
    let error = sessions.open().unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("no answer within 5000 ms"), "{error}");
    assert_eq!(pins.states(), ["Unknown"]);
    token.well();
    stopped(&sessions, "the last result is Unknown");
    assert_eq!(token.count("login"), 1);
}

#[test]
fn a_token_that_warns_is_not_asked() {
    for flags in ["0x10000", "0x20000", "0x40000"] {
        let token = Token::new();
        token.fail(&format!("info {flags}"));
        let (pins, sessions) = daemon(&token);
        stopped(&sessions, "nothing was presented");
        assert_eq!(token.count("login"), 0, "{flags}");
        assert!(pins.states().is_empty(), "{flags}");
    }
}

#[test]
fn a_pin_file_that_others_may_read_is_refused_and_a_mended_one_taken() {
    let token = Token::new();
    fs::set_permissions(token.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, sessions) = daemon(&token);
    let error = sessions.open().unwrap_err();
    assert!(matches!(error, SignerError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("chmod 600"), "{error}");
    assert_eq!(token.count("login"), 0);
    token.write_pin(PIN);
    token.sign(&mut *open_in_time(&sessions)).unwrap();
}
