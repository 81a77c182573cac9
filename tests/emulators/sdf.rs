//! A crypto machine's SDF library (GM/T 0018) for tests, with faults: see `shared`.
//!
//! Keys 1 to 3, manufacturer `Emulator`. With a `pin`, a session signs with a key only after its
//! access right was acquired on that session.

#![expect(unsafe_code, reason = "is called by C, with pointers")]

mod shared;

use shared::{Control, Handles, call};
use std::{
    ffi::c_void,
    ptr, slice,
    sync::{Mutex, PoisonError},
};

const OK: u32 = 0;
const COMM_FAIL: u32 = 0x0100_0003;
const OPEN_SESSION: u32 = 0x0100_0006;
const NO_RIGHT: u32 = 0x0100_0007;
const NO_KEY: u32 = 0x0100_0008;
const SIGN_ERROR: u32 = 0x0100_000D;
const RIGHT_ERROR: u32 = 0x0100_0018;
const BAD_ARGUMENT: u32 = 0x0100_001D;

type Pointer = *mut c_void;

static HANDLES: Handles = Handles::new();
/// Sessions with the key that they have the right to.
static RIGHTS: Mutex<Vec<(usize, u32)>> = Mutex::new(Vec::new());

fn rights<T>(act: impl FnOnce(&mut Vec<(usize, u32)>) -> T) -> T {
    act(&mut RIGHTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes an answer of the library.
fn give<T>(place: *mut T, value: T) -> u32 {
    if place.is_null() {
        return BAD_ARGUMENT;
    }
    // SAFETY: the caller's place for an answer, by contract of the standard.
    unsafe { place.write_unaligned(value) };
    OK
}

/// Writes bytes of an answer.
fn give_bytes(place: *mut u8, bytes: &[u8]) -> u32 {
    if place.is_null() {
        return BAD_ARGUMENT;
    }
    // SAFETY: the caller's place for a struct at least this long, by contract of the standard.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    OK
}

/// Bytes that the caller passed.
fn taken(place: *const u8, len: u32) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(0);
    if place.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's buffer of that length, by contract of the standard.
    unsafe { slice::from_raw_parts(place, len) }.to_vec()
}

fn with(
    kind: &'static str,
    handle: Pointer,
    control: &Control,
    act: impl FnOnce(usize) -> u32,
) -> u32 {
    match HANDLES.find(kind, handle.addr(), control) {
        Ok(handle) => act(handle.id),
        Err(true) => COMM_FAIL,
        Err(false) => BAD_ARGUMENT,
    }
}

fn has_key(index: u32, control: &Control) -> bool {
    (1..=control.number("keys", 3)).contains(&index)
}

#[unsafe(export_name = "SDF_OpenDevice")]
extern "C" fn open_device(place: *mut Pointer) -> u32 {
    call("SDF_OpenDevice", |control| {
        give(place, ptr::without_provenance_mut(HANDLES.open("device", "", control)))
    })
}

#[unsafe(export_name = "SDF_CloseDevice")]
extern "C" fn close_device(device: Pointer) -> u32 {
    call(
        "SDF_CloseDevice",
        |_| {
            if HANDLES.close("device", device.addr()) { OK } else { BAD_ARGUMENT }
        },
    )
}

#[unsafe(export_name = "SDF_OpenSession")]
extern "C" fn open_session(device: Pointer, place: *mut Pointer) -> u32 {
    call("SDF_OpenSession", |control| {
        with("device", device, control, |_| {
            if HANDLES.count("session") >= control.number("sessions", u32::MAX) {
                return OPEN_SESSION;
            }
            give(place, ptr::without_provenance_mut(HANDLES.open("session", "", control)))
        })
    })
}

#[unsafe(export_name = "SDF_CloseSession")]
extern "C" fn close_session(session: Pointer) -> u32 {
    call("SDF_CloseSession", |_| {
        rights(|rights| rights.retain(|(id, _)| *id != session.addr()));
        if HANDLES.close("session", session.addr()) { OK } else { BAD_ARGUMENT }
    })
}

#[unsafe(export_name = "SDF_GetDeviceInfo")]
extern "C" fn device_info(session: Pointer, place: *mut u8) -> u32 {
    call("SDF_GetDeviceInfo", |control| {
        with("session", session, control, |_| {
            let mut info = [0; 100];
            let serial = control.text("serial").unwrap_or("2026010100100001").as_bytes();
            info[..8].copy_from_slice(b"Emulator");
            info[40..43].copy_from_slice(b"SDF");
            info[56..56 + serial.len().min(16)].copy_from_slice(&serial[..serial.len().min(16)]);
            give_bytes(place, &info)
        })
    })
}

#[unsafe(export_name = "SDF_GetPrivateKeyAccessRight")]
extern "C" fn acquire_right(session: Pointer, key: u32, password: *const u8, len: u32) -> u32 {
    call("SDF_GetPrivateKeyAccessRight", |control| {
        with("session", session, control, |session| {
            if !has_key(key, control) {
                return NO_KEY;
            }
            if control.text("pin").is_some_and(|pin| pin.as_bytes() != taken(password, len)) {
                return RIGHT_ERROR;
            }
            rights(|rights| rights.push((session, key)));
            OK
        })
    })
}

#[unsafe(export_name = "SDF_ReleasePrivateKeyAccessRight")]
extern "C" fn release_right(session: Pointer, key: u32) -> u32 {
    call("SDF_ReleasePrivateKeyAccessRight", |control| {
        with("session", session, control, |session| {
            rights(|rights| rights.retain(|right| *right != (session, key)));
            OK
        })
    })
}

#[unsafe(export_name = "SDF_ExportSignPublicKey_ECC")]
extern "C" fn export_key(session: Pointer, index: u32, place: *mut u8) -> u32 {
    call("SDF_ExportSignPublicKey_ECC", |control| {
        with("session", session, control, |_| match shared::key(&index.to_string()) {
            Some(key) if has_key(index, control) => {
                let blob = [&256_u32.to_ne_bytes()[..], &shared::point(&key, control)].concat();
                give_bytes(place, &blob)
            }
            _ => NO_KEY,
        })
    })
}

#[unsafe(export_name = "SDF_InternalSign_ECC")]
extern "C" fn sign(session: Pointer, key: u32, digest: *const u8, len: u32, place: *mut u8) -> u32 {
    call("SDF_InternalSign_ECC", |control| {
        with("session", session, control, |session| {
            if !has_key(key, control) {
                return NO_KEY;
            }
            let may = control.text("pin").is_none() || rights(|all| all.contains(&(session, key)));
            if !may {
                return NO_RIGHT;
            }
            match shared::sign(&key.to_string(), &taken(digest, len), control) {
                Some(signature) => give_bytes(place, &signature),
                None => SIGN_ERROR,
            }
        })
    })
}
