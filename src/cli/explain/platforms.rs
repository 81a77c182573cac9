//! The pages of who asks: certificates, platforms, taxpayers, the message itself. Data only; a test
//! keeps the catalogue complete.

use super::{NOTHING, Page, Resend, page};
use crate::refusal::Reason;

/// The pages, in the order of `Reason::ALL`.
pub(super) const PAGES: &[Page] = &[
    page(
        Reason::PlatformCertUnknown,
        Resend::AfterFix,
        (
            "The client certificate's key is bound to no platform.",
            "客户端证书的公钥未绑定任何平台。",
        ),
        (
            "Check which certificate the connection uses; ask the operator to bind its key.",
            "确认连接所用证书，请运营方绑定其公钥。",
        ),
        (
            "Compare the key hash in the log with the platform's certificates; bind it if \
             the platform is accredited.",
            "将日志中的公钥摘要与平台证书对照；平台已接入则绑定。",
        ),
    ),
    page(
        Reason::PlatformCertSuspended,
        Resend::AfterFix,
        ("The client certificate is suspended (挂起).", "客户端证书已挂起。"),
        ("Ask the operator why.", "向运营方询问原因。"),
        ("Lift the suspension once its cause is settled.", "原因解决后解除挂起。"),
    ),
    page(
        Reason::PlatformCertRevoked,
        Resend::AfterFix,
        (
            "The certificate's key was revoked; a revoked key gets nothing, for ever.",
            "证书公钥已吊销，且永久失效。",
        ),
        ("Apply for a new certificate with a new key pair.", "以新密钥对申请新证书。"),
        ("Find out why it was revoked before a new one is bound.", "绑定新证书前查明吊销原因。"),
    ),
    page(
        Reason::PlatformCertExpired,
        Resend::AfterFix,
        ("The client certificate is past its validity.", "客户端证书已过有效期。"),
        ("Renew the certificate.", "更新证书。"),
        (
            "Bind the new certificate; check the clocks when it should still be valid.",
            "绑定新证书；若理应有效，核对时钟。",
        ),
    ),
    page(
        Reason::PlatformNotRegistered,
        Resend::AfterFix,
        ("The platform has no access dossier (接入档案) here.", "平台没有接入档案。"),
        ("Apply for access with the operator.", "向运营方申请接入。"),
        ("Register the platform once it is accredited.", "平台通过接入审核后登记。"),
    ),
    page(
        Reason::PlatformSuspended,
        Resend::AfterFix,
        (
            "The platform is suspended (挂起): it may ask and resolve, not issue.",
            "平台已挂起：可查询、可了结，不可开票。",
        ),
        ("Resolve what is open; ask the operator why.", "先了结未决请求，再向运营方询问原因。"),
        ("Enable the platform once the cause is settled.", "原因解决后启用平台。"),
    ),
    page(
        Reason::OperationNotAllowed,
        Resend::AfterFix,
        (
            "The operation is not granted to the platform, or this version does not offer \
             it, such as reduced taxing, or voids on a device that draws its own numbers.",
            "该操作未授权给平台，或本版本尚不提供（如减按计征、设备赋号发票的作废）。",
        ),
        ("Ask only for what is granted and offered.", "仅请求已授权且已提供的操作。"),
        (
            "`skproxy binding show PLATFORM` says what is granted, `binding set` replaces it.",
            "以 `skproxy binding show` 查看授权，以 `binding set` 调整。",
        ),
    ),
    page(
        Reason::StaleRequest,
        Resend::AfterFix,
        ("The message's own time is too far from now.", "报文时间与当前时间相差过大。"),
        (
            "Set the clock right, then send a message with the present time.",
            "校准时钟，以当前时间重新生成报文。",
        ),
        ("Check time synchronisation on both sides.", "核对双方时间同步。"),
    ),
    page(
        Reason::ReplayedRequest,
        Resend::AfterFix,
        ("The message's exchange id was used before.", "报文的交换流水号已使用过。"),
        (
            "Give each message its own exchange id; the invoice's serial stays the same.",
            "每个报文使用新的交换流水号，开票请求流水号保持不变。",
        ),
        (
            "Many of them mean a faulty client, or somebody who replays messages.",
            "大量出现说明客户端有缺陷或有人重放报文。",
        ),
    ),
    page(
        Reason::SignatureInvalid,
        Resend::AfterFix,
        ("The message's signature does not verify with the platform's key.", "报文签名验证失败。"),
        ("Sign the bytes that are sent, with the bound key.", "以绑定的密钥对实际发送的字节签名。"),
        ("Compare the signing certificate with the platform's.", "核对签名证书与平台绑定证书。"),
    ),
    page(
        Reason::DigestMismatch,
        Resend::AfterFix,
        ("The digest in the message is not that of its body.", "报文摘要与正文不符。"),
        ("Compute the digest over the bytes that are sent.", "对实际发送的字节计算摘要。"),
        ("Look for a middlebox that changes messages.", "检查途中是否有设备改动报文。"),
    ),
    page(
        Reason::TaxpayerNotBound,
        Resend::AfterFix,
        (
            "The seller is not known here, or the platform is not bound to it (按户接入).",
            "销售方未登记，或平台未与其绑定（按户接入）。",
        ),
        ("Check the seller's taxpayer id; have the binding made.", "核对销售方识别号，办理绑定。"),
        (
            "Bind them when the taxpayer authorised the platform (`binding add`).",
            "纳税人已授权平台的，执行 `binding add` 绑定。",
        ),
    ),
    page(
        Reason::TaxpayerForbidden,
        Resend::AfterFix,
        (
            "The tax office forbids the taxpayer to issue, this kind or anything.",
            "税务机关已禁止该纳税人开票，或禁止开具此票种。",
        ),
        ("Tell the seller; only its tax office can lift it.", "告知销售方，由其向税务机关办理。"),
        (
            "Once it is lifted: `skproxy taxpayer set --id ID --reason WHY` without --forbid.",
            "解除后执行 `skproxy taxpayer set --id ID --reason 原因`，不带 --forbid。",
        ),
    ),
    page(
        Reason::RateLimited,
        Resend::SameSerial,
        ("The platform asked more often than its rate allows.", "平台请求频率超过限额。"),
        (
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        ("Raise the rate if the platform's business grew.", "平台业务增长的，调高限额。"),
    ),
    page(
        Reason::SessionLimit,
        Resend::SameSerial,
        (
            "The platform has as many connections or calls open as it may.",
            "平台的连接数或在途请求数已达上限。",
        ),
        (
            "Reuse connections; wait as RetryInfo says, then send the same bytes again.",
            "复用连接，按 RetryInfo 等待后原样重发。",
        ),
        ("Raise the limit if the platform's business grew.", "平台业务增长的，调高上限。"),
    ),
    page(
        Reason::MalformedMessage,
        Resend::AfterFix,
        ("The message does not decode.", "报文无法解码。"),
        (
            "Encode it with the published proto; check for truncation.",
            "按公布的 proto 编码，检查是否截断。",
        ),
        NOTHING,
    ),
    page(
        Reason::EncodingMismatch,
        Resend::AfterFix,
        (
            "The bytes are not of the charset that the message declares.",
            "报文字节与声明的字符集不符。",
        ),
        (
            "Declare the charset that is sent; gbk has no four-byte characters.",
            "如实声明字符集；gbk 不含四字节字符。",
        ),
        NOTHING,
    ),
    page(
        Reason::DuplicateField,
        Resend::AfterFix,
        ("An element stands twice where it may stand once.", "不可重复的元素出现多次。"),
        ("Send each element once.", "每个元素只发送一次。"),
        NOTHING,
    ),
    page(
        Reason::EncryptionUnsupported,
        Resend::AfterFix,
        (
            "The content of a legacy message is encrypted in a way that is not taken (3DES, \
             enveloped data).",
            "旧接口报文内容的加密方式不受支持（3DES、数字信封）。",
        ),
        (
            "Send it plain (encryptCode 0) or signed (encryptCode 2); the connection itself \
             is encrypted.",
            "改为明文（encryptCode 0）或签名（encryptCode 2）；链路本身已加密。",
        ),
        NOTHING,
    ),
    page(
        Reason::DecimalFormat,
        Resend::AfterFix,
        (
            "An amount or rate of a legacy message is no plain decimal number: an exponent, \
             a sign +, a blank, NaN, or too large.",
            "旧接口报文的金额或税率不是普通十进制数：含指数、正号、空格、NaN，或数值过大。",
        ),
        (
            "Write it like 1234.50, with a minus sign at most.",
            "按 1234.50 的形式填写，至多带负号。",
        ),
        NOTHING,
    ),
    page(
        Reason::DecimalPrecision,
        Resend::AfterFix,
        (
            "An amount of a legacy message has more than two decimals, or a rate more than \
             six. Nothing is rounded here.",
            "旧接口报文的金额超过两位小数，或税率超过六位小数；此处不作四舍五入。",
        ),
        (
            "Round before sending, so that both sides keep the same amount.",
            "发送前自行舍入，使双方金额一致。",
        ),
        NOTHING,
    ),
    page(
        Reason::TaxIncludedUnsupported,
        Resend::AfterFix,
        (
            "The message says that its amounts include tax (HSBZ=1, 含税标志). Converting them \
             would edit money.",
            "报文标明金额含税（HSBZ=1），换算即改动金额。",
        ),
        ("Send amounts without tax and HSBZ 0.", "以不含税金额开票，HSBZ 填 0。"),
        NOTHING,
    ),
];
