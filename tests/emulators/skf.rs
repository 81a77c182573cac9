//! A key's SKF library (GM/T 0016) for tests, with faults: see `shared`.
//!
//! Device `EMU-1`, application `TAX`, containers `KEY-1` to `KEY-3`. The PIN's tries are kept in
//! `<path>.tries`, as a key keeps them: they survive the process.

#![expect(unsafe_code, reason = "is called by C, with pointers")]

mod shared;

use shared::{Control, Handle, Handles, beside, call};
use std::{
    ffi::{CStr, c_char, c_void},
    fs, ptr, slice,
    sync::Mutex,
};

const OK: u32 = 0;
const FAIL: u32 = 0x0A00_0001;
const BAD_HANDLE: u32 = 0x0A00_0005;
const BAD_ARGUMENT: u32 = 0x0A00_0006;
const BAD_LENGTH: u32 = 0x0A00_0010;
const NO_MEMORY: u32 = 0x0A00_000E;
const NO_KEY: u32 = 0x0A00_001B;
const TOO_SMALL: u32 = 0x0A00_0020;
const REMOVED: u32 = 0x0A00_0023;
const PIN_INCORRECT: u32 = 0x0A00_0024;
const PIN_LOCKED: u32 = 0x0A00_0025;
const NOT_LOGGED_IN: u32 = 0x0A00_002D;
const NO_APPLICATION: u32 = 0x0A00_002E;

type Pointer = *mut c_void;

static HANDLES: Handles = Handles::new();
/// The application handle that is logged in.
static LOGGED_IN: Mutex<Option<usize>> = Mutex::new(None);

/// Writes a ULONG, of 32 bits or of what the build has.
fn give_ulong(place: *mut u8, value: u32, control: &Control) -> u32 {
    let wide = u64::from(value).to_ne_bytes();
    give_bytes(place, if control.has("ulong8") { &wide } else { &wide[..4] })
}

/// Reads a ULONG that is in and out.
fn read_ulong(place: *const u8, control: &Control) -> u64 {
    if place.is_null() {
        return 0;
    }
    let len = if control.has("ulong8") { 8 } else { 4 };
    let mut wide = [0; 8];
    // SAFETY: the caller's ULONG of this build, by contract of the standard.
    wide[..len].copy_from_slice(unsafe { slice::from_raw_parts(place, len) });
    u64::from_ne_bytes(wide)
}

/// Writes bytes of an answer.
fn give_bytes(place: *mut u8, bytes: &[u8]) -> u32 {
    if place.is_null() {
        return BAD_ARGUMENT;
    }
    // SAFETY: the caller's place for an answer at least this long, by contract of the standard.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    OK
}

/// Writes bytes of an answer that has a length of its own: in, the room; out, what it takes.
fn give_sized(place: *mut u8, len: *mut u8, bytes: &[u8], control: &Control) -> u32 {
    let room = read_ulong(len, control);
    let needed = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if give_ulong(len, needed, control) != OK {
        return BAD_ARGUMENT;
    }
    match place.is_null() {
        true => OK,
        false if u64::from(needed) > room => TOO_SMALL,
        false => give_bytes(place, bytes),
    }
}

fn give_handle(place: *mut Pointer, id: usize) -> u32 {
    give_bytes(place.cast(), &id.to_ne_bytes())
}

fn give_names(place: *mut u8, len: *mut u8, names: &[&str], control: &Control) -> u32 {
    let list: String = names.iter().map(|name| format!("{name}\0")).chain(["\0".into()]).collect();
    give_sized(place, len, list.as_bytes(), control)
}

/// Text that the caller passed.
fn taken(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's C string, by contract of the standard.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn with(
    kind: &'static str,
    handle: Pointer,
    control: &Control,
    act: impl FnOnce(Handle) -> u32,
) -> u32 {
    match HANDLES.find(kind, handle.addr(), control) {
        Ok(_) | Err(true) if control.has("absent") => REMOVED,
        Ok(handle) => act(handle),
        Err(true) => REMOVED,
        Err(false) => BAD_HANDLE,
    }
}

fn containers(control: &Control) -> Vec<&str> {
    control.text("containers").unwrap_or("KEY-1,KEY-2,KEY-3").split(',').collect()
}

fn tries(control: &Control) -> u32 {
    let kept = fs::read_to_string(beside("tries")).ok().and_then(|text| text.parse().ok());
    kept.unwrap_or_else(|| control.number("tries", 6))
}

fn log(application: Option<usize>) {
    if let Ok(mut logged_in) = LOGGED_IN.lock() {
        *logged_in = application;
    }
}

fn is_logged_in(control: &Control) -> bool {
    let application = LOGGED_IN.lock().ok().and_then(|logged_in| *logged_in);
    application.is_some_and(|id| HANDLES.find("application", id, control).is_ok())
}

#[unsafe(export_name = "SKF_EnumDev")]
extern "C" fn enum_devices(_present: u32, place: *mut u8, len: *mut u8) -> u32 {
    call("SKF_EnumDev", |control| {
        let names: &[&str] = if control.has("absent") { &[] } else { &["EMU-1"] };
        give_names(place, len, names, control)
    })
}

#[unsafe(export_name = "SKF_GetDevState")]
extern "C" fn device_state(_name: *const c_char, place: *mut u8) -> u32 {
    call("SKF_GetDevState", |control| give_ulong(place, u32::from(!control.has("absent")), control))
}

#[unsafe(export_name = "SKF_ConnectDev")]
extern "C" fn connect(name: *const c_char, place: *mut Pointer) -> u32 {
    call("SKF_ConnectDev", |control| {
        if control.has("absent") || taken(name) != "EMU-1" {
            return REMOVED;
        }
        give_handle(place, HANDLES.open("device", "EMU-1", control))
    })
}

#[unsafe(export_name = "SKF_DisConnectDev")]
extern "C" fn disconnect(device: Pointer) -> u32 {
    call(
        "SKF_DisConnectDev",
        |_| {
            if HANDLES.close("device", device.addr()) { OK } else { BAD_HANDLE }
        },
    )
}

#[unsafe(export_name = "SKF_GetDevInfo")]
extern "C" fn device_info(device: Pointer, place: *mut u8) -> u32 {
    call("SKF_GetDevInfo", |control| {
        with("device", device, control, |_| {
            let serial = control.text("serial").unwrap_or("EMU20260101").as_bytes();
            let mut info = vec![0; if control.has("ulong8") { 328 } else { 294 }];
            info[130..133].copy_from_slice(b"EMU");
            info[162..162 + serial.len().min(31)].copy_from_slice(&serial[..serial.len().min(31)]);
            give_bytes(place, &info)
        })
    })
}

#[unsafe(export_name = "SKF_EnumApplication")]
extern "C" fn enum_applications(device: Pointer, place: *mut u8, len: *mut u8) -> u32 {
    call("SKF_EnumApplication", |control| {
        with("device", device, control, |_| give_names(place, len, &["TAX"], control))
    })
}

#[unsafe(export_name = "SKF_OpenApplication")]
extern "C" fn open_application(device: Pointer, name: *const c_char, place: *mut Pointer) -> u32 {
    call("SKF_OpenApplication", |control| {
        with("device", device, control, |_| match taken(name).as_str() {
            "TAX" => give_handle(place, HANDLES.open("application", "TAX", control)),
            _ => NO_APPLICATION,
        })
    })
}

#[unsafe(export_name = "SKF_CloseApplication")]
extern "C" fn close_application(application: Pointer) -> u32 {
    call("SKF_CloseApplication", |_| {
        if HANDLES.close("application", application.addr()) { OK } else { BAD_HANDLE }
    })
}

#[unsafe(export_name = "SKF_GetPINInfo")]
extern "C" fn pin_info(
    application: Pointer,
    _kind: u32,
    most: *mut u8,
    left: *mut u8,
    is_default: *mut u8,
) -> u32 {
    call("SKF_GetPINInfo", |control| {
        with("application", application, control, |_| {
            give_ulong(most, control.number("tries", 6), control)
                | give_ulong(left, tries(control), control)
                | give_ulong(is_default, 0, control)
        })
    })
}

#[unsafe(export_name = "SKF_VerifyPIN")]
extern "C" fn verify_pin(
    application: Pointer,
    _kind: u32,
    pin: *const c_char,
    left: *mut u8,
) -> u32 {
    call("SKF_VerifyPIN", |control| {
        with("application", application, control, |application| {
            let (before, most) = (tries(control), control.number("tries", 6));
            if before == 0 {
                return give_ulong(left, 0, control) | PIN_LOCKED;
            }
            let is_right = taken(pin) == control.text("pin").unwrap_or("12345678");
            let after = if is_right { most } else { before - 1 };
            if fs::write(beside("tries"), after.to_string()).is_err() {
                return FAIL;
            }
            log(is_right.then_some(application.id));
            give_ulong(left, after, control) | if is_right { OK } else { PIN_INCORRECT }
        })
    })
}

#[unsafe(export_name = "SKF_EnumContainer")]
extern "C" fn enum_containers(application: Pointer, place: *mut u8, len: *mut u8) -> u32 {
    call("SKF_EnumContainer", |control| {
        with("application", application, control, |_| {
            give_names(place, len, &containers(control), control)
        })
    })
}

#[unsafe(export_name = "SKF_OpenContainer")]
extern "C" fn open_container(
    application: Pointer,
    name: *const c_char,
    place: *mut Pointer,
) -> u32 {
    call("SKF_OpenContainer", |control| {
        with("application", application, control, |_| {
            let name = taken(name);
            if !containers(control).contains(&name.as_str()) {
                return NO_KEY;
            }
            if HANDLES.count("container") >= control.number("sessions", u32::MAX) {
                return NO_MEMORY;
            }
            give_handle(place, HANDLES.open("container", &name, control))
        })
    })
}

#[unsafe(export_name = "SKF_CloseContainer")]
extern "C" fn close_container(container: Pointer) -> u32 {
    call("SKF_CloseContainer", |_| {
        if HANDLES.close("container", container.addr()) { OK } else { BAD_HANDLE }
    })
}

#[unsafe(export_name = "SKF_ExportPublicKey")]
extern "C" fn export_key(
    container: Pointer,
    _is_signing: u32,
    place: *mut u8,
    len: *mut u8,
) -> u32 {
    call("SKF_ExportPublicKey", |control| {
        with("container", container, control, |container| {
            let Some(key) = shared::key(&container.name) else { return NO_KEY };
            let bits = 256_u64.to_ne_bytes();
            let bits = if control.has("ulong8") { &bits[..] } else { &bits[..4] };
            let blob = [bits, &shared::point(&key, control)].concat();
            give_sized(place, len, &blob, control)
        })
    })
}

#[unsafe(export_name = "SKF_ECCSignData")]
extern "C" fn sign(container: Pointer, digest: *const u8, len: u32, place: *mut u8) -> u32 {
    call("SKF_ECCSignData", |control| {
        with("container", container, control, |container| {
            if !is_logged_in(control) {
                return NOT_LOGGED_IN;
            }
            if len != 32 || digest.is_null() {
                return BAD_LENGTH;
            }
            // SAFETY: the caller's digest of 32 bytes, by contract of the standard.
            let digest = unsafe { slice::from_raw_parts(digest, 32) };
            match shared::sign(&container.name, digest, control) {
                Some(signature) => give_bytes(place, &signature),
                None => FAIL,
            }
        })
    })
}
