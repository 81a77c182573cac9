//! The simulator from outside, over a plain socket: what it takes, what it refuses, what it keeps.

use super::*;
use crate::xml::Charset;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};
use tokio::runtime::Runtime;

/// A request of a hand: golden, not of any client's code.
const GOLDEN: &[u8] = include_bytes!("../../tests/vectors/skserver/issue_10008_gbk.xml");
const DEVICES: &str = include_str!("../../deploy/skserver-sim.toml");

struct House {
    sim: RunningSim,
    options: Options,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let devices = folder.path().join("devices.toml");
    fs::write(&devices, DEVICES).unwrap();
    let options = Options {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        devices,
        state: folder.path().join("new/state.db"),
        tls: None,
        clock: Clock::system(),
    };
    let runtime = Runtime::new().unwrap();
    let sim = runtime.block_on(start(&options)).unwrap();
    House { sim, options, runtime, _folder: folder }
}

impl House {
    fn http(&self, request: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.sim.address).unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer[at + 4..].to_vec())
    }

    /// The text of a device's answer.
    fn device(&self, body: &[u8]) -> String {
        let (status, answer) = self.http("POST /SKServer/SKDo", body);
        assert_eq!(status, 200);
        wire::decoded(&answer).unwrap_or_else(|refused| panic!("{refused:?}"))
    }
}

fn golden() -> String {
    wire::decoded(GOLDEN).unwrap_or_else(|refused| panic!("{refused:?}"))
}

fn code(answer: &str) -> &str {
    let code = answer.split("<returncode>").nth(1).unwrap();
    code.split("</returncode>").next().unwrap()
}

#[test]
fn a_request_made_by_hand_is_issued_once() {
    let house = house();
    let answer = house.device(GOLDEN);
    assert_eq!(code(&answer), "0", "{answer}");
    for part in ["<fpdm>044002600111</fpdm>", "<fphm>00000001</fphm>", "<skm>03", "<ewm>01,10,"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    assert_eq!(code(&house.device(GOLDEN)), "4007", "the same again");
    let other = golden().replace("示例甲", "示例丁");
    assert_eq!(code(&house.device(&Charset::Gbk.encode(&other))), "9990", "other content");
    let (_, issued) = house.http("GET /sim/issued", b"");
    let issued: serde_json::Value = serde_json::from_slice(&issued).unwrap();
    assert_eq!(issued.as_array().unwrap().len(), 1);
    assert_eq!(issued[0]["number"], 1);
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_code_and_draws_nothing() {
    let house = house();
    for (from, to, expect) in [
        ("<kplx>0</kplx>", "", "4100"),
        ("<kplx>0</kplx>", "<kplx>2</kplx>", "4100"),
        ("<kplx>0</kplx>", "<kplx>0</kplx><kplx>0</kplx>", "4100"),
        ("<kplx>0</kplx>", "<kplx>0</kplx><zsfs>0</zsfs>", "4100"),
        ("<kplx>0</kplx>", "<kplx>1</kplx>", "9997"),
        ("<hsbz>0</hsbz>", "<hsbz>1</hsbz>", "4100"),
        ("count=\"2\"", "count=\"3\"", "4100"),
        ("xh=\"2\"", "xh=\"1\"", "4100"),
        ("yylxdm=\"1\"", "yylxdm=\"2\"", "4100"),
        ("<je>100.00</je>", "<je>100.0</je>", "4100"),
        ("<je>100.00</je>", "<je>100.01</je>", "9997"),
        ("<hjse>78.00</hjse>", "<hjse>78.01</hjse>", "9997"),
        ("<se>13.00</se>", "<se>13.07</se>", "9997"),
        ("<dj>100.00</dj>", "<dj></dj>", "4100"),
        ("<dj>100.00</dj>", "<dj>1e2</dj>", "4100"),
        ("<sl>0.13</sl>", "<sl>0.17</sl>", "-10310"),
        ("<xhdwmc>示例销售", "<xhdwmc>另一销售", "-10315"),
        ("<kpr>示例甲</kpr>", "<kpr>示例甲乙丙</kpr>", "4100"),
        ("<bz>示例", "<bz>&#134071;", "-10321"),
        ("S0000000000000000001", "S00000000000000000012", "4100"),
        ("<ghdwsbh>91000000TEST000002", "<ghdwsbh>91", "-10322"),
        ("<fplxdm>026", "<fplxdm>028", "09d110"),
        ("<kpzdbs>91000000TEST000001", "<kpzdbs>91000000TEST000009", "9997"),
        ("id=\"10008\"", "id=\"10007\"", "9996"),
        ("encoding=\"gbk\"", "encoding=\"utf-8\"", "9996"),
        ("</business>", "", "9996"),
    ] {
        let broken = golden().replacen(from, to, 1);
        assert_ne!(broken, golden(), "{from}");
        assert_eq!(code(&house.device(&Charset::Gbk.encode(&broken))), expect, "{from} => {to}");
    }
    assert_eq!(house.http("GET /sim/issued", b"").1, b"[]");
    let single = golden().replace("100.00", "100000.01");
    let single = single.replace("<se>13.00", "<se>13000.00").replace("600.00", "100500.01");
    let single = single.replace("<hjse>78.00", "<hjse>13065.00").replace("678.00", "113565.01");
    assert_eq!(code(&house.device(&Charset::Gbk.encode(&single))), "-10306");
}

#[test]
fn faults_come_by_an_admin_call_and_wrong_ones_are_refused() {
    let house = house();
    let (status, _) = house.http("POST /sim/faults", br#"{"script": ["busy", "10004/http-500"]}"#);
    assert_eq!(status, 200);
    let (_, pending) = house.http("GET /sim/faults", b"");
    assert!(String::from_utf8_lossy(&pending).contains("10004/http-500"));
    assert_eq!(code(&house.device(GOLDEN)), "-10314");
    for body in ["", "{}x", r#"{"script": ["sleep"]}"#, r#"{"scripts": []}"#] {
        let (status, answer) = house.http("POST /sim/faults", body.as_bytes());
        assert_eq!(status, 400, "{body}");
        assert!(String::from_utf8_lossy(&answer).contains("error"), "{body}");
    }
    for (request, expect) in
        [("GET /SKServer/SKDo", 405), ("DELETE /sim/faults", 405), ("POST /", 404)]
    {
        assert_eq!(house.http(request, b"").0, expect, "{request}");
    }
}

#[test]
fn one_process_at_a_time_has_the_state_file() {
    let house = house();
    let again = house.runtime.block_on(start(&house.options));
    assert!(matches!(again, Err(SimError::State { .. })), "{again:?}");
}

#[test]
fn wrong_settings_are_told_before_it_serves() {
    let house = house();
    let with = |devices: &str| {
        fs::write(&house.options.devices, devices).unwrap();
        house.runtime.block_on(start(&house.options)).map(drop)
    };
    assert!(matches!(with("device = 1"), Err(SimError::Devices { .. })));
    fs::remove_file(&house.options.devices).unwrap();
    let gone = house.runtime.block_on(start(&house.options)).map(drop);
    assert!(matches!(gone, Err(SimError::File { .. })), "{gone:?}");
}
