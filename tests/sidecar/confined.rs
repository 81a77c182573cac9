//! What binds a sidecar process: its parent, its lock, its limits, and nothing of ours in reach of
//! the module.

use crate::{
    pins::MemoryPins,
    softhsm::PIN,
    token::{Token, open_in_time, program, wait_for},
};
use rustix::process::{Pid, Signal, kill_process};
use skproxy::signer::{
    SignerError,
    sidecar::{HardwareSpec, SidecarSessions, Sidecars},
};
use std::{
    env, fs,
    io::{self, Read as _},
    process::{Command, Stdio},
    sync::Arc,
};

fn sessions(token: &Token, spec: &HardwareSpec) -> SidecarSessions {
    let sidecars = Sidecars::with_program(program(), Arc::new(MemoryPins::default()));
    sidecars.sessions("D1", spec, token.key()).unwrap()
}

fn read(process: Pid, what: &str) -> io::Result<String> {
    let bytes = fs::read(format!("/proc/{}/{what}", process.as_raw_nonzero()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn a_sidecar_shows_no_pin_dumps_no_core_and_has_its_memory_bound() {
    let token = Token::new();
    let mut spec = token.spec();
    spec.memory_max_bytes = 200 << 20;
    let sessions = sessions(&token, &spec);
    let mut session = sessions.open().unwrap();
    token.sign(&mut *session).unwrap();
    let process = token.process();
    let arguments = read(process, "cmdline").unwrap();
    assert!(arguments.starts_with("skproxy\0sidecar\0"), "{arguments}");
    assert!(!arguments.contains(PIN));
    let limits = read(process, "limits").unwrap();
    let row = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("Max core file size")[..2], ["0", "0"]);
    let bytes = (200_u64 << 20).to_string();
    assert_eq!(row("Max data size")[..2], [bytes.clone(), bytes]);
}

#[test]
fn a_successor_starts_only_when_the_lock_is_free() {
    let token = Token::new();
    let first = sessions(&token, &token.spec());
    let session = first.open().unwrap();
    // Another daemon, or the same one after a restart while the old process hangs.
    let second = sessions(&token, &token.spec());
    let error = second.open().unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("another process uses this token"), "{error}");
    assert_eq!((token.count("load"), token.count("login")), (1, 1));
    drop((session, first));
    token.sign(&mut *open_in_time(&second)).unwrap();
    assert_eq!((token.count("load"), token.count("login")), (2, 2));
}

#[test]
fn signals_that_stop_the_daemon_do_not_stop_what_it_drains_through() {
    let token = Token::new();
    let sessions = sessions(&token, &token.spec());
    let mut session = sessions.open().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        kill_process(token.process(), signal).unwrap();
        token.sign(&mut *session).unwrap();
    }
    assert_eq!(token.count("load"), 1);
}

#[test]
fn a_sidecar_started_by_hand_says_what_it_is() {
    let output = Command::new(program())
        .args(["sidecar", "--lock", "/nonexistent/lock"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("started by `skproxy serve` only"), "{said}");
}

/// Set for the process that plays the daemon which is killed.
const VICTIM: &str = "TOKEN_TEST_VICTIM";

#[test]
fn a_sidecar_dies_with_its_daemon_even_when_it_is_stopped() {
    if env::var_os(VICTIM).is_some() {
        return daemon_that_is_killed();
    }
    for stop in [false, true] {
        let mut daemon = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("confined::a_sidecar_dies_with_its_daemon_even_when_it_is_stopped")
            .env(VICTIM, "1")
            .env("SKPROXY_PASSPHRASE", "of the daemon")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = daemon.stdout.take().unwrap();
        let mut said = String::new();
        let process = wait_for("the sidecar's number", || {
            let mut bytes = [0; 256];
            let len = output.read(&mut bytes).unwrap();
            said.push_str(&String::from_utf8_lossy(&bytes[..len]));
            let (_, rest) = said.split_once("sidecar ")?;
            let (number, _) = rest.split_once('.')?;
            Pid::from_raw(number.parse().unwrap())
        });
        // Only root may look into a process that cannot be dumped.
        if let Ok(environment) = read(process, "environ") {
            assert!(environment.contains("SOFTHSM2_CONF="), "{environment}");
            assert!(!environment.contains(PIN));
            assert!(!environment.contains("SKPROXY_"), "{environment}");
        }
        if stop {
            kill_process(process, Signal::STOP).unwrap();
        }
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        wait_for("the end of the sidecar", || ended(process).then_some(()));
    }
}

/// Gone, or dead and not yet reaped by whoever inherited it.
fn ended(process: Pid) -> bool {
    let status = read(process, "status").unwrap_or_default();
    status.is_empty() || status.lines().any(|line| line.starts_with("State:\tZ"))
}

fn daemon_that_is_killed() {
    let token = Token::new();
    let sessions = sessions(&token, &token.spec());
    let mut session = sessions.open().unwrap();
    token.sign(&mut *session).unwrap();
    println!("sidecar {}.", token.process().as_raw_nonzero());
    wait_for("the end of this process", || None::<()>);
}
