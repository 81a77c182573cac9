//! Settings as operators write them: the annotated example, and every kind of mistake.

use super::{Config, ConfigMistake};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../../deploy/skproxy.toml");
const FILES: [&str; 7] = [
    "server.pem",
    "server.key",
    "platforms-ca.pem",
    "authority-ca.pem",
    "proxy-client.pem",
    "proxy-client.key",
    "passphrase",
];
/// The smallest file that is complete.
const SMALLEST: &str = r#"
    data_dir = "data"
    tls = { server_cert = "server.pem", server_key = "server.key", client_ca = "platforms-ca.pem" }
    upstream = { ca = "authority-ca.pem", cert = "proxy-client.pem", key = "proxy-client.key" }
    key_store = { passphrase_file = "passphrase" }
"#;

/// A folder with every file that the example names, all private.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in FILES {
        let path = dir.path().join(name);
        fs::write(&path, "-").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn load(dir: &Path, text: &str) -> Result<Config, Vec<ConfigMistake>> {
    let path = dir.join("skproxy.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path)
}

/// The smallest file with `line` added has exactly the mistakes `expect` (key, part of the text).
#[track_caller]
fn check(line: &str, expect: &[(&str, &str)]) {
    let dir = folder();
    let mistakes = load(dir.path(), &format!("{line}\n{SMALLEST}")).map(drop).err();
    let mistakes = mistakes.unwrap_or_default();
    assert_eq!(mistakes.len(), expect.len(), "{line}: {mistakes:?}");
    for (mistake, (key, part)) in mistakes.iter().zip(expect) {
        assert_eq!(mistake.key, *key, "{line}");
        assert!(mistake.to_string().contains(part), "{line}: {mistake}");
    }
}

#[test]
fn the_annotated_example_shows_the_defaults() {
    let dir = folder();
    let here = dir.path().display().to_string();
    let example =
        EXAMPLE.replace("/etc/skproxy", &here).replace("/var/lib/skproxy", &format!("{here}/data"));
    let example = load(dir.path(), &example).unwrap();
    let smallest = load(dir.path(), SMALLEST).unwrap();
    assert_eq!(example, smallest);
    assert_eq!(smallest.watermark_path, dir.path().join("data/watermark"));
    assert_eq!(smallest.limits, super::Limits::default());
}

#[test]
fn a_directory_of_profiles_must_be_there() {
    check("profiles_dir = \".\"", &[]);
    check("profiles_dir = \"gone\"", &[("profiles_dir", "gone is no directory")]);
    check("profiles_dir = \"server.pem\"", &[("profiles_dir", "is no directory")]);
    check("profiles_dir = \"\"", &[("profiles_dir", "is missing")]);
}

#[test]
fn what_signs_legacy_answers_is_a_pair_of_files_and_needs_the_port() {
    let answer = |keys: &str| format!("legacy_address = \"127.0.0.1:7\"\nlegacy = {{ {keys} }}");
    let both = "answer_cert = \"server.pem\", answer_key = \"server.key\"";
    check(&answer(both), &[]);
    check(&answer(""), &[]);
    check(&answer("answer_cert = \"server.pem\""), &[("legacy.answer_key", "is missing")]);
    check(&answer("answer_key = \"server.key\""), &[("legacy.answer_cert", "is missing")]);
    let gone = both.replace("server.pem", "gone.pem");
    check(&answer(&gone), &[("legacy.answer_cert", "cannot be read")]);
    check(&format!("legacy = {{ {both} }}"), &[("legacy", "of no use without")]);
}

#[test]
fn what_is_understood_reads_back_as_the_same_settings() {
    let dir = folder();
    let text = format!(
        "ops_address = \"127.0.0.1:9\"\nprofiles_dir = \".\"\nlegacy_address = \"127.0.0.1:7\"
         legacy = {{ answer_cert = \"server.pem\", answer_key = \"server.key\" }}\n{SMALLEST}
         log = {{ format = \"json\", level = \"debug\" }}
         limits = {{ streams_max = 7, connection_age_s = 11, drain_timeout_ms = 13 }}"
    );
    let config = load(dir.path(), &text).unwrap();
    assert_eq!(load(dir.path(), &config.describe()).unwrap(), config);
    assert!(config.describe().contains("connection_age_s = 11"), "{}", config.describe());
}

#[test]
fn each_mistake_names_its_key_and_what_to_do() {
    check("", &[]);
    check("platform_address = \"7443\"", &[("platform_address", "127.0.0.1:7443")]);
    check("ops_address = \"127.0.0.1:7443\"", &[("ops_address", "another port")]);
    check("legacy_address = \"127.0.0.1:7443\"", &[("legacy_address", "another port")]);
    check("legacy_address = \"here\"", &[("legacy_address", "127.0.0.1:7444")]);
    check("legacy_address = \"127.0.0.1:7444\"", &[]);
    check("limits = { streams_max = 0 }", &[("limits.streams_max", "1 to 65536")]);
    check("limits = { queue_len_max = -1 }", &[("limits.queue_len_max", "-1 is out of range")]);
    check("limits = { message_bytes_max = 1 }", &[("limits.message_bytes_max", "65536")]);
    check("limits = { connection_age_s = 1 }", &[("limits.connection_age_s", "10 to 86400")]);
    check("store = { reserve_mib = 0 }", &[("store.reserve_mib", "default is 256")]);
    check("delivery = { batch_max = 1001 }", &[("delivery.batch_max", "1 to 1000")]);
    check("log = { format = \"xml\" }", &[("log.format", "json")]);
    check("log = { level = \"loud\" }", &[("log.level", "trace")]);
    let long = format!("admin_socket = \"/{}\"", "a".repeat(107));
    check(&long, &[("admin_socket", "107 bytes")]);
    check(
        "log = { level = \"loud\", format = \"xml\" }\nstore = { reserve_mib = 0 }",
        &[("store.reserve_mib", ""), ("log.format", ""), ("log.level", "")],
    );
}

#[test]
fn everything_that_is_missing_is_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let keys = |mistakes: Vec<ConfigMistake>| -> Vec<String> {
        mistakes.into_iter().map(|mistake| mistake.key).collect()
    };
    let required = [
        "data_dir",
        "tls.server_cert",
        "tls.server_key",
        "tls.client_ca",
        "upstream.ca",
        "upstream.cert",
        "upstream.key",
        "key_store.passphrase_file",
    ];
    assert_eq!(keys(load(dir.path(), "").unwrap_err()), required);
    // Named, but not there; the data directory is made at the first start.
    assert_eq!(keys(load(dir.path(), SMALLEST).unwrap_err()), required[1..]);
}

#[test]
fn a_secret_that_others_may_read_is_a_mistake() {
    for (name, key, mode, expect) in [
        ("server.key", "tls.server_key", 0o640, true),
        ("server.key", "tls.server_key", 0o604, true),
        ("proxy-client.key", "upstream.key", 0o644, true),
        ("passphrase", "key_store.passphrase_file", 0o620, true),
        ("passphrase", "key_store.passphrase_file", 0o400, false),
        ("server.pem", "tls.server_cert", 0o644, false),
    ] {
        let dir = folder();
        let path: PathBuf = dir.path().join(name);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let mistakes = load(dir.path(), SMALLEST).map(drop).err().unwrap_or_default();
        let found = mistakes.iter().any(|m| m.key == key && m.hint.contains("chmod 600"));
        assert_eq!((found, mistakes.len()), (expect, usize::from(expect)), "{name} {mode:o}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_one_mistake_with_its_place() {
    let dir = folder();
    for (text, part) in [
        ("data_dir = ", "line 1"),
        ("dat_dir = \"x\"", "unknown field `dat_dir`"),
        ("[limits]\nstream_max = 1", "line 2"),
        ("[limits]\nstreams_max = \"1\"", "line 2"),
    ] {
        let mistakes = load(dir.path(), text).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}");
        assert!(mistakes[0].problem.contains(part), "{text}: {}", mistakes[0]);
    }
    let mistakes = Config::load(&dir.path().join("nowhere.toml")).unwrap_err();
    assert!(mistakes[0].problem.contains("cannot be read"), "{}", mistakes[0]);
}

#[test]
fn a_watermark_beside_the_books_is_allowed_but_noted() {
    let dir = folder();
    let noted = |config: &Config, key: &str| config.notes.iter().any(|note| note.key == key);
    let config = load(dir.path(), SMALLEST).unwrap();
    assert!(noted(&config, "watermark_path") && !noted(&config, "ops_address"));
    // /proc is a file system of its own wherever the tests run.
    let text = format!("watermark_path = \"/proc/w\"\nops_address = \"0.0.0.0:1\"\n{SMALLEST}");
    let config = load(dir.path(), &text).unwrap();
    assert!(!noted(&config, "watermark_path") && noted(&config, "ops_address"));
}
