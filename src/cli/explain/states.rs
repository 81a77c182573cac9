//! The pages of serials, states and faults. Data only; a test keeps the catalogue complete. Legacy
//! codes are those of the public contracts (docs/domain.md, "Rules to enforce").

use super::{NOTHING, Page, Resend, Text};
use crate::refusal::Reason;

/// The pages, in the order of `Reason::ALL`.
pub(super) const PAGES: &[Page] = &[
    Page {
        reason: Reason::SerialConflict,
        legacy: "9990/9952/73106/-10324",
        resend: Resend::NewSerial,
        cause: Text::new(
            "The serial already stands for other content of this taxpayer.",
            "该流水号已用于该纳税人的其他内容。",
        ),
        caller: Text::new(
            "Ask ResolveInvoice what the serial stands for. Use a new serial only for an order \
             that is truly another.",
            "以 ResolveInvoice 查明该流水号对应内容；仅对确属另一订单者使用新流水号。",
        ),
        operator: Text::new(
            "Frequent conflicts mean that a platform reuses serials: tell it.",
            "频繁冲突说明平台重复使用流水号，应通知平台。",
        ),
    },
    Page {
        reason: Reason::SerialClosed,
        legacy: "8001",
        resend: Resend::NewSerial,
        cause: Text::new(
            "ResolveInvoice closed the serial unused; nothing was and nothing will be issued \
             under it.",
            "该流水号已被 ResolveInvoice 关闭，未开票且不再开票。",
        ),
        caller: Text::new("Send the order under a new serial.", "以新流水号重发订单。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::ClockSkew,
        legacy: "0x09e105/-10312",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The clock left the monotonic clock, the authority's time or the journal by more \
             than the limit.",
            "时钟与单调时钟、受理端时间或账簿的偏差超限。",
        ),
        caller: Text::new("Wait, then send the same bytes again.", "稍后原样重发。"),
        operator: Text::new(
            "Repair time synchronisation; issuing goes on by itself once the clock is right.",
            "修复时间同步；时钟正确后自动恢复开票。",
        ),
    },
    Page {
        reason: Reason::NoNumbers,
        legacy: "1002/-10311",
        resend: Resend::SameSerial,
        cause: Text::new("The series has no number left.", "号段已用尽。"),
        caller: Text::new(
            "Wait until numbers are added, then send the same bytes again.",
            "待补充号段后原样重发。",
        ),
        operator: Text::new("Add a segment (`stock add`).", "执行 `stock add` 补充号段。"),
    },
    Page {
        reason: Reason::SegmentOverlap,
        legacy: "0x09d108",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The segment overlaps one that is already known, of this or another device.",
            "号段与已登记号段（含其他设备）重叠。",
        ),
        caller: Text::new("Nothing; platforms do not see this.", "平台不会遇到。"),
        operator: Text::new(
            "Check code and numbers against the tax office's record; never force it.",
            "与税务机关记录核对代码和号码，切勿强行登记。",
        ),
    },
    Page {
        reason: Reason::SeriesFrozen,
        legacy: "-",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The series is frozen: what a device answered does not match the books.",
            "该系列已冻结：设备应答与账簿不符。",
        ),
        caller: Text::new("Wait; resolve what is open.", "等待，并了结未决请求。"),
        operator: Text::new(
            "Read the evidence in the log, run `verify`, unfreeze only when it is explained.",
            "查看日志证据并执行 `verify`，查明后再解冻。",
        ),
    },
    Page {
        reason: Reason::SeriesBacklog,
        legacy: "-",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The device has as many open claims as it can work off.",
            "设备未决请求已达上限。",
        ),
        caller: Text::new(
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        operator: Text::new("Watch the device's signing rate.", "关注设备签名速率。"),
    },
    Page {
        reason: Reason::DeviceUnavailable,
        legacy: "9998/0x09c000",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The virtual device is absent, disabled or not logged in.",
            "虚拟设备缺失、停用或未登录。",
        ),
        caller: Text::new("Wait, then send the same bytes again.", "稍后原样重发。"),
        operator: Text::new(
            "Look at the device's state; bring it back or enable it.",
            "查看设备状态，恢复或启用设备。",
        ),
    },
    Page {
        reason: Reason::DeviceAmbiguous,
        legacy: "-",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The taxpayer has several devices for the kind and the request names none.",
            "该纳税人该票种有多台设备，请求未指定。",
        ),
        caller: Text::new("Name one in `device_id`.", "在 `device_id` 中指定设备。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::SignerAnswerInvalid,
        legacy: "8009",
        resend: Resend::Resolve,
        cause: Text::new(
            "The device answered something that does not fit what was asked; the number may be \
             spent.",
            "设备应答与请求不符，号码可能已用。",
        ),
        caller: Text::new(
            "Ask ResolveInvoice; never send it under another serial.",
            "以 ResolveInvoice 查询，切勿换流水号重发。",
        ),
        operator: Text::new(
            "Compare the device's record with the claim; void it only with proof.",
            "核对设备记录与占号，有据方可作废。",
        ),
    },
    Page {
        reason: Reason::NotIssued,
        legacy: "8001",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The device provably issued nothing; the serial is free again.",
            "已证实设备未开票，流水号重新可用。",
        ),
        caller: Text::new("Send the same bytes again.", "原样重发。"),
        operator: Text::new(
            "Watch the rate: a device that often drops requests is about to fail.",
            "关注频次：设备频繁丢弃请求预示故障。",
        ),
    },
    Page {
        reason: Reason::VoidNotAllowed,
        legacy: "0x09d11c",
        resend: Resend::Never,
        cause: Text::new(
            "The rules do not let this invoice be voided (作废).",
            "规则不允许作废该发票。",
        ),
        caller: Text::new("Issue a red-letter invoice instead.", "改开红字发票。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::AlreadyExists,
        legacy: "9951",
        resend: Resend::AfterFix,
        cause: Text::new(
            "What is to be made exists already, with other properties.",
            "待建对象已存在且属性不同。",
        ),
        caller: Text::new("Nothing; platforms do not see this.", "平台不会遇到。"),
        operator: Text::new("Look at what exists; choose another id.", "查看现有对象，另选标识。"),
    },
    Page {
        reason: Reason::NotFound,
        legacy: "9001",
        resend: Resend::AfterFix,
        cause: Text::new("No such thing is known here.", "无此对象。"),
        caller: Text::new(
            "Check the id. For a serial, NOT_FOUND is not final: use ResolveInvoice.",
            "核对标识。流水号未找到并非终态，应使用 ResolveInvoice。",
        ),
        operator: Text::new("Check the registry.", "核对登记信息。"),
    },
    Page {
        reason: Reason::StoreFull,
        legacy: "8010",
        resend: Resend::SameSerial,
        cause: Text::new("The disk has no room for another invoice.", "磁盘空间不足。"),
        caller: Text::new(
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        operator: Text::new(
            "Free or add space; issuing goes on by itself.",
            "释放或增加空间，自动恢复开票。",
        ),
    },
    Page {
        reason: Reason::StoreReadOnly,
        legacy: "8010",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The books can be read but not written; queries go on.",
            "账簿只读，查询可用。",
        ),
        caller: Text::new("Wait, then send the same bytes again.", "稍后原样重发。"),
        operator: Text::new(
            "Read in the log or /readyz why: the watermark is lost, or the books are behind it. \
             Put the right books or watermark back, then restart; never make a new one.",
            "查看日志或 /readyz 中的原因（水位丢失，或账簿落后于水位）；恢复正确的账簿或水位再重启，勿新建。",
        ),
    },
    Page {
        reason: Reason::BackupFailed,
        legacy: "8010",
        resend: Resend::AfterFix,
        cause: Text::new(
            "The copy could not be written; it is removed, and the books are not concerned.",
            "备份文件无法写出；账簿不受影响，未完成的备份已删除。",
        ),
        caller: Text::new("Nothing; platforms do not see this.", "平台不会遇到。"),
        operator: Text::new(
            "Read the words behind the reason: free space where the backup goes, or name another \
             directory, and run it again.",
            "按原因后的说明处理：为备份目标腾出空间或另选目录，再执行一次。",
        ),
    },
    Page {
        reason: Reason::Overloaded,
        legacy: "9009",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The proxy sheds load before anything is spent.",
            "代理在占用资源前丢弃过载请求。",
        ),
        caller: Text::new(
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        operator: Text::new(
            "Watch the queues; add capacity if it lasts.",
            "关注队列，持续过载则扩容。",
        ),
    },
    Page {
        reason: Reason::Draining,
        legacy: "9009",
        resend: Resend::SameSerial,
        cause: Text::new(
            "The proxy is shutting down and takes no new requests.",
            "代理正在停机，不再接收新请求。",
        ),
        caller: Text::new("Connect again, then send the same bytes.", "重新连接后原样重发。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::NotBuilt,
        legacy: "2000",
        resend: Resend::Never,
        cause: Text::new(
            "The call is in the contract but not built.",
            "该调用已列入契约但尚未实现。",
        ),
        caller: Text::new("Do not call it.", "请勿调用。"),
        operator: NOTHING,
    },
    Page {
        reason: Reason::Internal,
        legacy: "9999",
        resend: Resend::Resolve,
        cause: Text::new(
            "The proxy failed; the log has the details under the error id.",
            "代理内部错误，详情见日志中的错误编号。",
        ),
        caller: Text::new(
            "Ask ResolveInvoice, and report the error id.",
            "以 ResolveInvoice 查询，并报告错误编号。",
        ),
        operator: Text::new(
            "Find the error id in the log and report the fault.",
            "在日志中查找错误编号并上报缺陷。",
        ),
    },
];
