//! The pages of what is wrong with a request. Data only; a test keeps the catalogue complete.

use super::{NOTHING, Page, Resend, page};
use crate::refusal::Reason;

/// The pages, in the order of `Reason::ALL`.
pub(super) const PAGES: &[Page] = &[
    page(
        Reason::FieldMissing,
        Resend::AfterFix,
        ("A mandatory field is empty.", "必填项为空。"),
        ("Fill in every field that the violations name.", "补齐所列字段。"),
        NOTHING,
    ),
    page(
        Reason::FieldInvalid,
        Resend::AfterFix,
        (
            "A field has a value that no rule admits: shape, range, unknown value, control \
             character.",
            "字段取值不合规：格式、范围、未定义取值或控制字符。",
        ),
        ("Correct every field that the violations name.", "更正所列字段。"),
        NOTHING,
    ),
    page(
        Reason::FieldTooLong,
        Resend::AfterFix,
        (
            "A text is longer than the device takes. Lengths are GBK bytes: a Chinese \
             character counts as two.",
            "文本超过设备上限。按 GBK 字节计，一个汉字两字节。",
        ),
        ("Shorten the text; count bytes, not characters.", "缩短文本，按字节而非字符计数。"),
        ("Check that the device has the right profile.", "核对设备的规则档案是否正确。"),
    ),
    page(
        Reason::TextNotGbk,
        Resend::AfterFix,
        (
            "A text holds a character that GBK (code page 936 without the euro sign) does \
             not have.",
            "文本含 GBK（代码页 936，不含欧元符号）以外的字符。",
        ),
        ("Replace the character that the violation names.", "替换所指字符。"),
        NOTHING,
    ),
    page(
        Reason::TaxpayerIdFormat,
        Resend::AfterFix,
        (
            "A taxpayer id has a length or a character that does not exist.",
            "纳税人识别号长度或字符不合规。",
        ),
        (
            "Correct the id: upper-case letters and digits; sellers have 15, 17, 18 or 20 \
             characters, buyers 15 to 20 or none.",
            "更正识别号：大写字母和数字；销售方 15、17、18 或 20 位，购买方 15 至 20 位或为空\
             。",
        ),
        NOTHING,
    ),
    page(
        Reason::TaxpayerIdChecksum,
        Resend::AfterFix,
        (
            "The last character of the buyer's 18-character id does not match the others.",
            "购买方 18 位识别号末位校验码不符。",
        ),
        ("Look for a typing error in the id.", "检查识别号是否录入有误。"),
        (
            "A warning by default, since test taxpayers break the rule; let the profile \
             refuse where real ids alone occur.",
            "默认仅提示，因测试纳税人不符合校验；仅有真实识别号时可在规则档案中改为拒绝。",
        ),
    ),
    page(
        Reason::SellerMismatch,
        Resend::AfterFix,
        (
            "The seller's id or name is not what the device's taxpayer is registered with.",
            "销售方识别号或名称与设备所属纳税人登记不一致。",
        ),
        ("Send id and name exactly as registered.", "按登记信息填写识别号和名称。"),
        ("After a change of name, update the taxpayer.", "纳税人更名后，更新其登记信息。"),
    ),
    page(
        Reason::KindNotApproved,
        Resend::AfterFix,
        ("The invoice kind is not approved (票种核定) for the device.", "设备未核定该票种。"),
        ("Use an approved kind, or another device.", "使用已核定票种，或改用其他设备。"),
        ("Add the kind once the tax office approved it.", "税务机关核定后添加票种。"),
    ),
    page(
        Reason::TaxCodeInvalid,
        Resend::AfterFix,
        (
            "A tax classification code (商品编码) does not have 19 digits, or the profile's \
             table does not know it, has it as a group of codes, or not for the line's rate.",
            "商品编码不是 19 位数字，或不在规则档案的编码表中、为汇总编码、不适用所填税率。",
        ),
        (
            "Take the code from the table whose version the draft names.",
            "使用所填版本编码表中的编码。",
        ),
        (
            "A profile names its table (tax_codes.file); `config check` says which have one. \
             Without one the shape alone is checked.",
            "规则档案以 tax_codes.file 指定编码表；`config check` 列出已加载者，未指定时仅校验格式。",
        ),
    ),
    page(
        Reason::RateNotAuthorised,
        Resend::AfterFix,
        (
            "A tax rate is in no list, or stands beside a rate that it may not.",
            "税率未核定，或不得与其他税率同开。",
        ),
        (
            "Use a rate that is authorised for the seller; issue 1.5 % alone.",
            "使用已核定税率；1.5% 单独开具。",
        ),
        (
            "Add a rate that a notice introduced to the profile's dated list.",
            "公告新增税率的，补入规则档案的税率表。",
        ),
    ),
    page(
        Reason::RateOutOfDate,
        Resend::AfterFix,
        ("A tax rate is not valid on the day of issue in China.", "税率在开票日（北京时间）无效。"),
        (
            "Use the rate that is valid now; a red invoice may carry the rate of its blue one.",
            "使用现行税率；红字发票可沿用原蓝字税率。",
        ),
        (
            "A late correction at an old rate needs the rule softened; a prolonged rate \
             needs its new last day.",
            "补开旧税率发票须放宽此规则；税率政策延续的，更新其截止日。",
        ),
    ),
    page(
        Reason::PreferenceInconsistent,
        Resend::AfterFix,
        (
            "Rate, zero-rate kind (零税率标识), preference (优惠政策标识) and its text do \
             not fit each other.",
            "税率、零税率标识、优惠政策标识与优惠政策内容不一致。",
        ),
        (
            "A zero rate says its kind; exempt and not taxed are preferences; a preference \
             has a text of the list.",
            "零税率填标识；免税、不征税须标识优惠；用优惠须填列表内的内容。",
        ),
        ("Add a text that a notice introduced to the profile.", "公告新增的优惠内容补入规则档案。"),
    ),
    page(
        Reason::QuantityPricePair,
        Resend::AfterFix,
        (
            "Quantity and price are not given together, or have too many decimal places.",
            "数量与单价未同时填写，或小数位数过多。",
        ),
        (
            "Give both or neither; round to the places that the profile allows.",
            "两者同填或同空；小数位数不超过规则档案上限。",
        ),
        NOTHING,
    ),
    page(
        Reason::LineAmountMismatch,
        Resend::AfterFix,
        (
            "A line's amount is not quantity times price within one fen.",
            "明细金额与数量乘单价之差超过 1 分。",
        ),
        (
            "Compute the line again; the violation gives the exact difference. The proxy \
             edits no amount.",
            "按所示差额重算；代理不修改金额。",
        ),
        NOTHING,
    ),
    page(
        Reason::LineTaxMismatch,
        Resend::AfterFix,
        (
            "A line's tax is not amount times rate (with differential taxing: what remains \
             after the deduction) within the profile's tolerance.",
            "明细税额与金额乘税率（差额征税为扣除后余额计税）之差超过规则档案容差。",
        ),
        ("Compute the tax again, rounded half up to the fen.", "重算税额，四舍五入到分。"),
        (
            "Check that the device has the right profile: tolerances differ between vendors.",
            "核对设备的规则档案：各厂商容差不同。",
        ),
    ),
    page(
        Reason::TotalAmountMismatch,
        Resend::AfterFix,
        ("The total without tax is not the sum of the lines.", "合计金额不等于明细金额之和。"),
        ("Add the lines up again.", "重新合计明细金额。"),
        NOTHING,
    ),
    page(
        Reason::TotalTaxMismatch,
        Resend::AfterFix,
        (
            "The total tax is more than 127 fen from the sum of the lines.",
            "合计税额与明细税额之和相差超过 127 分。",
        ),
        ("Add the lines up again.", "重新合计明细税额。"),
        NOTHING,
    ),
    page(
        Reason::TotalSumMismatch,
        Resend::AfterFix,
        (
            "The total with tax is not the total without tax plus the tax.",
            "价税合计不等于合计金额加合计税额。",
        ),
        ("Add the two totals again.", "重算价税合计。"),
        NOTHING,
    ),
    page(
        Reason::AmountSign,
        Resend::AfterFix,
        ("An amount has the wrong sign, or is zero.", "金额符号错误或为零。"),
        (
            "Blue invoices are positive but for discount lines, red ones the other way \
             round; no line, quantity or price is zero.",
            "蓝字发票除折扣行外为正，红字相反；任何行、数量、单价不得为零。",
        ),
        NOTHING,
    ),
    page(
        Reason::DiscountLineOrder,
        Resend::AfterFix,
        (
            "A discount line does not directly follow its discounted line, or differs from \
             it in name, code or rate.",
            "折扣行未紧跟被折扣行，或名称、编码、税率不一致。",
        ),
        (
            "Put each discount line after its line, with the same name, code and rate.",
            "折扣行紧跟被折扣行，名称、编码、税率一致。",
        ),
        NOTHING,
    ),
    page(
        Reason::DiscountLineAmount,
        Resend::AfterFix,
        ("A discount is not negative, or more than its line.", "折扣金额非负，或超过被折扣行。"),
        ("Correct the discount.", "更正折扣金额。"),
        NOTHING,
    ),
    page(
        Reason::LineCount,
        Resend::AfterFix,
        ("The invoice has no lines or too many.", "明细行数为零或过多。"),
        (
            "Send 1 to 100 lines, on paper (which prints a list) up to 2000; split larger \
             orders.",
            "明细 1 至 100 行，纸质发票（附清单）至多 2000 行，超出则拆单。",
        ),
        NOTHING,
    ),
    page(
        Reason::DifferentialRule,
        Resend::AfterFix,
        (
            "A differential invoice (差额征税) has several lines, no deduction or one above \
             its total, or a remark that does not start with it.",
            "差额征税发票多于一行，扣除额缺失或超过价税合计，或备注未以扣除额开头。",
        ),
        (
            "Send one line; start the remark with 差额征税：, the deduction in yuan and 。 \
             (full stop).",
            "只填一行；备注以“差额征税：扣除额。”开头，单位元。",
        ),
        NOTHING,
    ),
    page(
        Reason::SpecialKindRule,
        Resend::AfterFix,
        (
            "A special invoice (专票) lacks the buyer's id, address or bank, or has a zero \
             rate.",
            "专用发票缺少购买方识别号、地址电话或开户行账号，或使用零税率。",
        ),
        (
            "Complete the buyer; issue zero rates as a normal invoice.",
            "补齐购买方信息；零税率开具普通发票。",
        ),
        NOTHING,
    ),
    page(
        Reason::RedNoticeInvalid,
        Resend::AfterFix,
        (
            "A red special invoice has no red-notice number (红字信息表编号), a malformed \
             one, or another kind has one.",
            "红字专用发票缺少红字信息表编号或编号错误，或非专用发票填写了编号。",
        ),
        (
            "Send the 16 digits of the notice; the last is the sum of the others mod 10.",
            "填写 16 位编号，末位为前 15 位之和模 10。",
        ),
        NOTHING,
    ),
    page(
        Reason::RedOriginalMissing,
        Resend::AfterFix,
        (
            "A red invoice names no blue one of its kind.",
            "红字发票未填写同票种的原发票代码和号码。",
        ),
        ("Send code and 8-digit number of the blue invoice.", "填写原发票代码和 8 位号码。"),
        NOTHING,
    ),
    page(
        Reason::RedOriginalUnknown,
        Resend::AfterFix,
        (
            "The blue invoice is not known here, is void, or is another seller's or kind's.",
            "原蓝字发票未知、已作废，或属于其他销售方、其他票种。",
        ),
        (
            "Check code and number; an invoice of another system must be imported first.",
            "核对代码和号码；其他系统开具的须先导入。",
        ),
        ("Import the blue invoice with its balance.", "导入原蓝字发票及其可冲红余额。"),
    ),
    page(
        Reason::RedPeriod,
        Resend::AfterFix,
        (
            "The device allows no red invoice so long after the blue one, or only where the \
             blue one was issued.",
            "已超过设备允许的红冲期限，或须在原设备上红冲。",
        ),
        (
            "Use the device that issued the blue invoice; else ask the tax office.",
            "在开具原蓝字发票的设备上红冲，否则咨询税务机关。",
        ),
        (
            "Look at the device's red limits (fsfpts, fsfpbz).",
            "查看设备的红冲限制（fsfpts、fsfpbz）。",
        ),
    ),
    page(
        Reason::RedExceedsBalance,
        Resend::AfterFix,
        (
            "The red amount is more than what is left of the blue invoice.",
            "红字金额超过原蓝字发票的可冲红余额。",
        ),
        (
            "Correct the amount; several reds together take back at most the blue one.",
            "更正金额；多次红冲合计不得超过原蓝字金额。",
        ),
        NOTHING,
    ),
    page(
        Reason::RedAlreadyFull,
        Resend::Never,
        ("The blue invoice is already taken back in full.", "原蓝字发票已全额红冲。"),
        (
            "Nothing is left to correct; look for the red invoice that exists.",
            "已无可冲红金额，请查询已有红字发票。",
        ),
        NOTHING,
    ),
    page(
        Reason::RemarkInvalid,
        Resend::AfterFix,
        (
            "The remark (备注) begins or ends with a blank, holds a reserved phrase, or \
             names another blue invoice or notice than the draft.",
            "备注首尾有空格、含保留用语，或所指原发票、信息表编号与报文不一致。",
        ),
        (
            "Trim the remark; leave the phrases out that devices write themselves.",
            "去除首尾空格；不要填写由设备写入的保留用语。",
        ),
        NOTHING,
    ),
];
