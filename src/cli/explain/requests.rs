//! The pages of what is wrong with a caller or a request. Data only; a test keeps the catalogue
//! complete. Legacy codes are those of the public contracts (docs/domain.md, "Rules to enforce").

use super::{NOTHING, Page, Resend, Text};
use crate::refusal::Reason;

/// The pages, in the order of `Reason::ALL`.
pub(super) const PAGES: &[Page] = &[
    Page {
        reason: Reason::PlatformCertUnknown,
        legacy: "9010",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The client certificate's key is bound to no platform.",
            "客户端证书的公钥未绑定任何平台。",
        ),
        caller: Text::new(
            "Check which certificate the connection uses; ask the operator to bind its key.",
            "确认连接所用证书，请运营方绑定其公钥。",
        ),
        operator: Text::new(
            "Compare the key hash in the log with the platform's certificates; bind it if the \
             platform is accredited.",
            "将日志中的公钥摘要与平台证书对照；平台已接入则绑定。",
        ),
    },
    Page {
        reason: Reason::PlatformCertRevoked,
        legacy: "97/98",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The certificate's key was revoked; a revoked key gets nothing, for ever.",
            "证书公钥已吊销，且永久失效。",
        ),
        caller: Text::new(
            "Apply for a new certificate with a new key pair.",
            "以新密钥对申请新证书。",
        ),
        operator: Text::new(
            "Find out why it was revoked before a new one is bound.",
            "绑定新证书前查明吊销原因。",
        ),
    },
    Page {
        reason: Reason::PlatformCertExpired,
        legacy: "103",
        resend: Resend::AfterFix,
        cause: Text::new("The client certificate is past its validity.", "客户端证书已过有效期。"),
        caller: Text::new("Renew the certificate.", "更新证书。"),
        operator: Text::new(
            "Bind the new certificate; check the clocks when it should still be valid.",
            "绑定新证书；若理应有效，核对时钟。",
        ),
    },
    Page {
        reason: Reason::PlatformSuspended,
        legacy: "9001/9009",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The platform is suspended (挂起): it may ask and resolve, not issue.",
            "平台已挂起：可查询、可了结，不可开票。",
        ),
        caller: Text::new(
            "Resolve what is open; ask the operator why.",
            "先了结未决请求，再向运营方询问原因。",
        ),
        operator: Text::new(
            "Enable the platform once the cause is settled.",
            "原因解决后启用平台。",
        ),
    },
    Page {
        reason: Reason::OperationNotAllowed,
        legacy: "9002",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The operation is not granted to the platform, or this version does not offer it, \
             such as red-letter invoices.",
            "该操作未授权给平台，或本版本尚不提供（如红字发票）。",
        ),
        caller: Text::new(
            "Ask only for what is granted and offered.",
            "仅请求已授权且已提供的操作。",
        ),
        operator: Text::new("Check the platform's grants.", "核对平台授权。"),
    },
    Page {
        reason: Reason::TaxpayerNotBound,
        legacy: "9104/73101",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The seller is not known here, or the platform is not bound to it (按户接入).",
            "销售方未登记，或平台未与其绑定（按户接入）。",
        ),
        caller: Text::new(
            "Check the seller's taxpayer id; have the binding made.",
            "核对销售方识别号，办理绑定。",
        ),
        operator: Text::new(
            "Bind them when the taxpayer authorised the platform (`binding add`).",
            "纳税人已授权平台的，执行 `binding add` 绑定。",
        ),
    },
    Page {
        reason: Reason::RateLimited,
        legacy: "zdljs",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The platform asked more often than its rate allows.",
            "平台请求频率超过限额。",
        ),
        caller: Text::new(
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        operator: Text::new(
            "Raise the rate if the platform's business grew.",
            "平台业务增长的，调高限额。",
        ),
    },
    Page {
        reason: Reason::MalformedMessage,
        legacy: "9996",
        resend: Resend::AfterFix,
        cause: Text::new("The message does not decode.", "报文无法解码。"),
        caller: Text::new(
            "Encode it with the published proto; check for truncation.",
            "按公布的 proto 编码，检查是否截断。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::EncodingMismatch,
        legacy: "9996",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The bytes of a legacy message are not in the encoding that its XML declaration \
             names, or the encoding is not offered.",
            "旧接口报文的字节与 XML 声明的编码不符，或不支持该编码。",
        ),
        caller: Text::new(
            "Declare what is sent: utf-8, gbk (without four-byte forms) or gb18030.",
            "声明与实际一致：utf-8、gbk（不含四字节）或 gb18030。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::DuplicateField,
        legacy: "9996",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A legacy message gives one field twice; two readers would not agree on its value.",
            "旧接口报文中同一字段出现两次，取值有歧义。",
        ),
        caller: Text::new("Send each field once.", "每个字段只出现一次。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::EncryptionUnsupported,
        legacy: "9010",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The content of a legacy message is encrypted in a way that is not taken (3DES, \
             enveloped data).",
            "旧接口报文内容的加密方式不受支持（3DES、数字信封）。",
        ),
        caller: Text::new(
            "Send it plain (encryptCode 0) or signed (encryptCode 2); the connection itself \
             is encrypted.",
            "改为明文（encryptCode 0）或签名（encryptCode 2）；链路本身已加密。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::FieldMissing,
        legacy: "4100/91xx",
        resend: Resend::AfterFix,
        cause: Text::new("A mandatory field is empty.", "必填项为空。"),
        caller: Text::new("Fill in every field that the violations name.", "补齐所列字段。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::FieldInvalid,
        legacy: "4100/91xx",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A field has a value that no rule admits: shape, range, unknown value, control \
             character.",
            "字段取值不合规：格式、范围、未定义取值或控制字符。",
        ),
        caller: Text::new("Correct every field that the violations name.", "更正所列字段。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::DecimalFormat,
        legacy: "9997/91xx",
        resend: Resend::AfterFix,
        cause: Text::new(
            "An amount or rate of a legacy message is no plain decimal number: an exponent, \
             a sign +, a blank, NaN, or too large.",
            "旧接口报文的金额或税率不是普通十进制数：含指数、正号、空格、NaN，或数值过大。",
        ),
        caller: Text::new(
            "Write it like 1234.50, with a minus sign at most.",
            "按 1234.50 的形式填写，至多带负号。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::DecimalPrecision,
        legacy: "9997/91xx",
        resend: Resend::AfterFix,
        cause: Text::new(
            "An amount of a legacy message has more than two decimals, or a rate more than \
             six. Nothing is rounded here.",
            "旧接口报文的金额超过两位小数，或税率超过六位小数；此处不作四舍五入。",
        ),
        caller: Text::new(
            "Round before sending, so that both sides keep the same amount.",
            "发送前自行舍入，使双方金额一致。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::TaxIncludedUnsupported,
        legacy: "9997",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The message says that its amounts include tax (HSBZ=1, 含税标志). Converting them \
             would edit money.",
            "报文标明金额含税（HSBZ=1），换算即改动金额。",
        ),
        caller: Text::new("Send amounts without tax and HSBZ 0.", "以不含税金额开票，HSBZ 填 0。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::FieldTooLong,
        legacy: "4100/-10321",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A text is longer than the device takes. Lengths are GBK bytes: a Chinese character \
             counts as two.",
            "文本超过设备上限。按 GBK 字节计，一个汉字两字节。",
        ),
        caller: Text::new(
            "Shorten the text; count bytes, not characters.",
            "缩短文本，按字节而非字符计数。",
        ),
        operator: Text::new(
            "Check that the device has the right profile.",
            "核对设备的规则档案是否正确。",
        ),
    },
    Page {
        reason: Reason::TextNotGbk,
        legacy: "-10321",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A text holds a character that GBK (code page 936 without the euro sign) does not \
             have.",
            "文本含 GBK（代码页 936，不含欧元符号）以外的字符。",
        ),
        caller: Text::new("Replace the character that the violation names.", "替换所指字符。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::TaxpayerIdFormat,
        legacy: "9104/9126/-10322",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A taxpayer id has a length or a character that does not exist.",
            "纳税人识别号长度或字符不合规。",
        ),
        caller: Text::new(
            "Correct the id: upper-case letters and digits; sellers have 15, 17, 18 or 20 \
             characters, buyers 15 to 20 or none.",
            "更正识别号：大写字母和数字；销售方 15、17、18 或 20 位，购买方 15 至 20 位或为空。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::TaxpayerIdChecksum,
        legacy: "-",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The last character of an 18-character id does not match the others; only where the \
             profile asks for it.",
            "18 位识别号末位校验码不符；仅在规则档案启用时检查。",
        ),
        caller: Text::new("Look for a typing error in the id.", "检查识别号是否录入有误。"),
        operator: Text::new(
            "Switch the rule off for test taxpayers, whose ids break it.",
            "测试纳税人识别号不符合校验，应关闭此规则。",
        ),
    },
    Page {
        reason: Reason::SellerMismatch,
        legacy: "-10315",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The seller's id or name is not what the device's taxpayer is registered with.",
            "销售方识别号或名称与设备所属纳税人登记不一致。",
        ),
        caller: Text::new(
            "Send id and name exactly as registered.",
            "按登记信息填写识别号和名称。",
        ),
        operator: Text::new(
            "After a change of name, update the taxpayer.",
            "纳税人更名后，更新其登记信息。",
        ),
    },
    Page {
        reason: Reason::KindNotApproved,
        legacy: "0x09d110/-10308",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The invoice kind is not approved (票种核定) for the device.",
            "设备未核定该票种。",
        ),
        caller: Text::new(
            "Use an approved kind, or another device.",
            "使用已核定票种，或改用其他设备。",
        ),
        operator: Text::new(
            "Add the kind once the tax office approved it.",
            "税务机关核定后添加票种。",
        ),
    },
    Page {
        reason: Reason::QuantityPricePair,
        legacy: "92xx",
        resend: Resend::AfterFix,
        cause: Text::new(
            "Quantity and price are not given together, or have too many decimal places.",
            "数量与单价未同时填写，或小数位数过多。",
        ),
        caller: Text::new(
            "Give both or neither; round to the places that the profile allows.",
            "两者同填或同空；小数位数不超过规则档案上限。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::LineAmountMismatch,
        legacy: "9204",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A line's amount is not quantity times price within one fen.",
            "明细金额与数量乘单价之差超过 1 分。",
        ),
        caller: Text::new(
            "Compute the line again; the violation gives the exact difference. The proxy edits \
             no amount.",
            "按所示差额重算；代理不修改金额。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::LineTaxMismatch,
        legacy: "9209",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A line's tax is not amount times rate within the profile's tolerance.",
            "明细税额与金额乘税率之差超过规则档案容差。",
        ),
        caller: Text::new(
            "Compute the tax again, rounded half up to the fen.",
            "重算税额，四舍五入到分。",
        ),
        operator: Text::new(
            "Check that the device has the right profile: tolerances differ between vendors.",
            "核对设备的规则档案：各厂商容差不同。",
        ),
    },
    Page {
        reason: Reason::TotalAmountMismatch,
        legacy: "9112",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The total without tax is not the sum of the lines.",
            "合计金额不等于明细金额之和。",
        ),
        caller: Text::new("Add the lines up again.", "重新合计明细金额。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::TotalTaxMismatch,
        legacy: "9142",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The total tax is more than 127 fen from the sum of the lines.",
            "合计税额与明细税额之和相差超过 127 分。",
        ),
        caller: Text::new("Add the lines up again.", "重新合计明细税额。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::TotalSumMismatch,
        legacy: "9112",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The total with tax is not the total without tax plus the tax.",
            "价税合计不等于合计金额加合计税额。",
        ),
        caller: Text::new("Add the two totals again.", "重算价税合计。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::AmountSign,
        legacy: "9112/9204",
        resend: Resend::AfterFix,
        cause: Text::new("An amount has the wrong sign, or is zero.", "金额符号错误或为零。"),
        caller: Text::new(
            "Blue invoices are positive but for discount lines; no line is zero.",
            "蓝字发票除折扣行外为正，任何行不得为零。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::DiscountLineOrder,
        legacy: "9145/9212",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A discount line does not directly follow its discounted line, or differs from it \
             in name, code or rate.",
            "折扣行未紧跟被折扣行，或名称、编码、税率不一致。",
        ),
        caller: Text::new(
            "Put each discount line after its line, with the same name, code and rate.",
            "折扣行紧跟被折扣行，名称、编码、税率一致。",
        ),
        operator: NOTHING,
    },
    Page {
        reason: Reason::DiscountLineAmount,
        legacy: "9146/9207",
        resend: Resend::AfterFix,
        cause: Text::new(
            "A discount is not negative, or more than its line.",
            "折扣金额非负，或超过被折扣行。",
        ),
        caller: Text::new("Correct the discount.", "更正折扣金额。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::LineCount,
        legacy: "9122",
        resend: Resend::AfterFix,
        cause: Text::new("The invoice has no lines or too many.", "明细行数为零或过多。"),
        caller: Text::new(
            "Send 1 to 100 lines; split larger orders.",
            "明细 1 至 100 行，超出则拆单。",
        ),
        operator: NOTHING,
    },
];
