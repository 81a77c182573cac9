//! Profiles: the embedded ones parse, and a wrong one says where and what.

use super::{load::EMBEDDED, *};
use crate::refusal::{Reason, Severity};

#[test]
fn the_embedded_profiles_parse_and_the_first_is_the_default() {
    let profiles = Profiles::embedded();
    assert_eq!(profiles.names().collect::<Vec<_>>(), [DEFAULT_PROFILE, "aisino", "leqi"]);
    assert_eq!(profiles.get("baiwang").unwrap().cipher.length, 112);
    assert_eq!(profiles.get("aisino").unwrap().cipher.length, 108);
    assert!(profiles.get("Baiwang").is_none());
}

/// The default profile with `from` replaced once.
fn changed(from: &str, to: &str) -> String {
    let text = EMBEDDED[0].replacen(from, to, 1);
    assert_ne!(text, EMBEDDED[0], "{from} is not in the profile");
    text
}

#[track_caller]
fn check(from: &str, to: &str, expect: &[&str]) {
    let error = Profile::parse(&changed(from, to)).unwrap_err().to_string();
    for expect in expect {
        assert!(error.contains(expect), "{error}");
    }
}

/// Where the key stands, as a complaint says it.
fn place(line: &str) -> String {
    let at = EMBEDDED[0].lines().position(|text| text.starts_with(line)).unwrap() + 1;
    format!("line {at}, column ")
}

#[test]
fn a_wrong_profile_says_where_and_what() {
    check("version = 1", "version = \"1\"", &["line 4, column 11"]);
    check("[cipher]", "[cipher]\ncolour = 1", &["line ", "unknown field `colour`"]);
    check("drawer = true", "", &["missing field `drawer`"]);
    let day = ["line ", "\"2020-02-30\" is no day"];
    check("from = \"2020-03-01\"", "from = \"2020-02-30\"", &day);
    let severity = place("TAXPAYER_ID_CHECKSUM");
    let unknown = "unknown variant `maybe`";
    check("CHECKSUM = \"warn\"", "CHECKSUM = \"maybe\"", &[&severity, unknown]);
    let name = "no rule's reason is called \"TAXPAYER_ID_CHECK\"";
    check("TAXPAYER_ID_CHECKSUM =", "TAXPAYER_ID_CHECK =", &[&severity, name]);
}

#[test]
fn a_constant_outside_its_range_is_named_with_its_place() {
    let version = ["line 4, column 1: ", "version must be at least 1"];
    check("version = 1", "version = 0", &version);
    let number = place("number = 16");
    check("number = 16", "number = 19", &[&number, "lengths.number must be 1 to 18"]);
    check("lines_max = 100", "lines_max = 0", &["kinds.025.lines_max must be 1 to 2000"]);
    check("lines_max = 100", "lines_max = 2001", &["kinds.025.lines_max must be 1 to 2000"]);
    check("qr_type = \"10\"", "qr_type = \"1\"", &["kinds.026.qr_type must be two digits"]);
    check("[\"13\"]", "[\"3\"]", &["kinds.028.code_suffixes"]);
    check("amount_max_fen = 99", "amount_max_fen = -99", &["amounts.amount_max_fen"]);
    check("max_millionths = 1", "max_millionths = 9_1", &["0 to 1000000"]);
    check("length = 112", "length = 1", &["at least as long as the prefix"]);
    check("exempt_text = \"免税\"", "exempt_text = \"免\"", &["preferences.exempt_text"]);
    let period = ["rates.periods[2] must be a period that ends after it starts"];
    check("\"2027-12-31\"", "\"2020-02-29\"", &period);
    let apart = ["rates.periods[11] must be apart from the other periods"];
    check("\"2017-06-30\"", "\"2019-04-01\"", &apart);
    let line = EMBEDDED[0].lines().position(|text| text.contains("2017-06-30")).unwrap() + 2;
    check("\"2017-06-30\"", "\"2019-04-01\"", &[&format!("line {line}, column 5: ")]);
}

#[test]
fn a_profile_softens_what_may_be_softened_and_nothing_else() {
    let line = place("TAXPAYER_ID_CHECKSUM");
    let set = |text: &str| changed("TAXPAYER_ID_CHECKSUM = \"warn\"", text);
    for (text, reason, severity) in [
        ("", Reason::TaxpayerIdChecksum, Severity::Warn),
        ("TAXPAYER_ID_CHECKSUM = \"refuse\"", Reason::TaxpayerIdChecksum, Severity::Refuse),
        ("REMARK_INVALID = \"off\"", Reason::RemarkInvalid, Severity::Off),
        ("REMARK_INVALID = \"off\"", Reason::QrInvalid, Severity::Warn),
        ("QR_INVALID = \"refuse\"", Reason::QrInvalid, Severity::Refuse),
        ("LINE_TAX_MISMATCH = \"shadow\"", Reason::LineTaxMismatch, Severity::Shadow),
        ("LINE_TAX_MISMATCH = \"refuse\"", Reason::TotalTaxMismatch, Severity::Refuse),
    ] {
        let profile = Profile::parse(&set(text)).unwrap();
        assert_eq!(profile.severity.of(reason), severity, "{text}");
    }
    for (text, expect) in [
        ("LINE_TAX_MISMATCH = \"off\"", "severity.LINE_TAX_MISMATCH must be \"refuse\" or"),
        ("LINE_TAX_MISMATCH = \"warn\"", "since amounts must add up"),
        ("TOTAL_SUM_MISMATCH = \"shadow\"", "TOTAL_SUM_MISMATCH always refuses"),
        ("NO_NUMBERS = \"off\"", "NO_NUMBERS always refuses"),
        ("remark_invalid = \"off\"", "no rule's reason is called"),
    ] {
        let error = Profile::parse(&set(text)).unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains(&line), "{text}: {error}");
    }
}

#[test]
fn an_operator_s_profile_is_added_or_takes_the_embedded_one_s_place() {
    let own = changed("name = \"baiwang\"", "name = \"own\"");
    let stricter = changed("number = 16", "number = 15");
    let files = [("own.toml", own.as_str()), ("baiwang.toml", &stricter)];
    let profiles = Profiles::with_files(files).unwrap();
    assert_eq!(profiles.names().collect::<Vec<_>>(), ["baiwang", "aisino", "leqi", "own"]);
    assert_eq!(profiles.get("baiwang").unwrap().lengths.number, 15);
}

#[test]
fn every_bad_file_is_named() {
    let files = [
        ("a.toml", "name = 1"),
        ("b.toml", EMBEDDED[0]),
        ("c.toml", EMBEDDED[0]),
        ("d.toml", &changed("version = 1", "version = 0")),
    ];
    let mistakes = Profiles::with_files(files).unwrap_err();
    let said: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("a.toml: TOML parse error at line 1, column 8"), "{}", said[0]);
    assert_eq!(said[1], "c.toml: the profile \"baiwang\" stands in b.toml already");
    assert_eq!(said[2], "d.toml: line 4, column 1: version must be at least 1");
}

#[test]
fn a_code_tells_its_kind() {
    use crate::model::Kind;
    let profile = &Profiles::embedded();
    let profile = profile.get("baiwang").unwrap();
    for (kind, code, expect) in [
        (Kind::ENormal, "044002600111", true),
        (Kind::ENormal, "044002600112", true),
        (Kind::ENormal, "044002600113", false),
        (Kind::ENormal, "04400260011", false),
        (Kind::ENormal, "04400260o111", false),
        (Kind::ESpecial, "044002600113", true),
        (Kind::SpecialPaper, "4400260001", true),
        (Kind::SpecialPaper, "044002600111", false),
        (Kind::NormalPaper, "4400260001", true),
        (Kind::NormalPaper, "044002600104", true),
        (Kind::Roll, "044002600107", true),
    ] {
        assert_eq!(profile.kind(kind).fits_code(code), expect, "{kind:?} {code}");
    }
}

#[test]
fn a_paper_invoice_with_more_lines_than_its_face_has_a_list() {
    use crate::model::Kind;
    let profiles = Profiles::embedded();
    let profile = profiles.get("baiwang").unwrap();
    for (kind, count, expect) in [
        (Kind::SpecialPaper, 8, false),
        (Kind::SpecialPaper, 9, true),
        (Kind::NormalPaper, 2000, true),
        (Kind::ENormal, 9, false),
        (Kind::Roll, 9, false),
    ] {
        assert_eq!(profile.needs_list(kind, count), expect, "{kind:?} {count}");
    }
}
