//! The pages: complete, in both languages, and the manual says the same.

use super::*;

#[test]
fn every_reason_has_one_page_in_the_order_of_the_enum() {
    let pages: Vec<_> = pages().map(|page| page.reason).collect();
    assert_eq!(pages, Reason::ALL);
}

#[test]
fn every_page_says_everything_in_both_languages() {
    for page in pages() {
        for text in [page.cause, page.caller, page.operator, page.resend.text()] {
            assert!(text.en.is_ascii() || text.en.contains('('), "{}", page.reason);
            assert!(!text.en.is_empty() && !text.zh.is_ascii(), "{}", page.reason);
        }
    }
}

#[test]
fn what_may_be_sent_again_agrees_with_who_is_to_blame() {
    for page in pages() {
        let busy = matches!(page.reason.blame(), Blame::Quota | Blame::Busy);
        if busy {
            assert_eq!(page.resend, Resend::SameSerial, "{}", page.reason);
        }
    }
}

/// After a change of the pages write what this prints to docs/errors.md.
#[test]
fn the_manual_is_what_the_pages_say() {
    let file = include_str!("../../../docs/errors.md");
    assert!(file == catalogue_markdown(), "{}", catalogue_markdown());
}

#[test]
fn a_reason_is_found_however_it_is_spelt() {
    for name in ["SERIAL_CONFLICT", "serial-conflict", " Serial_Conflict "] {
        let text = run(name, Format::Text).unwrap();
        assert!(text.starts_with("SERIAL_CONFLICT  (gRPC ALREADY_EXISTS, legacy 9990/"), "{text}");
        assert!(text.contains("ResolveInvoice"), "{text}");
    }
}

#[test]
fn a_misspelt_reason_suggests_the_nearest() {
    for (name, expect) in [
        ("SERIAL_CONFLIT", "did you mean SERIAL_CONFLICT?"),
        ("no_number", "did you mean NO_NUMBERS?"),
        ("zzzzzzzz", "`explain` lists them"),
        ("", "`explain` lists them"),
    ] {
        let error = run(name, Format::Json).unwrap_err();
        assert!(error.ends_with(expect), "{error}");
    }
    assert!(run(&"票\n".repeat(1000), Format::Text).unwrap_err().len() < 300);
}

#[test]
fn json_is_one_value_with_stable_keys() {
    let value: serde_json::Value =
        serde_json::from_str(&run("LINE_TAX_MISMATCH", Format::Json).unwrap()).unwrap();
    assert_eq!(value["reason"], "LINE_TAX_MISMATCH");
    assert_eq!(value["severity"], "REJECT");
    assert_eq!(value["profile_severities"], serde_json::json!(["refuse", "shadow"]));
    assert_eq!(value["grpc_code"], "INVALID_ARGUMENT");
    assert_eq!(value["legacy_code"], "9209");
    assert_eq!(value["resend"], "AFTER_FIX");
    assert!(value["caller"]["zh"].is_string());
}

#[test]
fn the_list_has_a_line_for_every_reason() {
    let all: serde_json::Value = serde_json::from_str(&list(Format::Json)).unwrap();
    let lines = all.as_array().unwrap();
    assert_eq!(lines.len(), Reason::ALL.len());
    for (line, reason) in lines.iter().zip(Reason::ALL) {
        let mut keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["en", "legacy_code", "reason", "severity", "zh"]);
        assert_eq!(line["reason"], reason.name());
        assert_eq!(line["legacy_code"].as_str(), legacy_code(*reason));
    }
    assert_eq!(list(Format::Text).lines().count(), Reason::ALL.len());
    let limited = lines.iter().find(|line| line["reason"] == "RATE_LIMITED").unwrap();
    assert_eq!(limited["severity"], "STATE");
}

#[test]
fn a_page_says_how_hard_its_rule_is() {
    for (reason, severity, words) in [
        (Reason::TotalSumMismatch, Severity::Reject, "refused\n"),
        (Reason::LineTaxMismatch, Severity::Reject, "refused; a profile may say shadow\n"),
        (Reason::RemarkInvalid, Severity::Reject, "a profile may say warn, shadow, off\n"),
        (Reason::TaxpayerIdChecksum, Severity::Warn, "a profile may say refuse, shadow, off\n"),
        (Reason::QrInvalid, Severity::Warn, "a warning; a profile may say refuse, shadow, off\n"),
        (Reason::PeriodLocked, Severity::State, "refused while the state lasts\n"),
    ] {
        assert_eq!(Severity::of(reason), severity, "{reason}");
        let page = run(reason.name(), Format::Text).unwrap();
        assert!(page.contains(words), "{page}");
    }
}
