//! The independent checker. It believes the client's ledger alone and looks for: an acknowledged
//! invoice that is lost or changed, a number given twice, an unexplained gap, a doubt that nothing
//! resolves, and whatever `verify` and the device's own memory contradict.

use crate::{
    ledger::{self, Answer, Facts, Invoice, Known, Ledger},
    world::{DEVICE_CODE, Live, SOFTWARE_CODE, World},
};
use prost::Message as _;
use skproxy::{
    convert,
    model::{PlatformNo, RequestKey, Serial, TaxpayerNo},
    pb::v1 as pb,
    refusal,
    registry::Device,
    signer::{RandomFaults, verify_independently},
    store::{embedded, verify},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Refusals that spend nothing and that an honest proxy may give here.
const HARMLESS: [&str; 5] =
    ["NOT_ISSUED", "SERIAL_CLOSED", "DEVICE_UNAVAILABLE", "STORE_FULL", "OVERLOADED"];

/// Opens the world again and checks everything that its ledger says. What is learnt is added to the
/// ledger, so that the next check holds the proxy to it. Gives the problems found.
pub(crate) fn check(world: &World) -> Vec<String> {
    let known = ledger::read(&fs::read_to_string(world.ledger()).unwrap_or_default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut problems = Vec::new();
    let found = runtime.block_on(ask(world, &known, &mut problems));
    if let Some(issued) = found {
        let (issued, voided) = issued;
        numbers(world, &issued, &mut problems);
        verified(world, (issued.len() - voided, voided), &mut problems);
    }
    problems
}

async fn ask(
    world: &World,
    known: &Known,
    problems: &mut Vec<String>,
) -> Option<(BTreeMap<String, Invoice>, usize)> {
    let live = match world.enter(RandomFaults { seed: 0, per_mille: 0 }).await {
        Ok(live) => live,
        Err(why) => {
            problems.push(format!("it does not start: {why}"));
            return None;
        }
    };
    if let Err(why) = live.settle().await {
        problems.push(why);
    }
    let ledger = Ledger::open(&world.ledger());
    let (mut issued, mut voided) = (BTreeMap::new(), 0);
    for (serial, facts) in known {
        match ask_one(&live, serial, facts, (&ledger, problems)).await {
            Answer::Issued(invoice) => drop(issued.insert(serial.clone(), invoice)),
            Answer::Voided(invoice, _) => {
                voided += 1;
                issued.insert(serial.clone(), invoice);
            }
            _ => {}
        }
    }
    live.leave().await;
    Some((issued, voided))
}

/// What a serial has become, after every way of asking for it.
async fn ask_one(
    live: &Live,
    serial: &str,
    facts: &Facts,
    (ledger, problems): (&Ledger, &mut Vec<String>),
) -> Answer {
    let mut problem = |what: &str| problems.push(format!("{serial}: {what}, {facts:?}"));
    let twice = facts.issued.len() > 1 || facts.voided.len() > 1;
    if twice || (facts.closed && !facts.issued.is_empty()) {
        problem("it was told two things");
    }
    let odd = facts.refused.iter().any(|reason| !HARMLESS.contains(&reason.as_str()));
    if odd || !facts.wrong.is_empty() {
        problem("it was told something odd");
    }
    let end = live.resolve(serial).await;
    match &end {
        Answer::Issued(invoice) | Answer::Voided(invoice, _) => {
            let replay = live.issue(serial).await;
            let query = live.query(serial).await;
            if facts.closed || facts.issued.iter().any(|told| told != invoice) {
                problem(&format!("it is another one now: {end:?}"));
            }
            if replay != end || query != end {
                problem(&format!("a replay gives {replay:?}, a query {query:?}, not {end:?}"));
            }
            let at = if let Answer::Voided(_, at) = &end { Some(at) } else { None };
            if facts.voided.first().is_some_and(|told| at != Some(told)) {
                problem(&format!("its void is lost or another one now: {end:?}"));
            }
            if at.is_some() && live.void(serial, invoice).await != end {
                problem("voiding it again gives something else");
            }
        }
        Answer::Closed if facts.issued.is_empty() => {}
        other => problem(&format!("resolving it gives {other:?}")),
    }
    let news = matches!(end, Answer::Voided(..)) && facts.voided.is_empty();
    if news || (facts.issued.is_empty() && !facts.closed) {
        ledger.told(serial, &end);
    }
    end
}

/// No number twice, none left out, and the device has issued what we have.
fn numbers(world: &World, issued: &BTreeMap<String, Invoice>, problems: &mut Vec<String>) {
    let mut by_code: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for (serial, invoice) in issued {
        let number = invoice.number.parse().unwrap();
        if !by_code.entry(&invoice.code).or_default().insert(number) {
            problems.push(format!("{serial}: number {number} is given twice"));
        }
        let code = if serial.starts_with('D') { DEVICE_CODE } else { SOFTWARE_CODE };
        if invoice.code != code {
            problems.push(format!("{serial}: it has code {}", invoice.code));
        }
    }
    for (code, numbers) in &by_code {
        if !numbers.iter().copied().eq((1..).take(numbers.len())) {
            problems.push(format!("{code}: there is a gap in {numbers:?}"));
        }
    }
    let ours = by_code.remove(DEVICE_CODE).unwrap_or_default();
    let theirs = drawn(world);
    if theirs != ours.iter().copied().collect::<Vec<_>>() {
        problems.push(format!("the device issued {theirs:?}, we have {ours:?}"));
    }
}

/// The numbers that the simulated device remembers, ascending, each as often as it issued it.
fn drawn(world: &World) -> Vec<u32> {
    let path = world.device().join("ukey-1.device.jsonl");
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let numbers = lines.filter_map(|line| line.get("Issued")?.get("number")?.as_u64());
    let mut numbers: Vec<_> = numbers.map(|number| u32::try_from(number).unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn verified(world: &World, known: (usize, usize), problems: &mut Vec<String>) {
    match verify::verify(&world.options(), verify::Subject::DataDirectory, &signature) {
        Ok(findings) => {
            let counts = (findings.issued, findings.voided, findings.open);
            if counts != (convert::len_u64(known.0), convert::len_u64(known.1), 0) {
                problems.push(format!("verify counts {counts:?}, we know {known:?}"));
            }
            problems.extend(findings.problems.into_iter().map(|text| format!("verify: {text}")));
        }
        Err(error) => problems.push(format!("verify: {}", refusal::chain(&error))),
    }
}

/// The signature over the record, by the implementation that did not make it.
pub(crate) fn signature(device: &Device, _: &[u8], invoice: &pb::Invoice) -> Result<(), String> {
    let record = pb::Invoice {
        check_code: String::new(),
        cipher_text: String::new(),
        qr_text: String::new(),
        signature_algorithm: 0,
        signature: Vec::new(),
        signer_key: Vec::new(),
        ..invoice.clone()
    };
    let (key, record) = (&device.public_key, record.encode_to_vec());
    if invoice.signer_key != convert::sha256(key) {
        return Err("it names another key".into());
    }
    let good =
        verify_independently(invoice.signature_algorithm(), key, &record, &invoice.signature);
    good.then_some(()).ok_or_else(|| "its signature is wrong".into())
}

/// Opens the books alone, without keys and signers, and looks for what the ledger says was issued.
pub(crate) fn look(world: &World, known: &Known) -> Vec<String> {
    look_in(&world.options(), known)
}

/// The same, wherever the books are.
pub(crate) fn look_in(options: &embedded::Options, known: &Known) -> Vec<String> {
    let opened = match embedded::open(options) {
        Ok(opened) => opened,
        Err(error) => return vec![format!("it does not open: {}", refusal::chain(&error))],
    };
    let mut problems: Vec<_> = opened.report.read_only.into_iter().collect();
    for (serial, facts) in known {
        let Some(invoice) = facts.issued.first() else { continue };
        let key = RequestKey {
            platform: PlatformNo(1),
            taxpayer: TaxpayerNo(1),
            serial: Serial::parse(serial).unwrap(),
        };
        let found = opened.books.find(&key);
        let bytes = found.ok().flatten().and_then(|(_, found)| found?.invoice());
        if bytes.map(|bytes| convert::hex(&convert::sha256(&bytes))).as_ref()
            != Some(&invoice.bytes)
        {
            problems.push(format!("{serial}: lost or changed"));
        }
    }
    problems
}
