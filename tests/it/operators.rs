//! The operators' commands against a running demo: text for people, one JSON value for programs,
//! and exit codes that a script can rely on.

use crate::product::{Demo, issue, line, reason, sample};
use skproxy::contract::sample::SELLER;
use std::fs;

/// Commands that are done: the words, and what their text holds.
const DONE: &[(&str, &str)] = &[
    ("platform add --id OP-1 --name 示例平台 --cert {cert}", "certificate_key="),
    ("platform add --id OP-2 --name 示例平台", "platform_id=OP-2"),
    ("platform add-certificate --id OP-2 --cert {cert2}", "certificate_key="),
    ("platform list", "platform_id=DEMO-PLATFORM"),
    ("platform show OP-2", "platform_id=OP-2"),
    ("platform show NOBODY", "none"),
    ("taxpayer add --id 91000000TEST000005 --name 示例五 --province 44", "province=44"),
    ("taxpayer list", "name=示例销售有限公司"),
    ("taxpayer show 91000000TEST000005", "name=示例五"),
    ("binding add --platform OP-1 --taxpayer 91000000TEST000005", "platform_id=OP-1"),
    (
        "binding set --platform OP-1 --taxpayer 91000000TEST000005 --allow query --allow issue",
        "operations=OPERATION_ISSUE,OPERATION_QUERY",
    ),
    // Binding twice widens nothing.
    (
        "binding add --platform OP-1 --taxpayer 91000000TEST000005",
        "operations=OPERATION_ISSUE,OPERATION_QUERY",
    ),
    ("binding list", "platform_id=OP-1"),
    (
        "taxpayer set --id 91000000TEST000005 --forbid special-paper --reason notice",
        "forbidden=false  forbidden_kinds=INVOICE_KIND_SPECIAL_PAPER",
    ),
    ("binding show OP-1", "taxpayer_id=91000000TEST000005"),
    (
        "device add --id OP-D --taxpayer 91000000TEST000005 --machine-number 000000000005 \
         --backend software-sm2 --kind e-normal --kind e-special",
        "kinds=INVOICE_KIND_E_NORMAL,INVOICE_KIND_E_SPECIAL",
    ),
    ("device list", "device_id=DEMO-DEVICE-1"),
    ("device show OP-D", "enabled=true"),
    ("device disable OP-D", "enabled=false"),
    ("device enable OP-D", "enabled=true"),
    (
        "stock add --device OP-D --kind e-normal --code 088888888811 --first 00000001 \
         --last 00000010",
        "last=00000010  left=10",
    ),
    ("stock list", "code=088888888811"),
    ("stock show OP-D", "first=00000001"),
    ("route list", "province=*"),
    (
        "route add --province 44 --address {authority} --server-name localhost --receipt-key {key}",
        "province=44",
    ),
    ("series list", "position=1"),
    ("series show OP-D", "left=10"),
    ("invoice open", "none"),
    ("status", "ready=true"),
];

/// Commands that are refused: the words and the reason.
const REFUSED: &[(&str, &str)] = &[
    ("platform add --id OP-2 --name 另一个", "ALREADY_EXISTS"),
    ("platform add --id a_b --name 示例", "FIELD_INVALID"),
    ("platform add-certificate --id OP-2 --cert {cert}", "ALREADY_EXISTS"),
    ("platform add-certificate --id NOBODY --cert {cert2}", "NOT_FOUND"),
    ("taxpayer add --id 1 --name 示例 --province 44", "FIELD_INVALID"),
    ("taxpayer add --id 91000000TEST000006 --name 示例 --province x", "FIELD_INVALID"),
    ("binding add --platform NOBODY --taxpayer 91000000TEST000005", "NOT_FOUND"),
    ("binding set --platform OP-2 --taxpayer 91000000TEST000005 --allow query", "NOT_FOUND"),
    ("taxpayer set --id 91000000TEST000099 --forbid-all --reason notice", "NOT_FOUND"),
    ("device disable NOBODY", "NOT_FOUND"),
    (
        "device add --id X --taxpayer 91000000TEST000005 --machine-number 1 \
         --backend software-p256 --kind e-normal",
        "FIELD_INVALID",
    ),
    (
        "stock add --device DEMO-DEVICE-1 --kind e-normal --code 088888888811 --first 00000010 \
         --last 00000020",
        "SEGMENT_OVERLAP",
    ),
    (
        "stock add --device OP-D --kind e-normal --code 077777777711 --first 00000009 \
         --last 00000001",
        "FIELD_INVALID",
    ),
    // Codes of special invoices (13), and of ten digits, are none of an electronic normal one.
    (
        "stock add --device OP-D --kind e-normal --code 077777777713 --first 00000001 \
         --last 00000009",
        "FIELD_INVALID",
    ),
    (
        "stock add --device OP-D --kind e-normal --code 0777777777 --first 00000001 \
         --last 00000009",
        "FIELD_INVALID",
    ),
    (
        "route add --province 45 --address nowhere --server-name localhost --receipt-key {key}",
        "FIELD_INVALID",
    ),
    ("series unfreeze --device NOBODY --kind e-normal --reason looked --yes", "NOT_FOUND"),
    ("invoice blank-void --claim 999999 --reason gone --yes", "VOID_NOT_ALLOWED"),
];

async fn prepared(dir: &std::path::Path) -> (Demo, impl Fn(&str) -> String) {
    let demo = Demo::start(dir).await;
    let pki = dir.join("pki");
    for name in ["op1", "op2"] {
        let made = line(&format!("certs issue --name {name} --dir {}", pki.display())).await;
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    let values = [
        ("{cert}", pki.join("op1.pem").display().to_string()),
        ("{cert2}", pki.join("op2.pem").display().to_string()),
        ("{key}", dir.join("authority/receipt-key.der").display().to_string()),
        ("{authority}", demo.said("authority_address").to_owned()),
    ];
    let fill = move |words: &str| {
        let filled =
            values.iter().fold(words.to_owned(), |words, (name, value)| words.replace(name, value));
        filled.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    (demo, fill)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_in_text_or_one_json_value_and_says_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (demo, fill) = prepared(dir.path()).await;
    for (words, text) in DONE {
        let ran = demo.operate(&fill(words)).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{words}: {ran:?}");
        assert!(ran.stdout.contains(text), "{words}: {ran:?}");
        if !words.contains(" add") {
            demo.operated(&fill(words)).await;
        }
    }
    for (words, expect) in REFUSED {
        let ran = demo.operate(&fill(words)).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{words}: {ran:?}");
        assert!(ran.stderr.starts_with(&format!("REFUSED {expect}: ")), "{words}: {ran:?}");
        let ran = demo.operate(&format!("{} --format json", fill(words))).await;
        assert_eq!(ran.code, Some(1), "{words}: {ran:?}");
        assert_eq!(ran.json()["refused"]["reason"], *expect, "{words}: {ran:?}");
    }
    // The same in JSON, for what can be done once only.
    let added = demo.operated("platform add --id OP-3 --name 示例平台").await;
    assert_eq!(added["platform"]["platform_id"], "OP-3");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_books_shows_a_plan_and_asks_for_yes() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    for words in [
        "invoice blank-void --claim 1 --reason test",
        "series unfreeze --device DEMO-DEVICE-1 --kind e-normal --reason test",
    ] {
        let ran = demo.operate(words).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{words}: {ran:?}");
        let said = ran.stderr.starts_with("would ") && ran.stderr.contains("--yes");
        assert!(said, "{words}: {ran:?}");
    }
    // An invoice that is issued is not voided as a blank one.
    let ran = demo.operate("invoice blank-void --claim 1 --reason test --yes").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let found = demo.end().await;
    assert_eq!((&found["issued"], &found["voided"]), (&1.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_device_takes_no_new_invoice_until_it_is_enabled() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    demo.operated("device disable DEMO-DEVICE-1").await;
    let refused = issue(&mut client, sample("S1")).await.unwrap_err();
    assert_eq!(reason(&refused), "DEVICE_UNAVAILABLE", "{refused}");
    let status = demo.operated("status").await;
    assert_eq!(status["ready"], false);
    demo.operated("device enable DEMO-DEVICE-1").await;
    assert_eq!(issue(&mut client, sample("S1")).await.unwrap().number, "00000002");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_are_usage_and_a_missing_daemon_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = dir.path().join("nobody.sock").display().to_string();
    for (words, code, text) in [
        ("device", 2, "Usage"),
        ("device enable", 2, "required"),
        ("device add --backend cloud", 2, "cloud"),
        ("invoice blank-void --claim x --reason y", 2, "invalid value"),
        ("status --format yaml", 2, "yaml"),
        ("explain NO_SUCH_REASON", 2, "NO_SUCH_REASON"),
        ("serve --config /nonexistent.toml", 2, "nonexistent"),
    ] {
        let ran = line(words).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{words}: {ran:?}");
        assert!(ran.stderr.contains(text), "{words}: {ran:?}");
    }
    for words in ["status", "platform list", "invoice open"] {
        let ran = line(&format!("{words} --format json --socket {nobody}")).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{words}: {ran:?}");
        assert!(ran.stderr.contains("is `skproxy serve` running"), "{words}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_commands_tell_what_became_of_a_serial() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let (address, path) = (demo.said("platform_address"), dir.path().display());
    let tls = format!(
        "--address {address} --ca {path}/pki/ca.pem --cert {path}/pki/platform.pem \
         --key {path}/pki/platform.key --format json"
    );
    let draft = format!("--draft {path}/draft.json");
    let wrong = dir.path().join("wrong.json");
    let text = fs::read_to_string(dir.path().join("draft.json")).unwrap();
    fs::write(&wrong, text.replace("示例发票", "另一张")).unwrap();
    let asked = |serial: &str| format!("--taxpayer {} --serial {serial}", SELLER.taxpayer_id);
    for (words, code, key) in [
        (format!("issue {draft} --serial C1"), 0, "issued"),
        (format!("issue {draft} --serial C1"), 0, "issued"),
        (format!("issue --draft {} --serial C1", wrong.display()), 1, "refused"),
        (format!("get {}", asked("C1")), 0, "issued"),
        (format!("get {}", asked("C2")), 4, "unknown"),
        (format!("resolve {}", asked("C2")), 1, "closed"),
        (format!("issue {draft} --serial C2"), 1, "refused"),
        (format!("issue {draft} --fresh-serial"), 0, "issued"),
    ] {
        let ran = line(&format!("client {words} {tls}")).await;
        assert_eq!(ran.code, Some(code), "{words}: {ran:?}");
        assert!(ran.json()[key].is_object(), "{words}: {ran:?}");
    }
    assert_eq!(demo.end().await["issued"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_copy_that_verify_knows_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let to = dir.path().join("copy");
    let words = format!("backup --to {}", to.display());
    let made = demo.operated(&words).await;
    assert_eq!(made["path"], to.join("books.db").display().to_string());
    assert!(made["commits"].as_str().unwrap().parse::<u64>().unwrap() > 0, "{made}");
    let refused = demo.operate(&words).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    let said = refused.stderr.starts_with("REFUSED FIELD_INVALID: directory: ");
    assert!(said && refused.stderr.contains("is not empty"), "{refused:?}");
    let text = demo.operate(&format!("backup --to {}", dir.path().join("text").display())).await;
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""), "{text:?}");
    assert!(text.stdout.contains("size_bytes="), "{text:?}");
    let verify = format!("verify --format json --data {}", to.display());
    let found = line(&format!("{verify} --backup")).await;
    assert_eq!((found.code, &found.json()["issued"]), (Some(0), &1.into()), "{found:?}");
    let found = line(&verify).await;
    assert_eq!(found.code, Some(1), "{found:?}");
    let problems = found.json()["problems"].as_array().unwrap().clone();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.as_str().unwrap().starts_with("the watermark is lost"), "{problem}");
    demo.end().await;
}
