//! SKF as C has it: types, functions, and the one place of this backend that calls foreign code.
//!
//! Source: GM/T 0016-2012 §6 and §7. There ULONG has 32 bits; headers of some vendors for Linux
//! make it `unsigned long`, which has 64, and pack their structs or do not. So a ULONG goes over as
//! 64 bits, which either reads the same from a register, comes back in a zeroed place of 64 bits,
//! and no field is read whose offset the difference moves, but for BitLen, by the blob's length.

#![expect(unsafe_code, reason = "calls functions of a foreign library")]

use super::codes;
use crate::signer::sidecar::{
    Class, ModuleError,
    gm::{self, FIELDS_LEN},
    library::functions,
};
use std::{
    ffi::{CStr, c_char, c_void},
    path::Path,
    ptr,
};

/// ULONG and BOOL of either width.
type Ulong = u64;

const _: () = assert!(
    cfg!(all(target_endian = "little", target_pointer_width = "64")),
    "a ULONG of 32 bits is the first half of one of 64, in memory and in a register"
);

/// The part of DEVINFO that lies alike in every build, and room for the largest.
#[repr(C, align(8))]
struct RawInfo {
    version: [u8; 2],
    manufacturer: [u8; 64],
    issuer: [u8; 64],
    label: [u8; 32],
    serial_number: [u8; 32],
    rest: [u8; 318],
}

/// ECCPUBLICKEYBLOB of the largest build, and room to see that a blob is another one: an
/// RSAPUBLICKEYBLOB has 268 or 276 bytes.
const KEY_BLOB_LEN_MAX: usize = 512;

/// ECCSIGNATUREBLOB: the two numbers are one array here, so that `gm` can read it.
#[repr(C)]
struct RawSignature {
    r_and_s: [u8; FIELDS_LEN],
}

/// Length of a list of names. More is a library gone wrong. Unit: bytes.
const NAMES_LEN_MAX: u64 = 64 * 1024;

/// USER_TYPE: the user's PIN, not the administrator's. Source: GM/T 0016 §6.4.
const USER: Ulong = 1;
/// TRUE.
const TRUE: Ulong = 1;
/// DEV_ABSENT_STATE. Source: GM/T 0016 §7.1.
const ABSENT: u64 = 0;

type Pointer = *mut c_void;
type Text = *mut c_char;

functions! {
    /// The functions that skproxy needs of an SKF library.
    Functions {
        enum_devices = "SKF_EnumDev": fn(Ulong, Text, *mut Ulong);
        connect_device = "SKF_ConnectDev": fn(Text, *mut Pointer);
        disconnect_device = "SKF_DisConnectDev": fn(Pointer);
        device_state = "SKF_GetDevState": fn(Text, *mut Ulong);
        device_info = "SKF_GetDevInfo": fn(Pointer, *mut RawInfo);
        enum_applications = "SKF_EnumApplication": fn(Pointer, Text, *mut Ulong);
        open_application = "SKF_OpenApplication": fn(Pointer, Text, *mut Pointer);
        close_application = "SKF_CloseApplication": fn(Pointer);
        pin_info = "SKF_GetPINInfo": fn(Pointer, Ulong, *mut Ulong, *mut Ulong, *mut Ulong);
        verify_pin = "SKF_VerifyPIN": fn(Pointer, Ulong, Text, *mut Ulong);
        enum_containers = "SKF_EnumContainer": fn(Pointer, Text, *mut Ulong);
        open_container = "SKF_OpenContainer": fn(Pointer, Text, *mut Pointer);
        close_container = "SKF_CloseContainer": fn(Pointer);
        export_key = "SKF_ExportPublicKey": fn(Pointer, Ulong, *mut u8, *mut Ulong);
        sign = "SKF_ECCSignData": fn(Pointer, *mut u8, Ulong, *mut RawSignature);
    }
}

/// A device, application or container handle of the library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle(Pointer);

// SAFETY: the standard ties no handle to a thread, and `Skf` uses all of them under one lock.
unsafe impl Send for Handle {}

/// A loaded SKF library. Every function answers the table's error, with the function's name.
#[derive(Clone, Copy)]
pub(super) struct Api(Functions);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("skf::Api")
    }
}

impl Api {
    /// Loads a library.
    ///
    /// # Errors
    /// When it cannot be opened, or lacks functions, which it names.
    pub(super) fn load(path: &Path) -> Result<Self, ModuleError> {
        Functions::load(path).map(Self)
    }

    /// Names of the devices that are plugged in.
    pub(super) fn devices(&self) -> Result<Vec<Vec<u8>>, ModuleError> {
        names("SKF_EnumDev", |text, len| {
            // SAFETY: `names` passes a buffer and its length, or NULL to ask for it.
            unsafe { (self.0.enum_devices)(TRUE, text, len) }
        })
    }

    /// Whether a device is known to be absent; drivers that do not know say otherwise.
    pub(super) fn is_absent(&self, device: &CStr) -> Result<bool, ModuleError> {
        let mut state = 0;
        // SAFETY: a live C string and a live place for a ULONG.
        let code = unsafe { (self.0.device_state)(device.as_ptr().cast_mut(), &raw mut state) };
        match check(code, "SKF_GetDevState") {
            Err(error) if error.code == codes::NOT_SUPPORTED => Ok(false),
            answer => answer.map(|()| state == ABSENT),
        }
    }

    pub(super) fn connect(&self, device: &CStr) -> Result<Handle, ModuleError> {
        let mut handle = ptr::null_mut();
        // SAFETY: a live C string and a live place for a handle.
        let code = unsafe { (self.0.connect_device)(device.as_ptr().cast_mut(), &raw mut handle) };
        check(code, "SKF_ConnectDev")?;
        Ok(Handle(handle))
    }

    /// Disconnects. Its code has no use: the handle is gone.
    pub(super) fn disconnect(&self, device: Handle) {
        // SAFETY: the handle came from `connect`, and its owner lets go of it.
        let _code = unsafe { (self.0.disconnect_device)(device.0) };
    }

    /// The serial number of a device.
    pub(super) fn serial_number(&self, device: Handle) -> Result<String, ModuleError> {
        let mut raw = RawInfo {
            version: [0; 2],
            manufacturer: [0; 64],
            issuer: [0; 64],
            label: [0; 32],
            serial_number: [0; 32],
            rest: [0; 318],
        };
        // SAFETY: the device is connected, the pointer is to room for any build's DEVINFO.
        check(unsafe { (self.0.device_info)(device.0, &raw mut raw) }, "SKF_GetDevInfo")?;
        Ok(gm::text(&raw.serial_number))
    }

    pub(super) fn applications(&self, device: Handle) -> Result<Vec<Vec<u8>>, ModuleError> {
        names("SKF_EnumApplication", |text, len| {
            // SAFETY: the device is connected; `names` passes a buffer and its length, or NULL.
            unsafe { (self.0.enum_applications)(device.0, text, len) }
        })
    }

    pub(super) fn open_application(
        &self,
        device: Handle,
        name: &CStr,
    ) -> Result<Handle, ModuleError> {
        let (mut handle, text) = (ptr::null_mut(), name.as_ptr().cast_mut());
        // SAFETY: the device is connected; a live C string and a live place for a handle.
        let code = unsafe { (self.0.open_application)(device.0, text, &raw mut handle) };
        check(code, &format!("SKF_OpenApplication, {name:?}"))?;
        Ok(Handle(handle))
    }

    /// Closes an application. Its code has no use: the handle is gone.
    pub(super) fn close_application(&self, application: Handle) {
        // SAFETY: the handle came from `open_application`, and its owner lets go of it.
        let _code = unsafe { (self.0.close_application)(application.0) };
    }

    /// Tries that the user's PIN has left.
    pub(super) fn tries_left(&self, application: Handle) -> Result<u64, ModuleError> {
        let (mut most, mut left, mut is_default) = (0, 0, 0);
        // SAFETY: the application is open; three live places for a ULONG or BOOL of any width.
        let code = unsafe {
            (self.0.pin_info)(
                application.0,
                USER,
                &raw mut most,
                &raw mut left,
                &raw mut is_default,
            )
        };
        check(code, "SKF_GetPINInfo")?;
        Ok(left)
    }

    /// Presents the user's PIN; `pin` ends with NUL and is the caller's copy, which the library may
    /// write to.
    pub(super) fn verify_pin(
        &self,
        application: Handle,
        pin: &mut [u8],
    ) -> Result<(), ModuleError> {
        if pin.iter().position(|&byte| byte == 0) != pin.len().checked_sub(1) {
            return Err(codes::error(codes::PIN_INVALID, "the PIN is no C string"));
        }
        let mut left = 0;
        // SAFETY: the application is open; the PIN is a C string, checked above.
        let code = unsafe {
            (self.0.verify_pin)(application.0, USER, pin.as_mut_ptr().cast(), &raw mut left)
        };
        check(code, "SKF_VerifyPIN").map_err(|error| match error.class {
            // Other failures leave it at nought, which would be a lie.
            Class::Pin => {
                ModuleError { detail: format!("SKF_VerifyPIN, {left} tries left"), ..error }
            }
            _ => error,
        })
    }

    pub(super) fn containers(&self, application: Handle) -> Result<Vec<Vec<u8>>, ModuleError> {
        names("SKF_EnumContainer", |text, len| {
            // SAFETY: the application is open; `names` passes a buffer and its length, or NULL.
            unsafe { (self.0.enum_containers)(application.0, text, len) }
        })
    }

    pub(super) fn open_container(
        &self,
        application: Handle,
        name: &CStr,
    ) -> Result<Handle, ModuleError> {
        let (mut handle, text) = (ptr::null_mut(), name.as_ptr().cast_mut());
        // SAFETY: the application is open; a live C string and a live place for a handle.
        let code = unsafe { (self.0.open_container)(application.0, text, &raw mut handle) };
        check(code, &format!("SKF_OpenContainer, {name:?}"))?;
        Ok(Handle(handle))
    }

    /// Closes a container. Its code has no use: the handle is gone.
    pub(super) fn close_container(&self, container: Handle) {
        // SAFETY: the handle came from `open_container`, and its owner lets go of it.
        let _code = unsafe { (self.0.close_container)(container.0) };
    }

    /// The signing key of a container, as the library's blob.
    pub(super) fn export_key(&self, container: Handle) -> Result<KeyBlob, ModuleError> {
        let mut bytes = [0; KEY_BLOB_LEN_MAX];
        let mut len = crate::convert::len_u64(KEY_BLOB_LEN_MAX);
        // SAFETY: the container is open; pointer and length are of one live buffer.
        let code =
            unsafe { (self.0.export_key)(container.0, TRUE, bytes.as_mut_ptr(), &raw mut len) };
        check(code, "SKF_ExportPublicKey")?;
        Ok(KeyBlob { bytes, len })
    }

    /// Signs a digest: r and s as `gm` reads them.
    pub(super) fn sign(
        &self,
        container: Handle,
        digest: &[u8; 32],
    ) -> Result<[u8; FIELDS_LEN], ModuleError> {
        // C takes it without `const`, so a library may write to it.
        let mut digest = *digest;
        let mut raw = RawSignature { r_and_s: [0; FIELDS_LEN] };
        // SAFETY: the container is open; the length is the digest's, the last pointer is to a live
        // ECCSIGNATUREBLOB.
        let code =
            unsafe { (self.0.sign)(container.0, digest.as_mut_ptr(), DIGEST_LEN, &raw mut raw) };
        check(code, "SKF_ECCSignData")?;
        Ok(raw.r_and_s)
    }
}

/// Length of an SM3 digest. Unit: bytes.
const DIGEST_LEN: Ulong = 32;

/// A public key as a library exports it.
#[derive(Debug)]
pub(super) struct KeyBlob {
    bytes: [u8; KEY_BLOB_LEN_MAX],
    len: u64,
}

impl KeyBlob {
    /// Bits, and the point's coordinates as `gm` reads them. `None` when it is no ECCPUBLICKEYBLOB
    /// of any build: a number of 4 or 8 bytes, and two fields of 64 or 32.
    pub(super) fn point(&self) -> Option<(u64, [u8; FIELDS_LEN])> {
        let (width, fields_len) = match self.len {
            132 => (4, 128),
            136 => (8, 128),
            68 => (4, 64),
            72 => (8, 64),
            _ => return None,
        };
        let mut bits = [0; 8];
        bits[..width].copy_from_slice(&self.bytes[..width]);
        let mut fields = [0; FIELDS_LEN];
        fields[..fields_len].copy_from_slice(&self.bytes[width..width + fields_len]);
        Some((u64::from_le_bytes(bits), fields))
    }

    /// Length that the library gave. Unit: bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

fn check(code: u32, doing: &str) -> Result<(), ModuleError> {
    if code == 0 { Ok(()) } else { Err(codes::error(code, doing)) }
}

/// A list of names: asks for its length, then for the names, each ended by NUL and the list by one
/// more.
fn names(doing: &str, call: impl Fn(Text, *mut Ulong) -> u32) -> Result<Vec<Vec<u8>>, ModuleError> {
    let mut len = 0;
    check(call(ptr::null_mut(), &raw mut len), doing)?;
    // One byte more than asked for: some libraries do not count the last NUL.
    let room = usize::try_from(len.min(NAMES_LEN_MAX)).unwrap_or(0).saturating_add(1);
    let mut buffer = vec![0_u8; room];
    check(call(buffer.as_mut_ptr().cast(), &raw mut len), doing)?;
    Ok(buffer.split(|&byte| byte == 0).take_while(|name| !name.is_empty()).map(Vec::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn structs_lie_in_memory_as_c_lays_them_in_every_build() {
        let printed = gm::layout_in_c("skf");
        for (build, ulong) in [("natural", 4), ("packed", 4), ("natural-64", 8), ("packed-64", 8)] {
            let ours = [
                ("DEVINFO.Label", offset_of!(RawInfo, label)),
                ("DEVINFO.SerialNumber", offset_of!(RawInfo, serial_number)),
                ("ECCPUBLICKEYBLOB", ulong + FIELDS_LEN),
                ("ECCPUBLICKEYBLOB.BitLen", 0),
                ("ECCPUBLICKEYBLOB.XCoordinate", ulong),
                ("ECCPUBLICKEYBLOB.YCoordinate", ulong + FIELDS_LEN / 2),
                ("ECCSIGNATUREBLOB", size_of::<RawSignature>()),
                ("ECCSIGNATUREBLOB.r", offset_of!(RawSignature, r_and_s)),
                ("ECCSIGNATUREBLOB.s", offset_of!(RawSignature, r_and_s) + FIELDS_LEN / 2),
            ];
            let prefix = format!("{build} DEVINFO ");
            let mut lines = printed.iter().filter_map(|line| line.strip_prefix(&prefix));
            let len: usize = lines.next().unwrap().parse().unwrap();
            assert!(len <= size_of::<RawInfo>(), "{build}: DEVINFO has {len} bytes");
            for (name, number) in ours {
                let line = format!("{build} {name} {number}");
                assert!(printed.contains(&line), "{line} not in {printed:?}");
            }
        }
    }

    fn blob(len: u64, width: usize) -> KeyBlob {
        let mut bytes = [0; KEY_BLOB_LEN_MAX];
        bytes[1] = 1;
        bytes[width] = 0xAB;
        KeyBlob { bytes, len }
    }

    #[test]
    fn a_key_blob_is_read_in_every_build_and_nothing_else_is() {
        for (len, width) in [(132, 4), (136, 8), (68, 4), (72, 8)] {
            let (bits, fields) = blob(len, width).point().unwrap();
            assert_eq!((bits, fields[0]), (256, 0xAB), "{len}");
        }
        for len in [0, 131, 268, 276, 512, u64::MAX] {
            assert!(blob(len, 4).point().is_none(), "{len}");
        }
    }

    /// A library that answers with `list`.
    #[track_caller]
    fn check_names(list: &[u8], expect: &[&str]) {
        let found = names("x", |text, len| {
            // SAFETY: `names` passes a place for a length, and NULL or a buffer of that length.
            unsafe {
                if !text.is_null() {
                    ptr::copy_nonoverlapping(list.as_ptr(), text.cast(), list.len());
                }
                *len = crate::convert::len_u64(list.len());
            }
            0
        });
        assert_eq!(found.unwrap(), expect.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_of_names_ends_with_an_empty_name_or_with_its_room() {
        check_names(b"A\0BC\0\0", &["A", "BC"]);
        check_names(b"A\0BC\0", &["A", "BC"]);
        check_names(b"A\0BC", &["A", "BC"]);
        check_names(b"A\0\0B\0\0", &["A"]);
        check_names(b"\0\0", &[]);
        check_names(b"", &[]);
    }
}
