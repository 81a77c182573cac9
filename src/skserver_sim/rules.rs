//! What a simulated tax server checks before it draws a number. An independent judge of what the
//! proxy sends: it shares no rule with `contract`.
//!
//! Source: docs/domain.md 2.3, 3.5, 3.6, 3.10.

use super::{
    devices::{Device, KindRules},
    wire::{Refused, Request, Row, refuse},
};
use rust_decimal::Decimal;

/// Fields of an issue request.
const HEADER: &[&str] = &[
    "kpzdbs", "fplxdm", "fpqqlsh", "kplx", "tspz", "xhdwsbh", "xhdwmc", "xhdwdzdh", "xhdwyhzh",
    "ghdwsbh", "ghdwmc", "ghdwdzdh", "ghdwyhzh", "qdbz", "fyxm", "hjje", "hjse", "jshj", "bz",
    "skr", "fhr", "kpr", "tzdbh", "yfpdm", "yfphm", "qmcs",
];
/// Fields of a line.
const LINE: &[&str] = &[
    "fphxz", "spmc", "spsm", "ggxh", "dw", "spsl", "dj", "je", "sl", "se", "hsbz", "spbm", "zxbm",
    "yhzcbs", "lslbs", "zzstsgl",
];
/// Lines of an electronic invoice.
const LINES_MAX: usize = 100;

/// An issue request that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) serial: String,
    pub(super) is_red: bool,
    /// hjje, hjse, jshj as written.
    pub(super) totals: [String; 3],
    pub(super) buyer_id: String,
    pub(super) buyer_name: String,
}

/// Checks an issue request against a device and the rules of its kind.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn check(
    request: &Request<'_>,
    device: &Device,
    rules: &KindRules,
) -> Result<Wanted, Refused> {
    let row = request.fields(HEADER)?;
    let serial = row.short("fpqqlsh", 20)?;
    if serial.is_empty() || !serial.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return refuse("4100", "fpqqlsh must be 1 to 20 letters and digits");
    }
    let seller = (row.text("xhdwsbh"), row.text("xhdwmc"));
    if seller != (device.taxpayer_id.as_str(), device.taxpayer_name.as_str()) {
        return refuse("-10315", "the seller is not the device's taxpayer");
    }
    for name in ["xhdwdzdh", "xhdwyhzh", "ghdwmc", "ghdwdzdh", "ghdwyhzh"] {
        row.short(name, 100)?;
    }
    for (name, bytes_max) in [("bz", 230), ("skr", 8), ("fhr", 8), ("kpr", 8), ("tzdbh", 16)] {
        row.short(name, bytes_max)?;
    }
    if row.text("ghdwmc").is_empty() || row.text("kpr").is_empty() {
        return refuse("4100", "ghdwmc and kpr must not be empty");
    }
    if !matches!(row.text("ghdwsbh").len(), 0 | 15..=20) {
        return refuse("-10322", "ghdwsbh has 15 to 20 characters or none");
    }
    row.one_of("qdbz", &["0", "1"])?;
    let is_red = row.one_of("kplx", &["0", "1"])? == "1";
    if is_red == row.text("yfpdm").is_empty() || is_red == row.text("yfphm").is_empty() {
        return refuse("9997", "yfpdm and yfphm stand in red invoices and no others");
    }
    money(&row, rules, is_red)?;
    Ok(Wanted {
        serial: serial.to_owned(),
        is_red,
        totals: ["hjje", "hjse", "jshj"].map(|name| row.text(name).to_owned()),
        buyer_id: row.text("ghdwsbh").to_owned(),
        buyer_name: row.text("ghdwmc").to_owned(),
    })
}

fn money(row: &Row<'_>, rules: &KindRules, is_red: bool) -> Result<(), Refused> {
    let (amount, tax, total) = (row.yuan("hjje")?, row.yuan("hjse")?, row.yuan("jshj")?);
    let lines = row.groups("fyxm", LINE)?;
    if !(1..=LINES_MAX).contains(&lines.len()) {
        return refuse("9997", format!("{} lines", lines.len()));
    }
    let (mut amounts, mut taxes) = (Decimal::ZERO, Decimal::ZERO);
    for line in &lines {
        let (je, se) = self::line(line, rules)?;
        amounts += je;
        taxes += se;
    }
    if amounts != amount || total != amount + tax {
        return refuse("9997", "the totals are not the sums");
    }
    if (taxes - tax).abs() > Decimal::new(127, 2) {
        return refuse("9997", "hjse is more than 1.27 away from its lines");
    }
    if amount.is_zero() || amount.is_sign_negative() != is_red {
        return refuse("9997", "the sign of the totals is wrong");
    }
    if rules.single_limit.is_some_and(|limit| amount.abs() > limit) {
        return refuse("-10306", "above the limit of a single invoice");
    }
    Ok(())
}

/// Amount and tax of a line.
fn line(row: &Row<'_>, rules: &KindRules) -> Result<(Decimal, Decimal), Refused> {
    row.one_of("fphxz", &["0", "1", "2"])?;
    row.one_of("hsbz", &["0"])?;
    row.one_of("yhzcbs", &["0", "1"])?;
    row.one_of("lslbs", &["", "0", "1", "2", "3"])?;
    for (name, bytes_max) in [("spmc", 92), ("ggxh", 40), ("dw", 22), ("zxbm", 20)] {
        row.short(name, bytes_max)?;
    }
    let code = row.text("spbm");
    if code.len() != 19 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("9997", "spbm has 19 digits");
    }
    let (amount, tax, rate) = (row.yuan("je")?, row.yuan("se")?, row.decimal("sl")?);
    if !rules.rates.contains(&rate) {
        return refuse("-10310", format!("the rate {rate} is not authorised"));
    }
    if (amount * rate - tax).abs() > Decimal::new(6, 2) {
        return refuse("9997", "se is more than 0.06 away from je times sl");
    }
    match (row.text("spsl"), row.text("dj")) {
        ("", "") => Ok((amount, tax)),
        ("", _) | (_, "") => refuse("4100", "spsl and dj stand together or not at all"),
        _ => {
            let product = row.decimal("spsl")?.checked_mul(row.decimal("dj")?);
            let near = product.is_some_and(|it| (it - amount).abs() <= Decimal::new(1, 2));
            if near { Ok((amount, tax)) } else { refuse("9997", "je is not spsl times dj") }
        }
    }
}
