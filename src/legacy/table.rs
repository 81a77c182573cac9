//! The conversion table: legacy element ↔ field ↔ meaning ↔ rule, as the data that the decoder
//! itself follows. docs/legacy.md is printed from it. Holds no logic.
//!
//! Sources: docs/domain.md 1.4 and the public contracts that it reconstructs. The fields of the
//! older Aisino shape beyond those rest on general knowledge.

use super::row::{
    Put::{
        AfterBlank, Color, Fen, Flag, Ignored, Kind, LineKind, Only, OptionalFen, Rate, Secret,
        TaxIncluded, TaxMethod, Text, ZeroRate,
    },
    Row,
};
use crate::pb::v1 as pb;

/// What an issue request holds beside its lines.
#[derive(Default)]
pub(super) struct Header {
    pub(super) draft: pb::InvoiceDraft,
    pub(super) deduction: Option<i64>,
    pub(super) to: To,
}

/// Whom a request is for.
#[derive(Default)]
pub(super) struct To {
    pub(super) platform: String,
    pub(super) taxpayer_id: String,
    /// kpzdbs: `taxpayer~~device`.
    pub(super) both: String,
    pub(super) device: String,
    pub(super) machine: String,
}

/// A line of an issue request.
#[derive(Default)]
pub(super) struct Line {
    pub(super) line: pb::InvoiceLine,
    pub(super) deduction: Option<i64>,
}

/// Every other request.
#[derive(Default)]
pub(super) struct Ask {
    pub(super) to: To,
    pub(super) terminal: String,
    pub(super) serial: String,
    pub(super) kind: i32,
    pub(super) code: String,
    pub(super) number: String,
    pub(super) way: String,
    pub(super) condition: String,
    pub(super) void_kind: String,
    pub(super) operator: String,
    pub(super) amount: Option<i64>,
}

/// COMMON, lower case, older Aisino => field, rule and place, code of the Aisino platform, meaning.
macro_rules! rows {
    ($($common:literal $lower:literal $older:literal
        => $field:literal, $put:expr, $code:literal, $meaning:literal;)*) => {
        &[$(Row {
            names: [$common, $lower, $older],
            field: $field,
            put: $put,
            code: $code,
            meaning: $meaning,
        }),*]
    };
}

/// Fields of the invoice as a whole.
pub(super) const HEADER: &[Row<Header>] = rows! {
    "FPQQLSH" "fpqqlsh" "FPQQLSH" => "serial", Text(|h| &mut h.draft.serial), "9121",
        "request serial (发票请求流水号)";
    "DSPTBM" "" "DSPTBM" => "platform", Text(|h| &mut h.to.platform), "9005",
        "platform code as the caller claims it (平台编码); the certificate decides";
    "" "kpzdbs" "" => "taxpayer and device", Text(|h| &mut h.to.both), "",
        "issuing terminal (开票终端标识), `taxpayer~~device`";
    "" "nsrsbh" "NSRSBH" => "taxpayer", Text(|h| &mut h.to.taxpayer_id), "9104",
        "taxpayer id (纳税人识别号); must be the seller's";
    "" "sksbbh" "" => "device", Text(|h| &mut h.to.device), "", "device number (税控设备编号)";
    "" "skpbh" "" => "device", Text(|h| &mut h.to.device), "", "disk number (税控盘编号)";
    "JQBH" "jqbh" "" => "machine", Text(|h| &mut h.to.machine), "", "machine number (机器编号)";
    "KPZDDM" "kpzddm" "KPZDDM" => "terminal", Text(|h| &mut h.draft.terminal), "",
        "issuing terminal (开票终端代码)";
    "FPLXDM" "fplxdm" "" => "kind", Kind(|h| &mut h.draft.kind), "9103",
        "kind (发票类型代码); the older shape is always 026";
    "KPLX" "kplx" "KPLX" => "color", Color(|h| &mut h.draft.color), "9101",
        "blue or red (开票类型)";
    "" "" "DKBZ" => "-", Only("0"), "", "issued for another (代开标志); 1 is not served";
    "BMB_BBH" "bmb_bbh" "BMB_BBH" => "tax_code_version",
        Text(|h| &mut h.draft.tax_code_version), "9211", "version of the tax code table (编码表版本号)";
    "" "bmbbbh" "" => "tax_code_version", Text(|h| &mut h.draft.tax_code_version), "9211",
        "the same";
    "ZSFS" "zsfs" "ZSFS" => "tax_method", TaxMethod(|h| &mut h.draft.tax_method), "",
        "way of taxing (征税方式)";
    "XSF_NSRSBH" "xhdwsbh" "XHF_NSRSBH" => "seller.taxpayer_id",
        Text(|h| &mut h.draft.seller.get_or_insert_default().taxpayer_id), "9104",
        "seller's id (销售方纳税人识别号)";
    "XSF_MC" "xhdwmc" "XHF_MC" => "seller.name",
        Text(|h| &mut h.draft.seller.get_or_insert_default().name), "9104",
        "seller's name (销售方名称)";
    "" "" "XHFMC" => "seller.name",
        Text(|h| &mut h.draft.seller.get_or_insert_default().name), "9104", "the same";
    "XSF_DZDH" "xhdwdzdh" "" => "seller.address_phone",
        Text(|h| &mut h.draft.seller.get_or_insert_default().address_phone), "",
        "seller's address and telephone (销售方地址电话)";
    "XSF_DZ" "" "XHF_DZ" => "seller.address_phone",
        Text(|h| &mut h.draft.seller.get_or_insert_default().address_phone), "", "address alone";
    "XSF_DH" "" "XHF_DH" => "seller.address_phone",
        AfterBlank(|h| &mut h.draft.seller.get_or_insert_default().address_phone), "",
        "telephone alone";
    "XSF_YHZH" "xhdwyhzh" "XHF_YHZH" => "seller.bank_account",
        Text(|h| &mut h.draft.seller.get_or_insert_default().bank_account), "",
        "seller's bank and account (销售方开户行及账号)";
    "GMF_NSRSBH" "ghdwsbh" "GHF_NSRSBH" => "buyer.taxpayer_id",
        Text(|h| &mut h.draft.buyer.get_or_insert_default().taxpayer_id), "9126",
        "buyer's id (购买方纳税人识别号)";
    "GMF_MC" "ghdwmc" "GHF_MC" => "buyer.name",
        Text(|h| &mut h.draft.buyer.get_or_insert_default().name), "9126",
        "buyer's name (购买方名称)";
    "" "" "GHFMC" => "buyer.name",
        Text(|h| &mut h.draft.buyer.get_or_insert_default().name), "9126", "the same";
    "GMF_DZDH" "ghdwdzdh" "" => "buyer.address_phone",
        Text(|h| &mut h.draft.buyer.get_or_insert_default().address_phone), "",
        "buyer's address and telephone (购买方地址电话)";
    "GMF_DZ" "" "GHF_DZ" => "buyer.address_phone",
        Text(|h| &mut h.draft.buyer.get_or_insert_default().address_phone), "", "address alone";
    "GMF_DH" "" "GHF_GDDH" => "buyer.address_phone",
        AfterBlank(|h| &mut h.draft.buyer.get_or_insert_default().address_phone), "",
        "telephone alone";
    "GMF_YHZH" "ghdwyhzh" "GHF_YHZH" => "buyer.bank_account",
        Text(|h| &mut h.draft.buyer.get_or_insert_default().bank_account), "",
        "buyer's bank and account (购买方开户行及账号)";
    "KPR" "kpr" "KPY" => "drawer", Text(|h| &mut h.draft.drawer), "", "drawer (开票人)";
    "SKR" "skr" "SKY" => "payee", Text(|h| &mut h.draft.payee), "", "payee (收款人)";
    "FHR" "fhr" "FHR" => "checker", Text(|h| &mut h.draft.checker), "", "checker (复核人)";
    "YFP_DM" "yfpdm" "YFP_DM" => "original_code", Text(|h| &mut h.draft.original_code), "9117",
        "code of the blue invoice (原发票代码)";
    "YFP_HM" "yfphm" "YFP_HM" => "original_number", Text(|h| &mut h.draft.original_number), "9118",
        "number of the blue invoice (原发票号码)";
    "TZDBH" "tzdbh" "" => "red_notice", Text(|h| &mut h.draft.red_notice), "",
        "red-notice number (红字信息表编号)";
    "JSHJ" "jshj" "KPHJJE" => "total_fen", Fen(|h| &mut h.draft.total_fen), "9112",
        "total with tax (价税合计)";
    "HJJE" "hjje" "HJBHSJE" => "amount_fen", Fen(|h| &mut h.draft.amount_fen), "9112",
        "total without tax (合计金额)";
    "HJSE" "hjse" "HJSE" => "tax_fen", Fen(|h| &mut h.draft.tax_fen), "9142",
        "total tax (合计税额)";
    "" "" "KPHJSE" => "tax_fen", Fen(|h| &mut h.draft.tax_fen), "9142", "the same";
    "KCE" "kce" "" => "deduction_fen", OptionalFen(|h| &mut h.deduction), "",
        "deduction (扣除额), once in the message";
    "BZ" "bz" "BZ" => "remark", Text(|h| &mut h.draft.remark), "9134", "remark (备注)";
    "TSPZ" "tspz" "" => "special_kind", Text(|h| &mut h.draft.special_kind), "",
        "special kind (特殊票种)";
    "" "keypwd" "" => "-", Secret, "", "certificate password (证书口令)";
    "" "skpkl" "" => "-", Secret, "", "disk password (税控盘口令)";
    "" "sksbkl" "" => "-", Secret, "", "device password (税控设备口令)";
    "QDBZ" "qdbz" "QD_BZ" => "-", Ignored, "", "list flag (清单标志): layout";
    "" "" "QDXMMC" => "-", Ignored, "", "name of the list: layout";
    "" "qmcs" "" => "-", Ignored, "", "parameters of the signature (签名参数)";
    "GMF_SJH" "" "GHF_SJ" => "-", Ignored, "", "buyer's mobile number";
    "GMF_DZYX" "" "GHF_EMAIL" => "-", Ignored, "", "buyer's e-mail";
    "FPT_ZH" "" "GHF_SF" => "-", Ignored, "", "account, province";
    "WX_OPENID" "" "GHFQYLX" => "-", Ignored, "", "WeChat id, kind of buyer";
    "YFP_LX" "" "CZDM" => "-", Ignored, "", "original kind, operation code";
    "YFP_RQ" "" "KPRQ" => "-", Ignored, "", "original date, wanted date (the device decides)";
    "CHYYDM" "" "CHYY" => "-", Ignored, "", "reason of the red letter";
    "SSLKJLY" "" "TSCHBZ" => "-", Ignored, "", "reason of the rate, special red flag";
    "HYLX" "" "HY_DM" => "-", Ignored, "", "trade";
    "QJ_ORDER_ID" "" "HY_MC" => "-", Ignored, "", "order, name of the trade";
    "BY1" "" "BYZD1" => "-", Ignored, "", "spare";
    "BY2" "" "BYZD2" => "-", Ignored, "", "spare";
    "BY3" "" "BYZD3" => "-", Ignored, "", "spare";
    "BY4" "" "BYZD4" => "-", Ignored, "", "spare";
    "BY5" "" "BYZD5" => "-", Ignored, "", "spare";
    "BY6" "" "NSRMC" => "-", Ignored, "", "spare, taxpayer's name";
    "BY7" "" "NSRDZDAH" => "-", Ignored, "", "spare, archive number";
    "BY8" "" "SWJG_DM" => "-", Ignored, "", "spare, tax office";
    "BY9" "" "PYDM" => "-", Ignored, "", "spare, ticket code";
    "BY10" "" "KPXM" => "-", Ignored, "", "spare, main item";
};

/// Fields of a line.
pub(super) const LINE: &[Row<Line>] = rows! {
    "FPHXZ" "fphxz" "FPHXZ" => "kind", LineKind(|l| &mut l.line.kind), "9212",
        "kind of the line (发票行性质)";
    "SPBM" "spbm" "SPBM" => "tax_code", Text(|l| &mut l.line.tax_code), "9213",
        "tax classification code (商品编码)";
    "ZXBM" "zxbm" "ZXBM" => "own_code", Text(|l| &mut l.line.own_code), "", "own code (自行编码)";
    "YHZCBS" "yhzcbs" "YHZCBS" => "preference", Flag(|l| &mut l.line.preference), "9214",
        "whether a preference is used (优惠政策标识)";
    "LSLBS" "lslbs" "LSLBS" => "zero_rate_kind", ZeroRate(|l| &mut l.line.zero_rate_kind), "9217",
        "why the rate is zero (零税率标识)";
    "ZZSTSGL" "zzstsgl" "ZZSTSGL" => "preference_text", Text(|l| &mut l.line.preference_text),
        "9216", "text of the preference (增值税特殊管理)";
    "XMMC" "spmc" "XMMC" => "name", Text(|l| &mut l.line.name), "", "item name (项目名称)";
    "GGXH" "ggxh" "GGXH" => "specification", Text(|l| &mut l.line.specification), "",
        "specification (规格型号)";
    "DW" "dw" "XMDW" => "unit", Text(|l| &mut l.line.unit), "", "unit (单位)";
    "XMSL" "spsl" "XMSL" => "quantity", Text(|l| &mut l.line.quantity), "", "quantity (数量)";
    "XMDJ" "dj" "XMDJ" => "unit_price", Text(|l| &mut l.line.unit_price), "",
        "unit price without tax (单价)";
    "XMJE" "je" "XMJE" => "amount_fen", Fen(|l| &mut l.line.amount_fen), "9204",
        "amount without tax (金额)";
    "SL" "sl" "SL" => "rate_millionths", Rate(|l| &mut l.line.rate_millionths), "9206",
        "tax rate (税率)";
    "SE" "se" "SE" => "tax_fen", Fen(|l| &mut l.line.tax_fen), "9209", "tax (税额)";
    "KCE" "kce" "KCE" => "deduction_fen", OptionalFen(|l| &mut l.deduction), "",
        "deduction (扣除额), once in the message; becomes the draft's";
    "HSBZ" "hsbz" "HSBZ" => "-", TaxIncluded, "", "whether amounts include tax (含税标志)";
    "" "spsm" "" => "-", Ignored, "", "tax item (商品税目)";
    "BY1" "" "BYZD1" => "-", Ignored, "", "spare";
    "BY2" "" "BYZD2" => "-", Ignored, "", "spare";
    "BY3" "" "BYZD3" => "-", Ignored, "", "spare";
    "BY4" "" "BYZD4" => "-", Ignored, "", "spare";
    "BY5" "" "BYZD5" => "-", Ignored, "", "spare";
};

/// Fields of every other request.
pub(super) const ASK: &[Row<Ask>] = rows! {
    "FPQQLSH" "fpqqlsh" "FPQQLSH" => "serial", Text(|a| &mut a.serial), "9121",
        "request serial (发票请求流水号)";
    "DSPTBM" "" "DSPTBM" => "platform", Text(|a| &mut a.to.platform), "9005",
        "platform code as the caller claims it (平台编码)";
    "" "kpzdbs" "" => "taxpayer and device", Text(|a| &mut a.to.both), "",
        "issuing terminal (开票终端标识), `taxpayer~~device`";
    "XSF_NSRSBH" "nsrsbh" "NSRSBH" => "taxpayer", Text(|a| &mut a.to.taxpayer_id), "9104",
        "taxpayer id (纳税人识别号)";
    "NSRSBH" "" "" => "taxpayer", Text(|a| &mut a.to.taxpayer_id), "9104", "the same";
    "SKSBBH" "sksbbh" "" => "device", Text(|a| &mut a.to.device), "",
        "device number (税控设备编号)";
    "" "skpbh" "" => "device", Text(|a| &mut a.to.device), "", "disk number (税控盘编号)";
    "JQBH" "jqbh" "" => "machine", Text(|a| &mut a.to.machine), "", "machine number (机器编号)";
    "KPZDDM" "kpzddm" "" => "terminal", Text(|a| &mut a.terminal), "",
        "issuing terminal (开票终端代码)";
    "FPLXDM" "fplxdm" "FPLXDM" => "kind", Kind(|a| &mut a.kind), "9103", "kind (发票类型代码)";
    "FP_DM" "fpdm" "FP_DM" => "code", Text(|a| &mut a.code), "", "invoice code (发票代码)";
    "FP_HM" "fphm" "FP_HM" => "number", Text(|a| &mut a.number), "", "invoice number (发票号码)";
    "" "cxfs" "" => "way", Text(|a| &mut a.way), "",
        "way of asking (查询方式): 0 by number, 1 by day";
    "" "cxtj" "" => "condition", Text(|a| &mut a.condition), "",
        "condition (查询条件): code, first and last number; or two days `yyyyMMdd`";
    "ZFLX" "zflx" "" => "void_kind", Text(|a| &mut a.void_kind), "",
        "what is voided (作废类型): 0 a blank number, 1 an issued invoice";
    "ZFR" "zfr" "" => "operator", Text(|a| &mut a.operator), "", "who voids (作废人)";
    "HJJE" "hjje" "" => "amount_fen", OptionalFen(|a| &mut a.amount), "9112",
        "total without tax of what is voided (合计金额); must be the invoice's";
    "" "keypwd" "" => "-", Secret, "", "certificate password (证书口令)";
    "" "skpkl" "" => "-", Secret, "", "disk password (税控盘口令)";
    "" "sksbkl" "" => "-", Secret, "", "device password (税控设备口令)";
    "DDH" "qmcs" "DDH" => "-", Ignored, "", "order, parameters of the signature";
    "PDF_XZFS" "" "PDF_XZFS" => "-", Ignored, "", "how the layout file is fetched";
};
