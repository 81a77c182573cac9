//! CA mode of the legacy edge over its real port: content that the caller signed, and answers that
//! the proxy signs.

use crate::{
    fake::Mood,
    legacy::{Caller, between, doubtful, house, vector},
    product::{Demo, known},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use skproxy::{listener::HttpApi as _, pb::v1, refusal::Reason};
use std::{fs, path::Path, process::Command};
use v1::outcome::Result as Wire;

/// An envelope of the vectors whose content `openssl cms` wraps, and `change` changes.
fn wrapped(demo: &Demo, name: &str, words: &str, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let text = String::from_utf8(vector(name)).unwrap();
    let plain = between(text.as_bytes(), "content");
    let dir = tempfile::tempdir().unwrap();
    let joined: String = plain.split_whitespace().collect();
    fs::write(dir.path().join("body"), STANDARD.decode(joined).unwrap()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["cms", "-binary", "-outform", "DER", "-in"]).arg(dir.path().join("body"));
    openssl.arg("-out").arg(dir.path().join("message")).args(words.split(' '));
    let output = openssl.current_dir(demo.pki("")).output().expect("the openssl command runs");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    let mut message = fs::read(dir.path().join("message")).unwrap();
    change(&mut message);
    let code = format!("<encryptCode>{}</encryptCode>", between(text.as_bytes(), "encryptCode"));
    let signed = text.replace(&code, "<encryptCode>2</encryptCode>");
    assert_ne!(signed, text);
    signed.replace(plain, &STANDARD.encode(message)).into_bytes()
}

/// What `openssl cms` opens of an answer in CA mode, which the proxy's own key must have signed.
fn opened(demo: &Demo, answer: &[u8]) -> Vec<u8> {
    assert_eq!([between(answer, "encryptCode"), between(answer, "codeType")], ["2", "CA"]);
    let dir = tempfile::tempdir().unwrap();
    let (message, signer) = (dir.path().join("message"), dir.path().join("signer"));
    fs::write(&message, STANDARD.decode(between(answer, "content")).unwrap()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["cms", "-verify", "-binary", "-inform", "DER", "-in"]).arg(&message);
    openssl.arg("-CAfile").arg(demo.pki("ca.pem")).arg("-signer").arg(&signer);
    let output = openssl.output().expect("the openssl command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let der = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
    assert_eq!(der(&signer), der(&demo.pki("legacy-answer.pem")));
    output.stdout
}

const SIGN: &str = "-sign -nodetach -signer legacy.pem -inkey legacy.key";

#[tokio::test(flavor = "multi_thread")]
async fn content_that_the_caller_signed_is_issued_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let caller = Caller::of(&demo, &rustls::version::TLS13);
    let mut client = demo.client_named("legacy").await;
    let last = |message: &mut Vec<u8>| *message.last_mut().unwrap() ^= 1;
    let body = |message: &mut Vec<u8>| {
        let at = message.windows(10).position(|at| at == b"LEGACY0001").unwrap();
        message[at] ^= 1;
    };
    let envelope = "interface_issue_utf8.xml";
    let foreign = "-sign -nodetach -signer platform.pem -inkey platform.key";
    for (reason, bad) in [
        (Reason::SignatureInvalid, wrapped(&demo, envelope, foreign, |_| ())),
        (Reason::SignatureInvalid, wrapped(&demo, envelope, SIGN, last)),
        (Reason::DigestMismatch, wrapped(&demo, envelope, SIGN, body)),
        (Reason::MalformedMessage, wrapped(&demo, envelope, &SIGN.replace("-nodetach ", ""), last)),
        (
            Reason::EncryptionUnsupported,
            wrapped(&demo, envelope, "-encrypt -aes128 legacy.pem", |_| ()),
        ),
    ] {
        let answer = caller.post("/interface", &bad).await;
        assert_ne!(between(&answer, "returnCode"), "0000", "{reason}");
        let said = STANDARD.decode(between(&answer, "returnMessage")).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with(&format!("[{reason}]")), "{reason}: {said}");
        let body = opened(&demo, &answer);
        assert!(between(&body, "RETURNMSG").starts_with(&format!("[{reason}]")), "{reason}");
    }
    assert!(matches!(known(&mut client, "LEGACY0001").await, Wire::Unknown(_)), "nothing is spent");
    for (name, words) in [
        (envelope, SIGN.to_owned()),
        (envelope, format!("{SIGN} -noattr")),
        ("interface_issue_gzip_gbk.xml", SIGN.to_owned()),
    ] {
        let answer = caller.post("/interface", &wrapped(&demo, name, &words, |_| ())).await;
        assert_eq!(between(&answer, "returnCode"), "0000", "{name} {words}");
        let body = opened(&demo, &answer);
        assert_eq!(between(&body, "FP_HM"), "00000002", "{name} {words}");
    }
    assert!(matches!(known(&mut client, "LEGACY0001").await, Wire::Issued(_)));
    assert_eq!(demo.end().await["issued"], 2);
}

#[tokio::test]
async fn without_a_key_for_answers_ca_mode_is_refused_before_anything_happens() {
    let (edge, api, peer) = doubtful(Mood::Doubts);
    let body = vector("interface_issue_cms.xml");
    let told = edge.post(peer, "/interface", body.into()).await.expect("a refusal");
    assert_ne!(between(&told.body, "returnCode"), "0000");
    assert_eq!(between(&told.body, "encryptCode"), "0", "it has to be readable");
    let said = STANDARD.decode(between(&told.body, "returnMessage")).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("[ENCRYPTION_UNSUPPORTED]") && said.contains("answer_cert"), "{said}");
    assert!(api.seen.lock().unwrap().is_empty());
}
