//! CA mode: messages that OpenSSL signed, and messages built here where it cannot make them (SM2,
//! wrong attributes) with signatures that are still its own.

use crate::{
    identity::PeerCertificate,
    legacy::{ca::verify, cms},
    refusal::Reason,
};
use der::asn1::ObjectIdentifier;
use proptest::prelude::*;
use sm3::{Digest as _, Sm3};
use std::{fs, path::Path, process::Command, sync::OnceLock};

const BODY: &[u8] = b"<REQUEST_COMMON_FPCX><FPQQLSH>A</FPQQLSH></REQUEST_COMMON_FPCX>\0\r\n\xff";

/// A directory in which OpenSSL works, with two strangers of the same name and serial number.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(curve: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.path().join("body"), BODY).unwrap();
        for name in ["me", "twin"] {
            bench.run(&format!("ecparam -name {curve} -genkey -noout -out {name}.key"));
            bench.run(&format!(
                "req -x509 -new -key {name}.key -subj /CN=somebody -set_serial 200 -days 9 \
                 -out {name}.pem"
            ));
            bench.run(&format!("x509 -in {name}.pem -outform DER -out {name}.der"));
        }
        bench
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, words: &str) {
        let mut openssl = Command::new("openssl");
        openssl.args(words.split_whitespace()).current_dir(self.path());
        let output = openssl.output().expect("the openssl command runs");
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    /// What `openssl cms` makes of the body.
    fn cms(&self, words: &str) -> Vec<u8> {
        self.run(&format!("cms -binary -in body -outform DER -out message {words}"));
        self.read("message")
    }

    /// The body, signed by `me`.
    fn signed(&self, words: &str) -> Vec<u8> {
        self.cms(&format!("-sign -nodetach -signer me.pem -inkey me.key {words}"))
    }

    fn peer(&self) -> PeerCertificate {
        PeerCertificate::parse(&self.read("me.der")).unwrap()
    }

    /// A signature of `me`'s over a message, with the digest that `words` name.
    fn signature(&self, message: &[u8], words: &str) -> Vec<u8> {
        fs::write(self.path().join("covered"), message).unwrap();
        self.run(&format!("pkeyutl -sign -inkey me.key -rawin -in covered -out signature {words}"));
        self.read("signature")
    }
}

fn reason(cms: &[u8], peer: &PeerCertificate) -> Result<Vec<u8>, Reason> {
    verify(cms, peer).map_err(|refusal| refusal.reason)
}

#[test]
fn what_openssl_signed_for_the_caller_is_opened() {
    let bench = Bench::new("prime256v1");
    for words in ["", "-noattr", "-keyid", "-nosmimecap", "-certfile twin.pem", "-md sha256"] {
        assert_eq!(verify(&bench.signed(words), &bench.peer()).unwrap(), BODY, "{words}");
    }
}

/// Changes one byte of the last place where `what` stands.
fn changed(message: &[u8], what: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let at = message.windows(what.len()).rposition(|window| window == what).unwrap();
    message[at] ^= 1;
    message
}

fn last_changed(mut message: Vec<u8>) -> Vec<u8> {
    *message.last_mut().unwrap() ^= 1;
    message
}

#[test]
fn what_the_caller_did_not_sign_as_it_is_is_refused() {
    let bench = Bench::new("prime256v1");
    let (signed, bare) = (bench.signed(""), bench.signed("-noattr"));
    let twin = "-sign -nodetach -signer twin.pem -inkey twin.key";
    let p384 = Bench::new("secp384r1");
    for (what, message, expect) in [
        ("another body", changed(&signed, b"<FPQQLSH>"), Reason::DigestMismatch),
        ("another body, no attributes", changed(&bare, b"<FPQQLSH>"), Reason::SignatureInvalid),
        ("another signature", last_changed(signed.clone()), Reason::SignatureInvalid),
        ("another signature, no attributes", last_changed(bare), Reason::SignatureInvalid),
        ("another's", bench.cms(twin), Reason::SignatureInvalid),
        (
            "another's under the caller's certificate",
            bench.cms(&format!("{twin} -nocerts -certfile me.pem")),
            Reason::SignatureInvalid,
        ),
        ("no certificate", bench.signed("-nocerts"), Reason::SignatureInvalid),
        ("SHA-512", bench.signed("-md sha512"), Reason::SignatureInvalid),
        ("no content", bench.cms("-sign -signer me.pem -inkey me.key"), Reason::MalformedMessage),
        ("two signers", bench.signed("-signer twin.pem -inkey twin.key"), Reason::MalformedMessage),
        ("no data", bench.signed("-econtent_type 1.2.3.4"), Reason::MalformedMessage),
        ("BER", bench.signed("-stream"), Reason::MalformedMessage),
        ("a digest only", bench.cms("-digest_create"), Reason::MalformedMessage),
        ("more than a message", [signed, vec![0]].concat(), Reason::MalformedMessage),
        ("enveloped", bench.cms("-encrypt -aes128 me.pem"), Reason::EncryptionUnsupported),
        (
            "encrypted",
            bench.cms(&format!("-EncryptedData_encrypt -aes128 -secretkey {}", "0a".repeat(16))),
            Reason::EncryptionUnsupported,
        ),
        ("nothing", Vec::new(), Reason::MalformedMessage),
        ("no CMS", BODY.to_vec(), Reason::MalformedMessage),
    ] {
        assert_eq!(reason(&message, &bench.peer()), Err(expect), "{what}");
    }
    let other_curve = reason(&p384.signed("-md sha256"), &p384.peer());
    assert_eq!(other_curve, Err(Reason::SignatureInvalid), "P-384");
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    let header = match value.len() {
        0..=127 => vec![tag, length[1]],
        128..=255 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [header, value].concat()
}

fn oid(text: &str) -> Vec<u8> {
    tlv(6, &[ObjectIdentifier::new_unwrap(text).as_bytes()])
}

fn attribute(id: &str, values: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &[&oid(id), &tlv(0x31, values)])
}

const TYPE: &str = "1.2.840.113549.1.9.3";
const DIGEST: &str = "1.2.840.113549.1.9.4";
const PKCS7: [&str; 2] = ["1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"];
const GM: [&str; 2] = ["1.2.156.10197.6.1.4.2.2", "1.2.156.10197.6.1.4.2.1"];
const SM2: &str = "1.2.156.10197.1.501";

/// How a message with SM2 and SM3 is built.
#[derive(Clone)]
struct Shape {
    types: [&'static str; 2],
    scheme: &'static str,
    /// Signed attributes in the order they stand in; `None` for a signature over the body.
    attributes: Option<Vec<Vec<u8>>>,
    /// Version of the signer's part.
    version: u8,
    /// What the message's set of digests names.
    digest: &'static str,
    /// Files of the certificates with it.
    certificates: &'static [&'static str],
}

impl Shape {
    fn bare() -> Self {
        let (types, scheme, attributes) = (PKCS7, SM2, None);
        let (digest, certificates) = ("1.2.156.10197.1.401", &["me.der"]);
        Self { types, scheme, attributes, version: 1, digest, certificates }
    }

    /// With attributes, in DER's order.
    fn with(attributes: &[Vec<u8>]) -> Self {
        let mut attributes = attributes.to_vec();
        attributes.sort();
        Self { attributes: Some(attributes), ..Self::bare() }
    }

    fn build(&self, bench: &Bench) -> Vec<u8> {
        let null = tlv(5, &[]);
        let algorithm = |id| tlv(0x30, &[&oid(id), &null]);
        let attributes = self.attributes.as_ref().map(|all| all.concat());
        let covered = attributes.as_ref().map_or(BODY.to_vec(), |all| tlv(0x31, &[all]));
        let options = "-digest sm3 -pkeyopt distid:1234567812345678";
        let signature = bench.signature(&covered, options);
        let issuer =
            tlv(0x30, &[&tlv(0x31, &[&tlv(0x30, &[&oid("2.5.4.3"), b"\x0c\x08somebody"])])]);
        let signer = tlv(
            0x30,
            &[
                &[2, 1, self.version],
                &tlv(0x30, &[&issuer, &[2, 2, 0, 200]]),
                &algorithm("1.2.156.10197.1.401"),
                &attributes.map_or(Vec::new(), |all| tlv(0xa0, &[&all])),
                &algorithm(self.scheme),
                &tlv(4, &[&signature]),
            ],
        );
        let content = tlv(0xa0, &[&tlv(4, &[BODY])]);
        let certificates: Vec<_> = self.certificates.iter().map(|name| bench.read(name)).collect();
        let signed = tlv(
            0x30,
            &[
                &[2, 1, 1],
                &tlv(0x31, &[&algorithm(self.digest)]),
                &tlv(0x30, &[&oid(self.types[1]), &content]),
                &tlv(0xa0, &[&certificates.concat()]),
                &tlv(0x31, &[&signer]),
            ],
        );
        tlv(0x30, &[&oid(self.types[0]), &tlv(0xa0, &[&signed])])
    }
}

#[test]
fn sm2_is_taken_in_the_content_types_of_both_standards() {
    let bench = Bench::new("SM2");
    let digest = attribute(DIGEST, &[&tlv(4, &[&Sm3::digest(BODY)])]);
    for types in [PKCS7, GM, [GM[0], PKCS7[1]]] {
        for scheme in ["1.2.156.10197.1.301", "1.2.156.10197.1.301.1", SM2] {
            let attributes = vec![attribute(TYPE, &[&oid(types[1])]), digest.clone()];
            for attributes in [None, Some(attributes)] {
                let what = format!("{types:?} {scheme} {}", attributes.is_some());
                let bare = if attributes.is_some() {
                    Reason::DigestMismatch
                } else {
                    Reason::SignatureInvalid
                };
                let message = Shape { types, scheme, attributes, ..Shape::bare() }.build(&bench);
                assert_eq!(verify(&message, &bench.peer()).unwrap(), BODY, "{what}");
                let other = changed(&message, b"<FPQQLSH>");
                assert_eq!(reason(&other, &bench.peer()), Err(bare), "{what}");
                let other = last_changed(message);
                assert_eq!(reason(&other, &bench.peer()), Err(Reason::SignatureInvalid), "{what}");
            }
        }
    }
}

#[test]
fn attributes_that_do_not_say_what_they_must_are_refused_though_they_are_signed() {
    let bench = Bench::new("SM2");
    let [data, octets] = [oid(PKCS7[1]), tlv(4, &[&Sm3::digest(BODY)])];
    let (kind, digest) = (attribute(TYPE, &[&data]), attribute(DIGEST, &[&octets]));
    let good = Shape::with(&[kind.clone(), digest.clone()]);
    assert_eq!(verify(&good.build(&bench), &bench.peer()).unwrap(), BODY);
    let many = (0..40_u8).map(|no| attribute("1.2.3", &[&[2, 1, no]]));
    let many: Vec<_> = many.chain([kind.clone(), digest.clone()]).collect();
    let reversed = Shape { attributes: Some(vec![digest.clone(), kind.clone()]), ..Shape::bare() };
    let malformed = Reason::MalformedMessage;
    for (what, shape, expect) in [
        ("none", Shape::with(&[]), malformed),
        ("no content type", Shape::with(std::slice::from_ref(&digest)), malformed),
        ("no digest", Shape::with(std::slice::from_ref(&kind)), malformed),
        (
            "another content type",
            Shape::with(&[attribute(TYPE, &[&oid(GM[1])]), digest.clone()]),
            malformed,
        ),
        (
            "two content types",
            Shape::with(&[digest.clone(), attribute(TYPE, &[&data, &data])]),
            malformed,
        ),
        (
            "two digests",
            Shape::with(&[
                kind.clone(),
                digest.clone(),
                attribute(DIGEST, &[&tlv(4, &[&[9; 32]])]),
            ]),
            malformed,
        ),
        (
            "a short digest",
            Shape::with(&[kind.clone(), attribute(DIGEST, &[&tlv(4, &[&[1; 31]])])]),
            Reason::DigestMismatch,
        ),
        ("twice the same", Shape::with(&[kind.clone(), kind.clone(), digest.clone()]), malformed),
        ("not in DER's order", reversed, malformed),
        ("too many", Shape::with(&many), malformed),
        ("another version", Shape { version: 3, ..good.clone() }, malformed),
        ("another digest", Shape { digest: "2.16.840.1.101.3.4.2.1", ..good.clone() }, malformed),
        (
            "a scheme of the other family",
            Shape { scheme: "1.2.840.10045.4.3.2", ..good.clone() },
            Reason::SignatureInvalid,
        ),
    ] {
        assert_eq!(reason(&shape.build(&bench), &bench.peer()), Err(expect), "{what}");
    }
}

#[test]
fn the_callers_certificate_is_found_behind_another_of_the_same_name() {
    let bench = Bench::new("SM2");
    for (certificates, expect) in [
        (&["twin.der", "me.der"][..], Ok(BODY.to_vec())),
        (&["twin.der"], Err(Reason::SignatureInvalid)),
        (&[], Err(Reason::SignatureInvalid)),
    ] {
        let message = Shape { certificates, ..Shape::bare() }.build(&bench);
        assert_eq!(reason(&message, &bench.peer()), expect, "{certificates:?}");
    }
}

/// One signed message for the laws, and who may open it.
fn sample() -> &'static (Vec<u8>, PeerCertificate) {
    static SAMPLE: OnceLock<(Vec<u8>, PeerCertificate)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let bench = Bench::new("prime256v1");
        (bench.signed(""), bench.peer())
    })
}

#[test]
fn a_message_that_is_cut_anywhere_is_malformed() {
    let (message, peer) = sample();
    for len in 0..message.len() {
        let cut = &message[..len];
        assert_eq!(reason(cut, peer), Err(Reason::MalformedMessage), "{len}");
    }
}

#[test]
fn no_changed_byte_opens_anything_but_what_was_signed() {
    let (message, peer) = sample();
    for at in 0..message.len() {
        for flip in [1, 0x20, 0x80, 0xff] {
            let mut message = message.clone();
            message[at] ^= flip;
            if let Ok(opened) = verify(&message, peer) {
                assert_eq!(opened, BODY, "byte {at}");
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(verify(&bytes, &sample().1).is_err());
    }

    #[test]
    fn random_bytes_within_a_message_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..2_000,
    ) {
        let (message, peer) = sample();
        let at = at.min(message.len());
        let end = (at + bytes.len()).min(message.len());
        let mut message = message.clone();
        message.splice(at..end, bytes.iter().copied());
        if let Ok(opened) = verify(&message, peer) {
            prop_assert_eq!(opened, BODY);
        }
        drop(cms::SignerInfo::read(&bytes));
    }
}
