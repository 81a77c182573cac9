//! Signed answers, as OpenSSL and our own reader see them.

use crate::{
    identity::PeerCertificate,
    legacy::{Seal, SealFiles, ca::verify},
    model::CstTime,
};
use std::{fs, path::Path, process::Command};

/// A directory with a CA and a certificate under it, made by OpenSSL.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.run("ecparam -name prime256v1 -genkey -noout -out ca.key");
        bench.run("req -x509 -new -key ca.key -subj /CN=ca -days 9 -out ca.pem");
        bench.certify("me", "prime256v1");
        bench
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn openssl(&self, words: &str) -> (bool, String) {
        let mut openssl = Command::new("openssl");
        openssl.args(words.split_whitespace()).current_dir(self.path());
        let output = openssl.output().expect("the openssl command runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn run(&self, words: &str) {
        let (done, said) = self.openssl(words);
        assert!(done, "{words}: {said}");
    }

    /// A key in SEC 1 and in PKCS#8, and a certificate of the CA for it, with the CA's behind it.
    fn certify(&self, name: &str, curve: &str) {
        self.run(&format!("ecparam -name {curve} -genkey -out {name}.sec1"));
        self.run(&format!("pkcs8 -topk8 -nocrypt -in {name}.sec1 -out {name}.key"));
        self.run(&format!("req -new -key {name}.key -subj /CN=named-{name} -out {name}.csr"));
        self.run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial 0x80ff -days 9 \
             -out {name}.pem"
        ));
        let chain = [self.read(&format!("{name}.pem")), self.read("ca.pem")].concat();
        fs::write(self.path().join(format!("{name}.chain")), chain).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    fn files(&self, certificate: &str, key: &str) -> SealFiles {
        SealFiles { certificate: self.path().join(certificate), key: self.path().join(key) }
    }
}

fn now() -> CstTime {
    CstTime::parse("2026-06-01T12:00:00+08:00").unwrap()
}

const OPEN: &str =
    "cms -verify -binary -inform DER -in signed -CAfile ca.pem -purpose any -out opened";

#[test]
fn openssl_and_our_own_reader_open_what_was_signed() {
    let bench = Bench::new();
    bench.run("x509 -in me.pem -outform DER -out me.der");
    let peer = PeerCertificate::parse(&bench.read("me.der")).unwrap();
    for (certificate, key) in [("me.pem", "me.key"), ("me.pem", "me.sec1"), ("me.chain", "me.key")]
    {
        let seal = Seal::load(bench.files(certificate, key)).unwrap();
        for body in [Vec::new(), b"<RESPONSE/>\r\n".to_vec(), b"\0\xff".repeat(70_000)] {
            let signed = seal.sign(&body, now()).unwrap();
            assert_eq!(verify(&signed, &peer).unwrap(), body, "{certificate} {key}");
            fs::write(bench.path().join("signed"), signed).unwrap();
            bench.run(OPEN);
            assert_eq!(bench.read("opened"), body, "{certificate} {key}");
            bench.run("cms -cmsout -print -inform DER -in signed -noout");
        }
    }
    let mut signed = bench.read("signed");
    let at = signed.windows(2).position(|at| at == b"\0\xff").unwrap();
    signed[at] ^= 1;
    fs::write(bench.path().join("signed"), signed).unwrap();
    let words =
        "cms -verify -binary -inform DER -in signed -CAfile ca.pem -purpose any -out opened";
    assert!(!bench.openssl(words).0, "a changed answer does not verify");
}

#[test]
fn a_key_that_is_not_the_certificates_or_not_p256_is_refused() {
    let bench = Bench::new();
    bench.certify("other", "prime256v1");
    bench.certify("wide", "secp384r1");
    bench.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key");
    for (certificate, key, expect) in [
        ("me.pem", "other.key", "me.pem is not of the key"),
        ("other.chain", "me.key", "other.chain is not of the key"),
        ("wide.pem", "wide.key", "wide.key holds no P-256 key"),
        ("me.pem", "rsa.key", "rsa.key holds no P-256 key"),
        ("gone.pem", "me.key", "read certificate and key"),
        ("me.pem", "me.pem", "read certificate and key"),
        ("me.key", "me.key", "read certificate and key"),
    ] {
        let error = Seal::load(bench.files(certificate, key)).unwrap_err();
        assert!(error.to_string().contains(expect), "{certificate} {key}: {error}");
    }
}

#[test]
fn a_renewed_certificate_is_taken_and_a_wrong_one_is_not() {
    let bench = Bench::new();
    bench.certify("next", "prime256v1");
    let copy = |from: &str, to: &str| fs::write(bench.path().join(to), bench.read(from)).unwrap();
    copy("me.chain", "answer.pem");
    copy("me.key", "answer.key");
    let seal = Seal::load(bench.files("answer.pem", "answer.key")).unwrap();
    let signer = || {
        let signed = seal.sign(b"x", now()).unwrap();
        let held = |name: &str| signed.windows(name.len()).any(|at| at == name.as_bytes());
        [held("named-me"), held("named-next")]
    };
    assert_eq!(signer(), [true, false]);
    copy("next.key", "answer.key");
    seal.reload().unwrap_err();
    assert_eq!(signer(), [true, false], "the key is not the certificate's yet");
    copy("next.pem", "answer.pem");
    seal.reload_if_changed();
    assert_eq!(signer(), [false, true]);
    fs::remove_file(bench.path().join("answer.key")).unwrap();
    seal.reload_if_changed();
    assert_eq!(signer(), [false, true], "what is in force stays");
}
