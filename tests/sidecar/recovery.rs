//! Everything that breaks heals by itself, and what comes back meanwhile verifies.

use crate::{
    pins::MemoryPins,
    token::{Token, open_in_time, program, wait_for},
};
use rustix::process::{Signal, kill_process};
use skproxy::{
    clock,
    signer::{
        SignerError,
        sidecar::{HardwareSpec, SidecarSessions, Sidecars},
    },
};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

fn sessions(token: &Token, spec: &HardwareSpec) -> SidecarSessions {
    let sidecars = Sidecars::with_program(program(), Arc::new(MemoryPins::default()));
    sidecars.sessions("D1", spec, token.key()).unwrap()
}

#[test]
fn a_token_that_was_removed_and_restored_signs_again() {
    let token = Token::new();
    let sessions = sessions(&token, &token.spec());
    let mut session = sessions.open().unwrap();
    token.sign(&mut *session).unwrap();

    fs::rename(token.path("tokens"), token.path("away")).unwrap();
    fs::create_dir(token.path("tokens")).unwrap();
    let lost = wait_for("the loss", || token.sign(&mut *session).err());
    assert!(matches!(lost, SignerError::SessionLost { .. }), "{lost}");
    drop(session);
    // The library believes in its token until it is loaded anew.
    wait_for("the token's absence to be told", || {
        let error = sessions.open().and_then(|mut session| token.sign(&mut *session)).err()?;
        error.to_string().contains("no token labelled").then_some(())
    });
    let error = sessions.open().unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");

    fs::remove_dir(token.path("tokens")).unwrap();
    fs::rename(token.path("away"), token.path("tokens")).unwrap();
    let begin = clock::monotonic();
    token.sign(&mut *open_in_time(&sessions)).unwrap();
    println!("recovered {:?} after the token was back", begin.elapsed());
}

/// What each code at a signature becomes, and whether the device goes on afterwards.
#[test]
fn each_class_of_codes_ends_as_the_pool_needs_it() {
    let token = Token::new();
    let sessions = sessions(&token, &token.spec());
    for (code, class) in [
        ("0x31", "unavailable"),
        ("0x70", "refused"),
        ("0xA4", "pin"),
        ("0xB3", "lost"),
        ("0x82", "lost"),
        ("0x05", "lost"),
        ("0x101", "lost"),
        ("0x80000001", "lost"),
    ] {
        let mut session = open_in_time(&sessions);
        token.sign(&mut *session).unwrap();
        token.fail(&format!("sign {code}"));
        let error = token.sign(&mut *session).unwrap_err();
        token.well();
        let found = match &error {
            SignerError::Unavailable { .. } => "unavailable",
            SignerError::Refused { .. } => "refused",
            SignerError::Pin { .. } => "pin",
            SignerError::SessionLost { .. } => "lost",
            SignerError::InDoubt { .. } | SignerError::AnswerInvalid { .. } => "other",
        };
        assert_eq!(found, class, "{error}");
        drop(session);
        token.sign(&mut *open_in_time(&sessions)).unwrap();
    }
    assert_eq!(token.count("load"), 1, "one lost session does not condemn the process");
}

#[test]
fn sessions_that_are_lost_at_once_condemn_their_process() {
    let token = Token::new();
    let sessions = sessions(&token, &token.spec());
    let mut old = sessions.open().unwrap();
    token.sign(&mut *old).unwrap();
    token.fail("sign 0x05");
    assert!(matches!(token.sign(&mut *old).unwrap_err(), SignerError::SessionLost { .. }));
    let mut new = sessions.open().unwrap();
    assert!(matches!(token.sign(&mut *new).unwrap_err(), SignerError::SessionLost { .. }));
    token.well();
    drop((old, new));
    token.sign(&mut *open_in_time(&sessions)).unwrap();
    assert_eq!(token.count("load"), 2);
}

#[test]
fn a_key_that_is_missed_after_a_loss_condemns_the_process_before_the_label() {
    let token = Token::new();
    let sidecars = Sidecars::with_program(program(), Arc::new(MemoryPins::default()));
    let right = sidecars.sessions("D1", &token.spec(), token.key()).unwrap();
    let mut wrong = token.key();
    wrong.label = "voice".into();
    let wrong = sidecars.sessions("D2", &token.spec(), wrong).unwrap();
    let mut session = right.open().unwrap();
    token.sign(&mut *session).unwrap();
    token.fail("sign 0x101");
    assert!(matches!(token.sign(&mut *session).unwrap_err(), SignerError::SessionLost { .. }));
    token.well();
    // A token without a login hides its keys: another process and login will tell.
    let error = wrong.open().unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
    let error = wait_for("the label's verdict", || match wrong.open() {
        Err(SignerError::Unavailable { .. }) => None,
        answer => answer.err(),
    });
    assert!(matches!(error, SignerError::Refused { .. }), "{error}");
    assert_eq!((token.count("load"), token.count("login")), (2, 2));
}

#[test]
fn a_module_that_crashes_or_hangs_costs_its_process_and_nothing_else() {
    for (fault, expect) in [("crash", "ended"), ("hang", "no answer within 3000 ms")] {
        let token = Token::new();
        let mut spec = token.spec();
        if fault == "hang" {
            spec.call_deadline = Duration::from_secs(3);
        }
        let sessions = sessions(&token, &spec);
        let (mut one, mut two) = (sessions.open().unwrap(), sessions.open().unwrap());
        token.sign(&mut *two).unwrap();
        token.fail(&format!("sign {fault}"));
        let error = token.sign(&mut *one).unwrap_err();
        assert!(matches!(error, SignerError::SessionLost { .. }), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
        token.well();
        let error = token.sign(&mut *two).unwrap_err();
        assert!(matches!(error, SignerError::SessionLost { .. }), "its generation ended: {error}");
        drop((one, two));
        token.sign(&mut *open_in_time(&sessions)).unwrap();
    }
}

#[test]
fn a_module_that_leaks_is_ended_by_its_memory_bound_and_starts_anew() {
    let token = Token::new();
    let mut spec = token.spec();
    spec.memory_max_bytes = 128 << 20;
    let sessions = sessions(&token, &spec);
    let mut session = sessions.open().unwrap();
    token.sign(&mut *session).unwrap();
    let first = token.process();
    token.fail("sign leak");
    let signed = AtomicUsize::new(0);
    let error = wait_for("the bound", || match token.sign(&mut *session) {
        Ok(()) => {
            signed.fetch_add(1, Ordering::Relaxed);
            None
        }
        Err(error) => Some(error),
    });
    let signed = signed.into_inner();
    assert!(matches!(error, SignerError::SessionLost { .. }), "{error}");
    assert!((4..16).contains(&signed), "128 MiB end after {signed} leaks of 8 MiB");
    // The memory is still lost for the next session, which condemns the process.
    drop(session);
    wait_for("another process", || {
        if let Ok(mut session) = sessions.open() {
            drop(token.sign(&mut *session));
        }
        (token.process() != first).then_some(())
    });
    token.well();
    token.sign(&mut *open_in_time(&sessions)).unwrap();
}

#[test]
fn a_module_that_crashes_when_it_is_loaded_is_tried_again_with_growing_pauses() {
    let token = Token::new();
    token.fail("load crash");
    let sessions = sessions(&token, &token.spec());
    let begin = clock::monotonic();
    let error = sessions.open().unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
    assert_eq!(token.count("load"), 1);
    let mut paused = 0;
    wait_for("three more starts, and a pause", || {
        let loads = token.count("load");
        let error = sessions.open().map(drop).unwrap_err();
        assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
        if error.to_string().contains("started again in") {
            paused += 1;
            assert_eq!(token.count("load"), loads, "a pause starts nothing");
        }
        (token.count("load") >= 4 && paused > 0).then_some(())
    });
    assert!(begin.elapsed() >= Duration::from_millis(700), "100, 200 and 400 ms of pauses");
    token.well();
    token.sign(&mut *open_in_time(&sessions)).unwrap();
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap();
        mixed % limit
    }
}

/// Signs until told to end; every signature that comes back is verified.
fn load(token: &Token, sessions: &SidecarSessions, signed: &AtomicUsize, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let mut session = open_in_time(sessions);
        while !end.load(Ordering::Relaxed) {
            match token.sign(&mut *session) {
                Ok(()) => {
                    signed.fetch_add(1, Ordering::Relaxed);
                }
                Err(SignerError::SessionLost { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn killed_and_hung_at_random_under_load_every_signature_verifies_and_signing_resumes() {
    const BLOWS: usize = 6;
    let token = Token::new();
    let mut spec = token.spec();
    // What a hung process is given. One that works never takes so long, or it would be one blow
    // more.
    spec.call_deadline = Duration::from_secs(5);
    let sessions = sessions(&token, &spec);
    let (signed, end) = (AtomicUsize::new(0), AtomicBool::new(false));
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut recoveries = Vec::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(&token, &sessions, &signed, &end));
        }
        for blow in 0..BLOWS {
            let until = signed.load(Ordering::Relaxed) + 50 + random.below(200);
            wait_for("signatures", || (signed.load(Ordering::Relaxed) >= until).then_some(()));
            let signal = if random.below(2) == 0 { Signal::KILL } else { Signal::STOP };
            let process = token.process();
            kill_process(process, signal).unwrap();
            let begin = clock::monotonic();
            wait_for("the end of the process", || {
                rustix::process::test_kill_process(process).err()
            });
            let before = signed.load(Ordering::Relaxed);
            wait_for("a signature", || (signed.load(Ordering::Relaxed) > before).then_some(()));
            recoveries.push((blow, signal == Signal::KILL, begin.elapsed()));
        }
        end.store(true, Ordering::Relaxed);
    });
    for (blow, killed, after) in &recoveries {
        let how = if *killed { "SIGKILL" } else { "SIGSTOP" };
        println!("blow {blow}: {how}, the next signature after {after:?}");
    }
    assert_eq!(token.count("load"), BLOWS + 1);
    assert_eq!(token.count("login"), BLOWS + 1, "once in each process");
    println!("{} signatures, all verified", signed.into_inner());
}
