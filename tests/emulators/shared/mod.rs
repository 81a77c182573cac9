//! What both emulators share: the control file, faults, the log of calls, SM2 keys.
//!
//! A library reads `<its own path>.control` at each call, so that every copy of it is a machine of
//! its own. A line is a word and its values; see `Control`. Each call is appended to
//! `<path>.calls`: its name when it begins, name and code when it answers.

use sm2::{
    dsa::{SigningKey, signature::hazmat::PrehashSigner as _},
    elliptic_curve::sec1::ToSec1Point as _,
};
use sm3::{Digest as _, Sm3};
use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

/// Faults and settings, one a line:
///
/// ```text
/// answer FUNCTION CODE      the function answers so and does nothing
/// hang FUNCTION             it does not answer while the line is there
/// crash FUNCTION            it aborts the process
/// lose FUNCTION             it does what is asked, and aborts the process before it answers
/// latency_ms FUNCTION N     it takes so long
/// leak FUNCTION BYTES       it never frees so much
/// wrong_key                 signs with another key than it exports
/// garbage                   signs with nothing
/// pin TEXT                  password or PIN
/// tries N                   tries of a PIN (SKF)
/// sessions N                sessions (SDF) or containers (SKF) open at a time
/// keys N                    keys 1 to N (SDF)
/// containers A,B,…          containers (SKF)
/// serial TEXT               of the machine or key
/// plug N                    handles of another N are dead
/// absent                    unplugged (SKF)
/// narrow                    built for 256 bits: fields of 32 bytes
/// ulong8                    ULONG has 64 bits (SKF)
/// ```
pub(crate) struct Control(Vec<Vec<String>>);

impl Control {
    fn read() -> Self {
        let text = fs::read_to_string(beside("control")).unwrap_or_default();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        Self(text.lines().map(words).collect())
    }

    /// The value of a setting.
    pub(crate) fn text(&self, word: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|line| line.first().is_some_and(|first| first == word))?
            .get(1)
            .map(|s| &**s)
    }

    /// The value of a setting, in decimal or with `0x`.
    pub(crate) fn number(&self, word: &str, otherwise: u32) -> u32 {
        self.text(word).and_then(number).unwrap_or(otherwise)
    }

    /// Whether a word without value is set.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.0.iter().any(|line| line.first().is_some_and(|first| first == word))
    }

    fn of(&self, word: &str, function: &str) -> Option<u32> {
        let line = self.0.iter().find(|line| line.starts_with(&[word.into(), function.into()]))?;
        Some(line.get(2).and_then(|text| number(text)).unwrap_or(0))
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A call of the library: logs it, lets faults have their way, and does it.
pub(crate) fn call(function: &str, act: impl FnOnce(&Control) -> u32) -> u32 {
    log(function);
    let mut control = Control::read();
    while control.of("hang", function).is_some() {
        thread::sleep(Duration::from_millis(2));
        control = Control::read();
    }
    if let Some(milliseconds) = control.of("latency_ms", function) {
        thread::sleep(Duration::from_millis(milliseconds.into()));
    }
    if control.of("crash", function).is_some() {
        std::process::abort();
    }
    if let Some(bytes) = control.of("leak", function) {
        // Filled, so that the memory is really taken.
        std::mem::forget(vec![1_u8; usize::try_from(bytes).unwrap_or(0)]);
    }
    let code = control.of("answer", function).unwrap_or_else(|| act(&control));
    if control.of("lose", function).is_some() {
        log(&format!("{function} lost"));
        std::process::abort();
    }
    log(&format!("{function} {code:#x}"));
    code
}

fn log(line: &str) {
    let file = fs::OpenOptions::new().create(true).append(true).open(beside("calls"));
    if let Ok(mut file) = file {
        // One write a line, so that lines of several threads do not mix.
        let _written = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// A file beside this library.
pub(crate) fn beside(extension: &str) -> PathBuf {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    PathBuf::from(format!("{}.{extension}", LIBRARY.get_or_init(own_path)))
}

/// Where this library was loaded from: the mapping in which its own data lies.
fn own_path() -> String {
    static MARK: u8 = 0;
    let address = std::ptr::from_ref(&MARK).addr();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = maps.lines().find_map(|line| {
        let (start, rest) = line.split_once('-')?;
        let (end, rest) = rest.split_once(' ')?;
        let bound = |text| usize::from_str_radix(text, 16).ok();
        let is_own = (bound(start)?..bound(end)?).contains(&address);
        rest.find('/').filter(|_| is_own).map(|at| rest[at..].to_owned())
    });
    path.unwrap_or_else(|| "/dev/null/no-library".to_owned())
}

/// A key by its name.
pub(crate) fn key(name: &str) -> Option<SigningKey> {
    let scalar = Sm3::digest(format!("emulated {name}"));
    let secret = sm2::SecretKey::from_slice(&scalar).ok()?;
    SigningKey::new("1234567812345678", &secret).ok()
}

/// Coordinates of a key's point in two fields.
pub(crate) fn point(key: &SigningKey, control: &Control) -> Vec<u8> {
    let point = key.verifying_key().as_affine().to_sec1_point(false);
    fields(&point.as_bytes()[1..], control)
}

/// r and s of a signature over a digest, in two fields. `None` when the digest is none.
pub(crate) fn sign(name: &str, digest: &[u8], control: &Control) -> Option<Vec<u8>> {
    if control.has("garbage") {
        return Some(vec![0xA5; 128]);
    }
    let signer = if control.has("wrong_key") { key(&format!("not {name}")) } else { key(name) };
    let signature: sm2::dsa::Signature = signer?.sign_prehash(digest).ok()?;
    Some(fields(&signature.to_bytes(), control))
}

fn fields(pair: &[u8], control: &Control) -> Vec<u8> {
    if control.has("narrow") {
        return pair.to_vec();
    }
    [&[0; 32], &pair[..32], &[0; 32], &pair[32..]].concat()
}

/// What a handle stands for, with the `plug` under which it was given out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    /// The handle.
    pub(crate) id: usize,
    /// What it is of.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: String,
    plug: u32,
}

/// Handles that are open.
pub(crate) struct Handles(Mutex<(usize, Vec<Handle>)>);

impl Handles {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new((0, Vec::new())))
    }

    fn open_ones(&self) -> MutexGuard<'_, (usize, Vec<Handle>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a handle out. Never one that was given out before.
    pub(crate) fn open(&self, kind: &'static str, name: &str, control: &Control) -> usize {
        let mut handles = self.open_ones();
        handles.0 += 16;
        let id = handles.0;
        let (name, plug) = (name.to_owned(), control.number("plug", 0));
        handles.1.push(Handle { id, kind, name, plug });
        id
    }

    /// Takes a handle back; whether it was open.
    pub(crate) fn close(&self, kind: &'static str, id: usize) -> bool {
        let mut handles = self.open_ones();
        let before = handles.1.len();
        handles.1.retain(|handle| (handle.kind, handle.id) != (kind, id));
        handles.1.len() < before
    }

    /// An open handle; `Err` tells whether it was of an earlier plug.
    pub(crate) fn find(
        &self,
        kind: &'static str,
        id: usize,
        control: &Control,
    ) -> Result<Handle, bool> {
        let handles = self.open_ones();
        let found = handles.1.iter().find(|handle| (handle.kind, handle.id) == (kind, id));
        match found {
            Some(handle) if handle.plug == control.number("plug", 0) => Ok(handle.clone()),
            Some(_) => Err(true),
            None => Err(false),
        }
    }

    /// How many of a kind are open.
    pub(crate) fn count(&self, kind: &'static str) -> u32 {
        let count = self.open_ones().1.iter().filter(|handle| handle.kind == kind).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}
