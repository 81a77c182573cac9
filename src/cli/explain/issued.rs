//! The pages of what is issued, delivery, and the proxy itself. Data only; a test keeps the
//! catalogue complete.

use super::{NOTHING, Page, Resend, page};
use crate::refusal::Reason;

/// The pages, in the order of `Reason::ALL`.
pub(super) const PAGES: &[Page] = &[
    page(
        Reason::VoidNotAllowed,
        Resend::Never,
        (
            "The rules do not let this invoice be voided (作废): paper only in its month, \
             unreported and without a red letter that stands against it, electronic only when \
             its signing failed. A number in doubt is not voided either.",
            "规则不允许作废该发票：纸质仅限当月、未抄报且无有效红字发票，电子仅限验签失败；\
             结果未定的号码亦不可作废。",
        ),
        (
            "Issue a red-letter invoice instead, or void the red letters first.",
            "改开红字发票，或先作废其红字发票。",
        ),
        NOTHING,
    ),
    page(
        Reason::SignerAnswerInvalid,
        Resend::Resolve,
        (
            "The device answered something that does not fit what was asked; the number may \
             be spent.",
            "设备应答与请求不符，号码可能已用。",
        ),
        (
            "Ask ResolveInvoice; never send it under another serial.",
            "以 ResolveInvoice 查询，切勿换流水号重发。",
        ),
        (
            "Compare the device's record with the claim; void it only with proof.",
            "核对设备记录与占号，有据方可作废。",
        ),
    ),
    page(
        Reason::NotIssued,
        Resend::SameSerial,
        (
            "The device provably issued nothing; the serial is free again.",
            "已证实设备未开票，流水号重新可用。",
        ),
        ("Send the same bytes again.", "原样重发。"),
        (
            "Watch the rate: a device that often drops requests is about to fail.",
            "关注频次：设备频繁丢弃请求预示故障。",
        ),
    ),
    page(
        Reason::QrInvalid,
        Resend::Never,
        (
            "The text of an issued invoice's two-dimensional code is not what the invoice \
             says; the invoice stands. A profile that refuses such a code takes no such answer \
             from a signer: the series freezes with SIGNER_ANSWER_INVALID.",
            "已开具发票的二维码内容与发票不符；发票有效。规则档案设为 refuse 时不采纳该应答，\
             该票种序列以 SIGNER_ANSWER_INVALID 冻结。",
        ),
        ("Nothing; the invoice is issued.", "发票已开具，无需处理。"),
        (
            "Watch skproxy_numbering_qr_contradictions_total; tell the device's vendor, compare \
             firmware versions.",
            "关注 skproxy_numbering_qr_contradictions_total；联系设备厂商，核对固件版本。",
        ),
    ),
    page(
        Reason::UploadIncomplete,
        Resend::Resolve,
        (
            "The acceptance side's answer does not cover every invoice of the batch, or was \
             not written back to the device.",
            "受理结果未覆盖批次内全部发票，或未回写设备。",
        ),
        ("Nothing; the invoices are issued and stay pending.", "发票已开具，等待上传完成。"),
        ("Watch the outbox; the batch is sent again by itself.", "关注待上传队列，系统自动重传。"),
    ),
    page(
        Reason::ReconcileMismatch,
        Resend::Resolve,
        (
            "Counts or amounts of blue and red invoices differ between the books and the \
             other side.",
            "红蓝字发票份数或金额与对方不一致。",
        ),
        (
            "Compare the details by code and number; send nothing again for it.",
            "按代码和号码核对明细，切勿因此重开。",
        ),
        (
            "`report compare` lists each difference with its reason; what is only here and not \
             delivered comes by itself, everything else is for a person. Windows go by issue time.",
            "`report compare` 逐张列出差异及原因；仅我方有且未上传者会自行消除，其余须人工查明。统计按开票时间。",
        ),
    ),
    page(
        Reason::OutcomeUnknown,
        Resend::Resolve,
        (
            "The request was sent on and its answer never came: the number may be spent.",
            "请求已发出但未收到应答，号码可能已用。",
        ),
        (
            "Ask by the same serial; never send it under another.",
            "以同一流水号查询，切勿换流水号重发。",
        ),
        (
            "The finisher asks the device by itself; look at the device if it lasts.",
            "系统自动向设备查询；持续未决时检查设备。",
        ),
    ),
    page(
        Reason::QuotaExhausted,
        Resend::SameSerial,
        (
            "The invoice is more than what is left of the taxpayer's credit quota (授信额度) of the \
             month.",
            "本月授信额度不足以开具此发票。",
        ),
        (
            "Wait until the quota is raised, then send the same bytes again.",
            "待额度调整后原样重发。",
        ),
        (
            "`skproxy taxpayer credits` says what is granted and spent; `taxpayer credit` grants \
             what the tax office did.",
            "以 `skproxy taxpayer credits` 查看额度与已用；以 `taxpayer credit` 录入税务机关核定的额度。",
        ),
    ),
    page(
        Reason::OriginInfoMissing,
        Resend::AfterFix,
        (
            "Address, MAC or CPU of the requesting machine is missing; the 乐企 profile \
             (digital invoices) needs them.",
            "缺少请求设备的 IP、MAC 或 CPU 信息（乐企规则档案要求）。",
        ),
        (
            "Fill draft.origin, over gRPC: the legacy interface has no element for it.",
            "填写 draft.origin；旧接口无此元素，须使用 gRPC。",
        ),
        (
            "The profile's leqi.origin_required says what must be given.",
            "规则档案的 leqi.origin_required 决定必填项。",
        ),
    ),
    page(
        Reason::RedConfirmationMissing,
        Resend::AfterFix,
        (
            "A red digital invoice has no confirmation number (红字确认单).",
            "数电红字发票缺少红字信息确认单编号。",
        ),
        (
            "Have the red confirmation made first, then send its number and UUID in \
             draft.red_confirmation and draft.red_confirmation_uuid, over gRPC.",
            "先办理红字信息确认单，再填写其编号与 UUID；旧接口无此元素，须使用 gRPC。",
        ),
        (
            "The profile's leqi.red_confirmation_required asks for it.",
            "规则档案的 leqi.red_confirmation_required 决定是否必填。",
        ),
    ),
    page(
        Reason::AlreadyExists,
        Resend::AfterFix,
        ("What is to be made exists already, with other properties.", "待建对象已存在且属性不同。"),
        ("Nothing; platforms do not see this.", "平台不会遇到。"),
        ("Look at what exists; choose another id.", "查看现有对象，另选标识。"),
    ),
    page(
        Reason::NotFound,
        Resend::AfterFix,
        ("No such thing is known here.", "无此对象。"),
        (
            "Check the id. For a serial, NOT_FOUND is not final: use ResolveInvoice.",
            "核对标识。流水号未找到并非终态，应使用 ResolveInvoice。",
        ),
        ("Check the registry.", "核对登记信息。"),
    ),
    page(
        Reason::StoreFull,
        Resend::SameSerial,
        ("The disk has no room for another invoice.", "磁盘空间不足。"),
        (
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        ("Free or add space; issuing goes on by itself.", "释放或增加空间，自动恢复开票。"),
    ),
    page(
        Reason::StoreReadOnly,
        Resend::SameSerial,
        ("The books can be read but not written; queries go on.", "账簿只读，查询可用。"),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Read in the log or /readyz why: the watermark is lost, or the books are behind \
             it or the acceptance. Put the right books back; when there are none, `skproxy \
             resume` goes on above what every witness knows.",
            "查看日志或 /readyz 中的原因（水位丢失，或账簿落后于水位或受理端）；放回正确的账簿；\
             确无可用账簿时，以 `skproxy resume` 在所有见证者所知号码之上恢复。",
        ),
    ),
    page(
        Reason::BackupFailed,
        Resend::AfterFix,
        (
            "The copy could not be written; it is removed, and the books are not concerned.",
            "备份文件无法写出；账簿不受影响，未完成的备份已删除。",
        ),
        ("Nothing; platforms do not see this.", "平台不会遇到。"),
        (
            "Read the words behind the reason: free space where the backup goes, or name \
             another directory, and run it again.",
            "按原因后的说明处理：为备份目标腾出空间或另选目录，再执行一次。",
        ),
    ),
    page(
        Reason::Overloaded,
        Resend::SameSerial,
        ("The proxy sheds load before anything is spent.", "代理在占用资源前丢弃过载请求。"),
        (
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        ("Watch the queues; add capacity if it lasts.", "关注队列，持续过载则扩容。"),
    ),
    page(
        Reason::Draining,
        Resend::SameSerial,
        ("The proxy is shutting down and takes no new requests.", "代理正在停机，不再接收新请求。"),
        ("Connect again, then send the same bytes.", "重新连接后原样重发。"),
        NOTHING,
    ),
    page(
        Reason::NotBuilt,
        Resend::Never,
        ("The call is in the contract but not built.", "该调用已列入契约但尚未实现。"),
        ("Do not call it.", "请勿调用。"),
        NOTHING,
    ),
    page(
        Reason::Internal,
        Resend::Resolve,
        (
            "The proxy failed; the log has the details under the error id.",
            "代理内部错误，详情见日志中的错误编号。",
        ),
        (
            "Ask ResolveInvoice, and report the error id.",
            "以 ResolveInvoice 查询，并报告错误编号。",
        ),
        ("Find the error id in the log and report the fault.", "在日志中查找错误编号并上报缺陷。"),
    ),
];
