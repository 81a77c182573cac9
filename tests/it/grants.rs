//! What an operator grants and forbids, as platforms meet it over both edges: each operation for
//! itself, from the next request on.

use crate::{
    legacy::{Caller, PLATFORM, between, house, with},
    product::{Demo, issue, reason, sample},
};
use skproxy::{
    contract::sample::SELLER,
    pb::v1::{self, stock_service_client::StockServiceClient},
};
use tonic::{Status, transport::Channel};
use v1::{
    device_service_client::DeviceServiceClient, invoice_service_client::InvoiceServiceClient,
    red_service_client::RedServiceClient,
};

const OPERATIONS: [&str; 6] = ["issue", "red", "void", "query", "list", "device"];

async fn grant(demo: &Demo, platform: &str, withdrawn: &str) {
    let allowed = OPERATIONS.iter().filter(|operation| **operation != withdrawn);
    let allowed: Vec<_> = allowed.map(|operation| format!("--allow {operation}")).collect();
    let (id, allowed) = (SELLER.taxpayer_id, allowed.join(" "));
    demo.operated(&format!("binding set --platform {platform} --taxpayer {id} {allowed}")).await;
}

fn red(blue: &v1::Invoice) -> v1::InvoiceDraft {
    let draft = blue.draft.clone().unwrap();
    let negated = |line: &v1::InvoiceLine| v1::InvoiceLine {
        amount_fen: -line.amount_fen,
        tax_fen: -line.tax_fen,
        quantity: format!("-{}", line.quantity),
        ..line.clone()
    };
    v1::InvoiceDraft {
        serial: "RED".into(),
        color: v1::InvoiceColor::Red.into(),
        amount_fen: -draft.amount_fen,
        tax_fen: -draft.tax_fen,
        total_fen: -draft.total_fen,
        original_code: blue.code.clone(),
        original_number: blue.number.clone(),
        remark: format!("对应正数发票代码:{}号码:{}", blue.code, blue.number),
        lines: draft.lines.iter().map(negated).collect(),
        ..draft
    }
}

fn said<T>(answer: Result<T, Status>) -> String {
    answer.err().map(|status| reason(&status)).unwrap_or_default()
}

/// Each call with the operation that it takes, and the reason of its refusal; empty for none.
async fn calls(
    channel: &Channel,
    blue: &v1::Invoice,
    serial: &str,
) -> Vec<(&'static str, &'static str, String)> {
    let mut invoices = InvoiceServiceClient::new(channel.clone());
    let mut reds = RedServiceClient::new(channel.clone());
    let mut devices = DeviceServiceClient::new(channel.clone());
    let mut stock = StockServiceClient::new(channel.clone());
    let (taxpayer_id, serial) = (SELLER.taxpayer_id.to_owned(), serial.to_owned());
    let (code, number) = (blue.code.clone(), blue.number.clone());
    let device_id = "DEMO-DEVICE-1".to_owned();
    let draft = Some(sample(&serial));
    let validate = v1::ValidateInvoiceRequest { draft: draft.clone() };
    let of_red = v1::ValidateInvoiceRequest { draft: Some(red(blue)) };
    let check = v1::CheckRedRequest {
        taxpayer_id: taxpayer_id.clone(),
        code: code.clone(),
        number: number.clone(),
    };
    let void = v1::VoidInvoiceRequest {
        taxpayer_id: taxpayer_id.clone(),
        code,
        number,
        reason: "test".into(),
        request_id: serial.clone(),
        amount_fen: None,
    };
    let get = v1::GetInvoiceRequest { taxpayer_id: taxpayer_id.clone(), serial: serial.clone() };
    let resolve = v1::ResolveInvoiceRequest {
        taxpayer_id: taxpayer_id.clone(),
        serial: format!("{serial}R"),
    };
    let list = v1::ListInvoicesRequest {
        taxpayer_id,
        from: "2026-01-01T00:00:00+08:00".into(),
        until: "2099-01-01T00:00:00+08:00".into(),
        cursor: String::new(),
    };
    let kind = 0;
    let monitor = v1::GetMonitorRequest { device_id: device_id.clone(), kind };
    let rates = v1::ListRatesRequest { device_id: device_id.clone() };
    let left = v1::GetStockRequest { device_id: device_id.clone(), kind };
    let listed = match invoices.list_invoices(list).await {
        Ok(page) => page.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    let issued = invoices.issue_invoice(v1::IssueInvoiceRequest { draft }).await;
    vec![
        ("IssueInvoice", "issue", said(issued)),
        ("ValidateInvoice", "issue", said(invoices.validate_invoice(validate).await)),
        ("ValidateInvoice, red", "red", said(invoices.validate_invoice(of_red).await)),
        ("CheckRed", "red", said(reds.check_red(check).await)),
        ("VoidInvoice", "void", said(invoices.void_invoice(void).await)),
        ("GetInvoice", "query", said(invoices.get_invoice(get).await)),
        ("ResolveInvoice", "query", said(invoices.resolve_invoice(resolve).await)),
        ("ListInvoices", "list", said(listed)),
        (
            "DescribeDevice",
            "device",
            said(devices.describe_device(v1::DescribeDeviceRequest { device_id }).await),
        ),
        ("GetMonitor", "device", said(devices.get_monitor(monitor).await)),
        ("ListRates", "device", said(devices.list_rates(rates).await)),
        ("GetStock", "device", said(stock.get_stock(left).await)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_refused_when_its_operation_is_not_granted_and_no_other_is() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(&dir.path().join("demo")).await;
    let mut client = demo.client().await;
    let blue = issue(&mut client, sample("BLUE")).await.unwrap();
    let channel = demo.channel("platform").await;
    for (at, withdrawn) in OPERATIONS.into_iter().chain(["nothing"]).enumerate() {
        grant(&demo, "DEMO-PLATFORM", withdrawn).await;
        for (call, operation, reason) in calls(&channel, &blue, &format!("G{at}")).await {
            let denied = reason == "OPERATION_NOT_ALLOWED";
            assert_eq!(denied, operation == withdrawn, "{call} without {withdrawn}: {reason}");
        }
    }
    // What is bound already is answered whatever is granted now.
    grant(&demo, "DEMO-PLATFORM", "issue").await;
    assert_eq!(issue(&mut client, sample("BLUE")).await.unwrap(), blue);
    // The first withdrawal refused an issue, so nothing was spent on it.
    assert_eq!(demo.end().await["issued"], 8, "the demo's own, BLUE, and G1 to G6");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_interface_knows_the_same_grants() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(&dir.path().join("demo")).await;
    let caller = Caller::of(&demo, &rustls::version::TLS13);
    let days = ("<cxfs>0</cxfs><cxtj>0500000001110000000100000009", "");
    let today = "<cxfs>1</cxfs><cxtj>2026010120260102";
    for (at, withdrawn) in OPERATIONS.into_iter().chain(["nothing"]).enumerate() {
        grant(&demo, PLATFORM, withdrawn).await;
        let serial = format!("LEGACY100{at}");
        let issue = [("LEGACY0001", serial.as_str())];
        let of_red = [("LEGACY0001", "RED"), ("<kplx>0", "<kplx>1")];
        for (name, changes, operation) in [
            ("server_10008_gbk.xml", &issue[..], "issue"),
            ("server_10008_gbk.xml", &of_red[..], "red"),
            ("ask_FPCX_gbk.xml", &[], "query"),
            ("ask_10010_gbk.xml", &[], "query"),
            ("ask_10010_gbk.xml", &[(days.0, today)], "list"),
            ("ask_10005_gbk.xml", &[], "device"),
            ("ask_FPKCCX_gbk.xml", &[], "device"),
            ("ask_20002_gbk.xml", &[], "device"),
            ("ask_DJXXCX_gbk.xml", &[], "device"),
            ("ask_SQSLCX_gbk.xml", &[], "device"),
            ("ask_JKXXCX_gbk.xml", &[], "device"),
        ] {
            let answer = caller.post("/SKServer/SKDo", &with(name, changes)).await;
            let text = String::from_utf8_lossy(&answer);
            let denied = text.contains("OPERATION_NOT_ALLOWED");
            assert_eq!(denied, operation == withdrawn, "{name} without {withdrawn}: {text}");
        }
    }
    // A void is judged where it is decided, so there must be something to void.
    let issue = with("server_10008_gbk.xml", &[("LEGACY0001", "LEGACY2000")]);
    let issued = caller.post("/SKServer/SKDo", &issue).await;
    let (code, number) = (between(&issued, "fpdm"), between(&issued, "fphm"));
    let void = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><business id=\"10009\" comment=\"\">\
         <body yylxdm=\"1\"><kpzdbs>{}~~000000000001</kpzdbs><fplxdm>026</fplxdm>\
         <zflx>1</zflx><fpdm>{code}</fpdm><fphm>{number}</fphm><zfr>A</zfr></body></business>",
        SELLER.taxpayer_id
    );
    for (withdrawn, expect) in [("void", "OPERATION_NOT_ALLOWED"), ("red", "VOID_NOT_ALLOWED")] {
        grant(&demo, PLATFORM, withdrawn).await;
        let answer = caller.post("/SKServer/SKDo", void.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(expect), "without {withdrawn}: {text}");
    }
    demo.end().await;
}

/// The seller's issues and those of another colour or kind, while it is forbidden something.
#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_taxpayer_issues_nothing_of_what_is_forbidden_until_it_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(&dir.path().join("demo")).await;
    let mut client = demo.client().await;
    let set = format!("taxpayer set --id {} --reason test", SELLER.taxpayer_id);
    for (at, (options, forbidden)) in [
        ("--forbid-all", true),
        ("--forbid roll", false),
        ("--forbid e-normal --forbid roll", true),
        ("", false),
    ]
    .into_iter()
    .enumerate()
    {
        let words = format!("{set} {options}");
        let set = demo.operated(words.trim_end()).await;
        let all = set["taxpayer"]["forbidden"].as_bool().unwrap();
        assert_eq!(all, options == "--forbid-all", "{set}");
        let issued = issue(&mut client, sample(&format!("F{at}"))).await;
        let said = issued.as_ref().err().map(reason).unwrap_or_default();
        assert_eq!(said == "TAXPAYER_FORBIDDEN", forbidden, "{options}: {issued:?}");
        assert_eq!(issued.is_err(), forbidden, "{options}");
    }
    assert_eq!(demo.end().await["issued"], 3);
}
