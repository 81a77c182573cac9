//! What tests of an emulated library share: waiting for its calls, and what the outside says of a
//! signature.

use crate::library::Emulator;
use skproxy::{
    clock::monotonic,
    signer::sidecar::{Class, FoundKey, ModuleError, ModuleSession},
};
use sm2::{
    dsa::signature::Verifier as _, elliptic_curve::sec1::ToSec1Point as _,
    pkcs8::DecodePublicKey as _,
};
use sm3::{Digest as _, Sm3};
use std::{fs, process::Command, thread, time::Duration};

const IDENTITY: &str = "1234567812345678";

/// Waits until a function has been called so often.
#[track_caller]
pub(crate) fn wait_for(emulator: &Emulator, function: &str, times: usize) {
    let begin = monotonic();
    while emulator.calls(function) < times {
        assert!(begin.elapsed() < Duration::from_secs(60), "{function} is not called");
        thread::yield_now();
    }
}

/// A key as the outside knows it.
pub(crate) struct Outside {
    spki: Vec<u8>,
    key: sm2::dsa::VerifyingKey,
    z: [u8; 32],
}

impl Outside {
    /// Of a found key.
    pub(crate) fn new(found: &FoundKey) -> Self {
        let public = sm2::PublicKey::from_public_key_der(&found.public_key).unwrap();
        let key = sm2::dsa::VerifyingKey::new(IDENTITY, public).unwrap();
        Self { spki: found.public_key.clone(), key, z: z(&public) }
    }

    /// SM3(Z ‖ message): what a session signs.
    pub(crate) fn digest(&self, message: &[u8]) -> [u8; 32] {
        Sm3::new().chain_update(self.z).chain_update(message).finalize().into()
    }

    /// Whether the sm2 crate takes r ‖ s.
    pub(crate) fn accepts(&self, message: &[u8], pair: &[u8; 64]) -> bool {
        let signature = sm2::dsa::Signature::from_slice(pair);
        signature.is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }

    /// Whether OpenSSL takes it.
    pub(crate) fn openssl_accepts(&self, message: &[u8], pair: &[u8; 64]) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
        write("key", &self.spki);
        write("message", message);
        let signature = sm2::dsa::Signature::from_slice(pair).unwrap();
        write("signature", signature.to_der().as_bytes());
        let line = "pkeyutl -verify -pubin -keyform DER -inkey key -rawin -digest sm3 \
                    -pkeyopt distid:1234567812345678 -in message -sigfile signature";
        let arguments = line.split_whitespace();
        let output = Command::new("openssl").args(arguments).current_dir(&directory).output();
        output.expect("the openssl command runs").status.success()
    }

    /// Signs `count` messages, of which OpenSSL sees the first 25 too.
    #[track_caller]
    pub(crate) fn check_signatures(&self, session: &mut dyn ModuleSession, count: usize) {
        for number in 0..count {
            let message = format!("record {number}").into_bytes();
            let pair = session.sign(&self.digest(&message)).unwrap();
            assert!(self.accepts(&message, &pair), "{number}");
            assert!(!self.accepts(b"another record", &pair), "{number}");
            if number < 25 {
                assert!(self.openssl_accepts(&message, &pair), "{number}");
            }
        }
    }
}

/// Z of GB/T 32918.2 §5.5, computed apart from the product.
fn z(public: &sm2::PublicKey) -> [u8; 32] {
    const CURVE: &str = "fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc\
         28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93\
         32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7\
         bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0";
    let point = public.to_sec1_point(false);
    let hash = Sm3::new().chain_update([0, 128]).chain_update(IDENTITY);
    let hash = hash.chain_update(skproxy::convert::unhex(CURVE).unwrap());
    hash.chain_update(&point.as_bytes()[1..]).finalize().into()
}

/// Checks the class of a failure.
#[track_caller]
pub(crate) fn fails<T>(result: Result<T, ModuleError>, class: Class) -> ModuleError {
    match result {
        Ok(_) => panic!("it did not fail"),
        Err(error) => {
            assert_eq!(error.class, class, "{error}");
            error
        }
    }
}
