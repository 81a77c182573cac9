//! The files of tests/vectors/grpc and tests/vectors/fuzz/grpc_message: requests that the fuzzer
//! starts from, and what it found. A file's name begins with what becomes of it.

use super::*;
use crate::contract::tests::money::discounted;
use prost::Message as _;
use std::{fs, path::PathBuf};

fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// A valid request of each shape.
fn seeds() -> Vec<(&'static str, pb::InvoiceDraft)> {
    let with = |mut draft: pb::InvoiceDraft, change: Change| {
        change(&mut draft);
        draft
    };
    let paper = |draft: &mut pb::InvoiceDraft| draft.kind = pb::InvoiceKind::SpecialPaper.into();
    vec![
        ("ok-blue", sample()),
        ("ok-blue-eight-lines", sample::draft_with_lines("T-1", SELLER, 8)),
        ("ok-blue-special", special()),
        ("ok-blue-paper", with(special(), paper)),
        (
            "ok-blue-discount",
            with(sample(), |draft| {
                discounted(draft);
                draft.lines[1].amount_fen /= 2;
                draft.lines[1].tax_fen /= 2;
                total_up(draft);
            }),
        ),
        ("ok-blue-differential", differential()),
        ("ok-blue-zero-rate", with(sample(), |draft| put_rate(draft, 0, 0))),
        (
            "ok-blue-exempt",
            with(sample(), |draft| {
                put_rate(draft, 0, 0);
                draft.lines[0].zero_rate_kind = pb::ZeroRateKind::Exempt.into();
                draft.lines[0].preference = true;
                draft.lines[0].preference_text = "免税".into();
            }),
        ),
        ("ok-red", red_of(sample())),
        ("ok-red-special", red_of(special())),
    ]
}

#[test]
fn the_seeds_are_the_samples() {
    let mut stale = Vec::new();
    let renewed = std::env::temp_dir();
    for (name, draft) in seeds() {
        let name = format!("{name}.bin");
        let expect = pb::IssueInvoiceRequest { draft: Some(draft) }.encode_to_vec();
        if fs::read(directory("grpc").join(&name)).ok().as_ref() != Some(&expect) {
            fs::write(renewed.join(&name), expect).unwrap();
            stale.push(renewed.join(&name).display().to_string());
        }
    }
    assert!(stale.is_empty(), "cp {} tests/vectors/grpc/", stale.join(" "));
}

/// What becomes of a request: `ok`, or the reason that it is refused for.
fn end(bytes: &[u8], profile: &str) -> String {
    let Ok(request) = pb::IssueInvoiceRequest::decode(bytes) else {
        return Reason::MalformedMessage.name().to_owned();
    };
    let profile = PROFILES.get(profile).unwrap();
    match normalise(request.draft).and_then(|draft| verdict(draft.wire, profile)) {
        Ok(_) => "ok".to_owned(),
        Err(refusal) => refusal.reason.name().to_owned(),
    }
}

#[test]
fn every_vector_ends_in_its_own_reason() {
    let mut count = 0;
    for directory in [directory("grpc"), directory("fuzz/grpc_message")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let expect = name.split_once(['-', '.']).unwrap().0;
            assert_eq!(end(&bytes, "baiwang"), expect, "{name}");
            assert!(!end(&bytes, "aisino").is_empty(), "{name}");
            count += 1;
        }
    }
    assert!(count >= seeds().len());
}
