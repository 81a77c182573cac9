//! docs/legacy.md, printed from the tables that the decoder and the printers follow, so the manual
//! cannot say anything else.

use super::{
    ask,
    codes::{Codes, codes},
    dialect::{Dialect, Doubt},
    request::{BUSINESS, INTERFACE, Operation},
    row::{Put, Row},
    table::{ASK, HEADER, LINE},
};
use crate::refusal::Reason;
use std::fmt::Write as _;

const HEAD: &str = "# Legacy XML: conversion table (旧接口转换表)

Generated from `src/legacy`; a test compares. Reconstructed from public contracts (docs/domain.md);
no conformity to unpublished specifications is claimed.
由源码生成；依据公开资料重建，不声称符合未公开的规范。

Messages are read strictly: the declared encoding (utf-8, gbk, gb2312 as gbk, gb18030) must be true,
an element that no row names is refused with its path, so is one given twice, and so is an amount
that cannot be kept exactly. Nothing is rounded, converted or guessed. `size` and `count` may be
missing or empty; a number that is not that of the elements is `LINE_COUNT`. Comments may stand
between elements, not within text. A value of nothing but white space is empty; any other is taken
as it is. A device that is named must be one of the taxpayer's; another is never taken instead. Rows
marked *read past* may hold anything and change nothing, not even the content that a
serial is bound to.
严格读取：声明的编码须属实，未知或重复的元素、无法精确保存的金额一律拒绝，不舍入、不换算、不猜测。

Answers go out in the caller's encoding. A character that it lacks becomes a numeric reference
(`&#134071;`): a refusal would hide an issued invoice from the platform that asks for it.
应答使用调用方编码；编码中没有的字符写作数字字符引用。
";

/// docs/legacy.md.
#[must_use]
pub fn conversion_markdown() -> String {
    let mut out = String::from(HEAD);
    operations(&mut out);
    dialects(&mut out);
    heading(&mut out, "Fields of the invoice (发票)", HEADER);
    heading(&mut out, "Fields of a line (明细行)", LINE);
    heading(&mut out, "Fields of other requests (其他请求)", ASK);
    push(&mut out, format_args!("\nBeside address and kind, a query has "));
    out.pop();
    let fields = |operation| ask::fields(operation).join(", ");
    push(&mut out, format_args!("{};", fields(Operation::Query)));
    push(&mut out, format_args!("a void has {}.", fields(Operation::Void)));
    out.push_str(LEQI);
    out.push_str(SIGNED);
    reasons(&mut out);
    out
}

const LEQI: &str = "
## What has no element (无对应元素)

The machine that asked (`origin`) and the red confirmation (`red_confirmation`,
`red_confirmation_uuid`) belong to 乐企, whose own contract is another: no dialect here has an element
for them. A device whose profile asks for them is served over gRPC alone; here its requests are
`ORIGIN_INFO_MISSING` or `RED_CONFIRMATION_MISSING`.
开票设备信息与红字信息确认单属乐企契约，旧接口各方言均无对应元素；规则档案要求这些字段的设备须使用 gRPC。
";

const SIGNED: &str = "
## Signed content (CA mode, CA 模式)

`encryptCode` 2: the content is a CMS SignedData (RFC 5652, or GM/T 0010 with its own content types)
in DER, with the body in it, exactly one signer and the signer's certificate; with signed attributes
or without. Taken are ECDSA P-256 over SHA-256, and SM2 over SM3 (GM/T 0006) with the identity
1234567812345678. The signing key must be that of the connection's client certificate: it alone says
who calls. The port's TLS takes no SM2 certificates yet, so that no caller can sign with SM2 yet.
`zipCode` 1 is gzip within the signature. Enveloped data and 3DES are `ENCRYPTION_UNSUPPORTED`.

Who asks in CA mode is answered in it, refusals included: `encryptCode` 2, `codeType` `CA`, and a
SignedData in DER with the answer in it, made with the proxy's own answer key (ECDSA P-256 over
SHA-256; signed attributes content type, message digest and signing time; certificates included).
The operator sets key and certificate (`legacy.answer_cert`, `legacy.answer_key`) and tells
platforms which certificate to expect. Where none is set, requests in CA mode are refused with
`ENCRYPTION_UNSUPPORTED`, in plain; nothing is issued, since the answer could not be given as asked.
签名密钥须与 TLS 客户端证书的密钥一致；数字信封与 3DES 不受支持。CA 模式的请求以 CA 模式应答（拒绝亦然），
由代理的应答密钥签名；未配置应答证书时，CA 模式的请求一律拒绝（明文应答），不开具发票。
";

fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes everything");
}

fn operations(out: &mut String) {
    push(
        out,
        format_args!(
            "\n## Operations (操作)\n\n| operation | `<business id>` | `<interfaceCode>` |"
        ),
    );
    push(out, format_args!("|---|---|---|"));
    for operation in Operation::ALL {
        let of = |table: &[(&'static str, Operation)]| {
            let ids = table.iter().filter(|(_, known)| *known == operation).map(|(id, _)| *id);
            ids.collect::<Vec<_>>().join(", ")
        };
        push(out, format_args!("| {operation:?} | {} | {} |", of(BUSINESS), of(INTERFACE)));
    }
}

fn dialects(out: &mut String) {
    const DIGITS: &str = "
Digits: KPLX 0 blue, 1 red, in the older shape 1 blue, 2 red. FPHXZ 0 normal, 1 discount, 2
discounted; a component also takes an Aisino device's 3 discounted, 4 discount. ZSFS 0 ordinary, 1
reduced, 2 differential. LSLBS empty none, 0 export, 1 exempt, 2 not taxed, 3 ordinary zero rate.
FPLXDM 004, 007, 025, 026, 028.

### In doubt (结果未明)

Whoever asks for an invoice whose outcome is not known yet hears the dialect's code for \"in
progress\". Where it has none the answer is held and then the connection closed, unanswered: a
failure code would have the order issued again under another serial. A query never closes a serial.
";
    push(out, format_args!("\n## Dialects (方言)\n\n| dialect | where | success | in doubt |"));
    push(out, format_args!("|---|---|---|---|"));
    for dialect in Dialect::ALL {
        let place = match dialect {
            Dialect::Platform => "`<interface>` with `REQUEST_COMMON_*`",
            Dialect::PlatformOlder => "`<interface>` with `REQUEST_FPKJXX`, `REQUEST_FPXXXZ_NEW`",
            Dialect::Common => "`<business>` with `REQUEST_COMMON_*`",
            Dialect::Component => "`<business>` with a name as id and `<body><input>`",
            Dialect::Server => "`<business>` with a number as id and `<body>`",
        };
        let doubt = match dialect.in_doubt() {
            Doubt::Code(code) => code,
            Doubt::HoldThenClose => "held, then closed",
        };
        push(out, format_args!("| {dialect:?} | {place} | {} | {doubt} |", dialect.success()));
    }
    out.push_str(DIGITS);
}

fn heading<T>(out: &mut String, title: &str, rows: &[Row<T>]) {
    push(
        out,
        format_args!("\n## {title}\n\n| COMMON | lower case | older | field | rule | meaning |"),
    );
    push(out, format_args!("|---|---|---|---|---|---|"));
    for row in rows {
        let [common, lower, older] = row.names;
        let (field, rule, meaning) = (row.field, rule(&row.put), row.meaning);
        push(out, format_args!("| {common} | {lower} | {older} | {field} | {rule} | {meaning} |"));
    }
}

fn rule<T>(put: &Put<T>) -> String {
    let text = match put {
        Put::Text(_) => "text, unchanged",
        Put::AfterBlank(_) => "after a blank",
        Put::Fen(_) => "yuan, at most 2 decimals, mandatory; kept as fen",
        Put::OptionalFen(_) => "yuan, at most 2 decimals; kept as fen",
        Put::Rate(_) => "decimal, at most 6 decimals, mandatory; kept as millionths",
        Put::Kind(_) => "three digits",
        Put::Color(_) | Put::TaxMethod(_) | Put::ZeroRate(_) => "digit, see Dialects",
        Put::LineKind(_) => "digit, see Dialects, mandatory",
        Put::Flag(_) => "0 or 1",
        Put::TaxIncluded => "0; 1 is refused, never converted",
        Put::Only(value) => return format!("only {value}"),
        Put::Ignored => "*read past*",
        Put::Secret => "*read past*, never kept or logged",
    };
    text.to_owned()
}

fn reasons(out: &mut String) {
    const ABOUT: &str = "
## Codes of refusals (拒绝码)

The text of a refusal starts with the reason's name in brackets. On the platform, where the general
code of a wrong field would stand (9100), the field's own stands if it has one.

| reason | platform | COMMON | component, server |
|---|---|---|---|
";
    out.push_str(ABOUT);
    for reason in Reason::ALL {
        let Codes(platform, common, device) = codes(*reason);
        push(out, format_args!("| {reason} | {platform} | {common} | {device} |"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change of the tables write what this prints to docs/legacy.md.
    #[test]
    fn the_manual_is_what_the_tables_say() {
        let file = include_str!("../../docs/legacy.md");
        assert!(file == conversion_markdown(), "{}", conversion_markdown());
    }

    #[track_caller]
    fn check<T>(rows: &[Row<T>]) {
        for (index, row) in rows.iter().enumerate() {
            assert!(row.names.iter().any(|name| !name.is_empty()));
            for column in 0..3 {
                let name = row.names[column];
                let twice = rows[..index].iter().any(|other| other.names[column] == name);
                assert!(name.is_empty() || !twice, "{name} has two rows");
            }
        }
    }

    #[test]
    fn no_element_has_two_rows() {
        check(HEADER);
        check(LINE);
        check(ASK);
    }

    #[test]
    fn every_operation_has_a_way_in() {
        for operation in Operation::ALL {
            assert!(BUSINESS.iter().any(|(_, known)| *known == operation), "{operation:?}");
        }
    }
}
