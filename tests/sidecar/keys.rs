//! Keys and sessions: what signs, what is counted, what is refused.

use crate::{
    pins::MemoryPins,
    softhsm::{PIN, library, softhsm},
    token::{Token, open_in_time, program, wait_for},
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, CertificateType, ObjectClass},
    session::UserType,
    types::AuthPin,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use skproxy::{
    clock,
    signer::{
        SignerError,
        sidecar::{KeyCheckError, Sidecars, TokenSelector},
    },
};
use std::{env, fs, path::Path, process::Command, sync::Arc, thread};

fn sidecars() -> Sidecars {
    Sidecars::with_program(program(), Arc::new(MemoryPins::default()))
}

#[test]
fn ten_thousand_signatures_over_four_sessions_verify_and_every_session_is_closed() {
    const EACH: u32 = 2_500;
    let token = Token::new();
    let recorder = PrometheusBuilder::new().build_recorder();
    let sidecars = metrics::with_local_recorder(&recorder, sidecars);
    let sessions = sidecars.sessions("D1", &token.spec(), token.key()).unwrap();
    let begin = clock::monotonic();
    let sign = || {
        let mut session = sessions.open().unwrap();
        let digests = (0..EACH).map(|_| clock::random::<32>());
        digests.map(|digest| (digest, session.sign(&digest).unwrap())).collect::<Vec<_>>()
    };
    let signed: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(sign)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let each = begin.elapsed() / EACH;
    println!("{} signatures; each of 4 sessions took {each:?} for one", signed.len());
    for (digest, raw) in &signed {
        token.verify(digest, raw);
    }
    let [stats] = &sidecars.stats()[..] else { panic!("one process runs") };
    assert_eq!((stats.sessions_opened, stats.sessions_closed), (4, 4));
    assert!((1 << 20..512 << 20).contains(&stats.resident_bytes), "{stats:?}");
    let measured = recorder.handle().render();
    for line in [
        r#"skproxy_signer_sidecar_sessions_opened_total{backend="pkcs11"} 4"#,
        r#"skproxy_signer_sidecar_sessions_closed_total{backend="pkcs11"} 4"#,
        r#"skproxy_signer_sidecar_restarts_total{backend="pkcs11"} 0"#,
        // Load, tries, login and stats; for each session its key, opening and closing.
        r#"skproxy_signer_sidecar_calls_total{backend="pkcs11"} 10016"#,
    ] {
        assert!(measured.contains(line), "{line} is missing in\n{measured}");
    }
    assert_eq!(token.count("login"), 1);
    assert_eq!((token.count("open"), token.count("close")), (5, 4), "one holds the login");
    let process = token.process();
    drop(sessions);
    wait_for("the end of the process", || rustix::process::test_kill_process(process).err());
    assert_eq!((token.count("open"), token.count("close")), (5, 5));
    assert_eq!(token.count("load"), 1);
}

#[test]
fn a_wrong_label_is_refused_and_costs_neither_process_nor_login() {
    let token = Token::new();
    let sidecars = sidecars();
    let mut wrong = token.key();
    wrong.label = "voice".into();
    let wrong = sidecars.sessions("D1", &token.spec(), wrong).unwrap();
    for _ in 0..2 {
        let error = wrong.open().unwrap_err();
        assert!(matches!(error, SignerError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("labelled \"voice\""), "{error}");
    }
    let right = sidecars.sessions("D2", &token.spec(), token.key()).unwrap();
    token.sign(&mut *right.open().unwrap()).unwrap();
    assert_eq!((token.count("load"), token.count("login")), (1, 1));
}

#[test]
fn a_key_that_is_not_the_registered_one_is_told_apart_and_never_signs() {
    let token = Token::new();
    let sidecars = sidecars();
    let other = token.import("other", "02", &[]).public_key().to_public_key_der().unwrap();
    let mut contradicted = token.key();
    contradicted.label = "other".into();
    let sessions = sidecars.sessions("D1", &token.spec(), contradicted.clone()).unwrap();
    let check = sessions.check().unwrap_err();
    assert!(matches!(check, KeyCheckError::Contradicts { .. }), "{check}");
    let error = sessions.open().unwrap_err();
    assert!(matches!(error, SignerError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("a contradicting key"), "{error}");
    assert_eq!((token.count("open"), token.count("close")), (1, 0), "no session was opened");

    let found = sidecars.bind("D1", &token.spec(), "other").unwrap();
    assert_eq!(found.public_key, other.as_bytes());
    contradicted.public_key = found.public_key;
    sidecars.sessions("D1", &token.spec(), contradicted).unwrap().check().unwrap();
    sidecars.sessions("D2", &token.spec(), token.key()).unwrap().check().unwrap();
}

#[test]
fn a_private_key_without_a_public_one_and_twins_of_one_label_are_refused() {
    let token = Token::new();
    token.import("alone", "03", &["--no-public-key"]);
    token.import("twin", "04", &[]);
    token.import("twin", "05", &[]);
    let sidecars = sidecars();
    for (label, expect) in [("alone", "neither public key nor certificate"), ("twin", "2 private")]
    {
        let error = sidecars.bind("D1", &token.spec(), label).unwrap_err();
        assert!(matches!(error, SignerError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
    }
}

/// Set for the process that puts a certificate into a token: SoftHSM finds its settings in the
/// environment, which a test must not change for all others.
const CERTIFIER: &str = "TOKEN_TEST_CERTIFICATE";

#[test]
fn a_certificate_stands_in_for_a_missing_public_key() {
    if let Some(certificate) = env::var_os(CERTIFIER) {
        return put_certificate(&fs::read(certificate).unwrap());
    }
    let token = Token::new();
    let key = token.import("certified", "06", &["--no-public-key"]);
    let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
    let pair = rcgen::KeyPair::from_pem(&pem).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["token.example".into()]).unwrap();
    fs::write(token.path("certificate"), parameters.self_signed(&pair).unwrap().der()).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "keys::a_certificate_stands_in_for_a_missing_public_key"])
        .env(CERTIFIER, token.path("certificate"))
        .env("SOFTHSM2_CONF", token.path("softhsm2.conf"))
        .status()
        .unwrap();
    assert!(status.success());
    let found = sidecars().bind("D1", &token.spec(), "certified").unwrap();
    assert_eq!(found.public_key, key.public_key().to_public_key_der().unwrap().as_bytes());
}

fn put_certificate(certificate: &[u8]) {
    let library = Pkcs11::new(softhsm()).unwrap();
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = library.get_slots_with_initialized_token().unwrap()[0];
    let session = library.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned()))).unwrap();
    let template = [
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Id(vec![6]),
        Attribute::Subject(Vec::new()),
        Attribute::Value(certificate.to_vec()),
    ];
    session.create_object(&template).unwrap();
}

#[test]
fn a_reached_session_limit_is_a_wait_whoever_sets_it() {
    let token = Token::new();
    let mut spec = token.spec();
    spec.sessions_max = 2;
    let sessions = sidecars().sessions("D1", &spec, token.key()).unwrap();
    let (mut one, two) = (sessions.open().unwrap(), sessions.open().unwrap());
    let full = sessions.open().unwrap_err();
    assert!(matches!(full, SignerError::Unavailable { .. }), "{full}");
    drop(two);
    token.sign(&mut *sessions.open().unwrap()).unwrap();
    token.fail("open 0xB1");
    let full = sessions.open().unwrap_err();
    assert!(matches!(full, SignerError::Unavailable { .. }), "{full}");
    assert!(full.to_string().contains("CKR_SESSION_COUNT"), "{full}");
    token.sign(&mut *one).unwrap();
    token.well();
    token.sign(&mut *open_in_time(&sessions)).unwrap();
    assert_eq!(token.count("load"), 1);
}

#[test]
fn one_token_has_one_process_and_one_set_of_bounds() {
    let token = Token::new();
    let sidecars = sidecars();
    let first = sidecars.sessions("D1", &token.spec(), token.key()).unwrap();
    let second = sidecars.sessions("D2", &token.spec(), token.key()).unwrap();
    for sessions in [&first, &second] {
        token.sign(&mut *sessions.open().unwrap()).unwrap();
    }
    assert_eq!((token.count("load"), token.count("login")), (1, 1));
    let mut other = token.spec();
    other.sessions_max += 1;
    let refused = sidecars.sessions("D3", &other, token.key()).unwrap_err();
    assert!(refused.to_string().contains("give both the same"), "{refused}");
    // Once nobody uses the old ones, new bounds hold.
    drop((first, second));
    let third = sidecars.sessions("D3", &other, token.key()).unwrap();
    token.sign(&mut *open_in_time(&third)).unwrap();
}

#[test]
fn a_module_or_token_that_is_not_there_says_so() {
    let token = Token::new();
    let sidecars = sidecars();
    let mut missing = token.spec();
    missing.module.module = "/nonexistent/module.so".into();
    let mut no_module = token.spec();
    no_module.module.module = token.path("empty.so");
    library(Path::new("/dev/null"), &no_module.module.module);
    let mut other_token = token.spec();
    other_token.module.token = TokenSelector::Pkcs11 { label: "other".into(), serial: None };
    let mut other_serial = token.spec();
    let serial = Some("0000".to_owned());
    other_serial.module.token =
        TokenSelector::Pkcs11 { label: crate::softhsm::LABEL.into(), serial };
    for (spec, refused, expect) in [
        (&missing, true, "/nonexistent/module.so"),
        (&no_module, true, "C_GetFunctionList"),
        (&other_token, false, "no token labelled \"other\""),
        (&other_serial, false, "no token labelled"),
    ] {
        let error = sidecars.bind("D1", spec, "invoice").unwrap_err();
        assert_eq!(matches!(error, SignerError::Refused { .. }), refused, "{error}");
        assert_eq!(matches!(error, SignerError::Unavailable { .. }), !refused, "{error}");
        assert!(error.to_string().contains(expect), "{error}");
    }
    assert_eq!(token.count("login"), 0);
}
