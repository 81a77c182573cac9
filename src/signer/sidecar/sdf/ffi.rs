//! SDF as C has it: types, functions, and the one place of this backend that calls foreign code.
//!
//! Source: GM/T 0018-2012 §5 and §6. Every length is one that C counts the same way: the layouts
//! are compared with a C program, and hold packed or not, since no field needs padding.

#![expect(unsafe_code, reason = "calls functions of a foreign library")]

use super::codes;
use crate::signer::sidecar::{
    ModuleError,
    gm::{self, FIELDS_LEN},
    library::functions,
};
use std::{
    ffi::{c_uchar, c_uint, c_void},
    path::Path,
    ptr,
};

/// DEVICEINFO.
#[repr(C)]
struct RawInfo {
    issuer_name: [c_uchar; 40],
    device_name: [c_uchar; 16],
    device_serial: [c_uchar; 16],
    device_version: c_uint,
    standard_version: c_uint,
    asymmetric_abilities: [c_uint; 2],
    symmetric_abilities: c_uint,
    hash_abilities: c_uint,
    buffer_size: c_uint,
}

/// ECCrefPublicKey: the two coordinates are one array here, so that `gm` can read it.
#[repr(C)]
struct RawPublicKey {
    bits: c_uint,
    x_and_y: [c_uchar; FIELDS_LEN],
}

/// ECCSignature.
#[repr(C)]
struct RawSignature {
    r_and_s: [c_uchar; FIELDS_LEN],
}

type Pointer = *mut c_void;

functions! {
    /// The functions that skproxy needs of an SDF library.
    Functions {
        open_device = "SDF_OpenDevice": fn(*mut Pointer);
        close_device = "SDF_CloseDevice": fn(Pointer);
        open_session = "SDF_OpenSession": fn(Pointer, *mut Pointer);
        close_session = "SDF_CloseSession": fn(Pointer);
        device_info = "SDF_GetDeviceInfo": fn(Pointer, *mut RawInfo);
        acquire_right = "SDF_GetPrivateKeyAccessRight":
            fn(Pointer, c_uint, *mut c_uchar, c_uint);
        release_right = "SDF_ReleasePrivateKeyAccessRight": fn(Pointer, c_uint);
        export_key = "SDF_ExportSignPublicKey_ECC": fn(Pointer, c_uint, *mut RawPublicKey);
        sign = "SDF_InternalSign_ECC":
            fn(Pointer, c_uint, *mut c_uchar, c_uint, *mut RawSignature);
    }
}

/// A device handle of the library.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceHandle(Pointer);

/// A session handle of the library.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionHandle(Pointer);

// SAFETY: the standard ties neither handle to a thread. A device's is used by several threads at
// a time only to open and close sessions, which `Sdf` does under its lock.
unsafe impl Send for DeviceHandle {}
// SAFETY: as above.
unsafe impl Sync for DeviceHandle {}
// SAFETY: as above; a session's is used by one thread at a time, since `sign` takes `&mut`.
unsafe impl Send for SessionHandle {}

/// Names of a machine. Source: GM/T 0018 §5, DEVICEINFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    /// Manufacturer.
    pub(super) issuer: String,
    /// Model.
    pub(super) device: String,
    /// Serial number: date, batch and number, 16 characters.
    pub(super) serial: String,
}

/// A loaded SDF library. Every function answers the table's error, with the function's name.
#[derive(Clone, Copy)]
pub(super) struct Api(Functions);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sdf::Api")
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

    pub(super) fn open_device(&self) -> Result<DeviceHandle, ModuleError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is to a live place for a handle.
        check(unsafe { (self.0.open_device)(&raw mut handle) }, "SDF_OpenDevice")?;
        Ok(DeviceHandle(handle))
    }

    /// Closes a device of which no session is open. Its code has no use: the handle is gone.
    pub(super) fn close_device(&self, device: DeviceHandle) {
        // SAFETY: the handle came from `open_device`, and its owner lets go of it.
        let _code = unsafe { (self.0.close_device)(device.0) };
    }

    pub(super) fn open_session(&self, device: DeviceHandle) -> Result<SessionHandle, ModuleError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the device is open, the pointer is to a live place for a handle.
        check(unsafe { (self.0.open_session)(device.0, &raw mut handle) }, "SDF_OpenSession")?;
        Ok(SessionHandle(handle))
    }

    /// Closes a session. Its code has no use: the handle is gone.
    pub(super) fn close_session(&self, session: SessionHandle) {
        // SAFETY: the handle came from `open_session`, and its owner lets go of it.
        let _code = unsafe { (self.0.close_session)(session.0) };
    }

    pub(super) fn info(&self, session: SessionHandle) -> Result<Info, ModuleError> {
        let mut raw = RawInfo {
            issuer_name: [0; 40],
            device_name: [0; 16],
            device_serial: [0; 16],
            device_version: 0,
            standard_version: 0,
            asymmetric_abilities: [0; 2],
            symmetric_abilities: 0,
            hash_abilities: 0,
            buffer_size: 0,
        };
        // SAFETY: the session is open, the pointer is to a live DEVICEINFO.
        check(unsafe { (self.0.device_info)(session.0, &raw mut raw) }, "SDF_GetDeviceInfo")?;
        Ok(Info {
            issuer: gm::text(&raw.issuer_name),
            device: gm::text(&raw.device_name),
            serial: gm::text(&raw.device_serial),
        })
    }

    /// Presents the password of a key; `password` is the caller's copy, which the library may
    /// write to.
    pub(super) fn acquire_right(
        &self,
        session: SessionHandle,
        key: u32,
        password: &mut [u8],
    ) -> Result<(), ModuleError> {
        const NAME: &str = "SDF_GetPrivateKeyAccessRight";
        let Ok(len) = c_uint::try_from(password.len()) else {
            return Err(codes::error(codes::BAD_ARGUMENT, NAME));
        };
        // SAFETY: the session is open, pointer and length are of one live buffer.
        check(unsafe { (self.0.acquire_right)(session.0, key, password.as_mut_ptr(), len) }, NAME)
    }

    /// Gives a right back. Its code has no use: the session is closed next, which ends the right.
    pub(super) fn release_right(&self, session: SessionHandle, key: u32) {
        // SAFETY: the session is open.
        let _code = unsafe { (self.0.release_right)(session.0, key) };
    }

    /// Bits of a signing key, and its point's coordinates as `gm` reads them.
    pub(super) fn export_key(
        &self,
        session: SessionHandle,
        key: u32,
    ) -> Result<(u32, [u8; FIELDS_LEN]), ModuleError> {
        let mut raw = RawPublicKey { bits: 0, x_and_y: [0; FIELDS_LEN] };
        // SAFETY: the session is open, the pointer is to a live ECCrefPublicKey.
        let code = unsafe { (self.0.export_key)(session.0, key, &raw mut raw) };
        check(code, &format!("SDF_ExportSignPublicKey_ECC, key {key}"))?;
        Ok((raw.bits, raw.x_and_y))
    }

    /// Signs a digest with the signing key of an index: r and s as `gm` reads them.
    pub(super) fn sign(
        &self,
        session: SessionHandle,
        key: u32,
        digest: &[u8; 32],
    ) -> Result<[u8; FIELDS_LEN], ModuleError> {
        // C takes it without `const`, so a library may write to it.
        let mut digest = *digest;
        let mut raw = RawSignature { r_and_s: [0; FIELDS_LEN] };
        // SAFETY: the session is open, the length is the digest's, the last pointer is to a live
        // ECCSignature.
        let code =
            unsafe { (self.0.sign)(session.0, key, digest.as_mut_ptr(), DIGEST_LEN, &raw mut raw) };
        check(code, "SDF_InternalSign_ECC")?;
        Ok(raw.r_and_s)
    }
}

/// Length of an SM3 digest. Unit: bytes.
const DIGEST_LEN: c_uint = 32;

fn check(code: u32, doing: &str) -> Result<(), ModuleError> {
    if code == 0 { Ok(()) } else { Err(codes::error(code, doing)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn structs_lie_in_memory_as_c_lays_them() {
        let ours = [
            ("DEVICEINFO", size_of::<RawInfo>()),
            ("DEVICEINFO.IssuerName", offset_of!(RawInfo, issuer_name)),
            ("DEVICEINFO.DeviceName", offset_of!(RawInfo, device_name)),
            ("DEVICEINFO.DeviceSerial", offset_of!(RawInfo, device_serial)),
            ("DEVICEINFO.DeviceVersion", offset_of!(RawInfo, device_version)),
            ("DEVICEINFO.StandardVersion", offset_of!(RawInfo, standard_version)),
            ("DEVICEINFO.AsymAlgAbility", offset_of!(RawInfo, asymmetric_abilities)),
            ("DEVICEINFO.SymAlgAbility", offset_of!(RawInfo, symmetric_abilities)),
            ("DEVICEINFO.HashAlgAbility", offset_of!(RawInfo, hash_abilities)),
            ("DEVICEINFO.BufferSize", offset_of!(RawInfo, buffer_size)),
            ("ECCrefPublicKey", size_of::<RawPublicKey>()),
            ("ECCrefPublicKey.bits", offset_of!(RawPublicKey, bits)),
            ("ECCrefPublicKey.x", offset_of!(RawPublicKey, x_and_y)),
            ("ECCrefPublicKey.y", offset_of!(RawPublicKey, x_and_y) + FIELDS_LEN / 2),
            ("ECCSignature", size_of::<RawSignature>()),
            ("ECCSignature.r", offset_of!(RawSignature, r_and_s)),
            ("ECCSignature.s", offset_of!(RawSignature, r_and_s) + FIELDS_LEN / 2),
        ];
        let lines = |packing: &str| -> Vec<String> {
            ours.iter().map(|(name, number)| format!("{packing} {name} {number}")).collect()
        };
        assert_eq!(gm::layout_in_c("sdf"), [lines("natural"), lines("packed")].concat());
    }
}
