//! The pages of serials, limits, numbers and devices. Data only; a test keeps the catalogue
//! complete.

use super::{NOTHING, Page, Resend, page};
use crate::refusal::Reason;

/// The pages, in the order of `Reason::ALL`.
pub(super) const PAGES: &[Page] = &[
    page(
        Reason::SerialConflict,
        Resend::NewSerial,
        (
            "The serial already stands for other content of this taxpayer; of a void, its request \
             id for another number or reason.",
            "该流水号已用于该纳税人的其他内容；作废请求号已用于其他号码或原因。",
        ),
        (
            "Ask ResolveInvoice what the serial stands for. Use a new serial only for an \
             order that is truly another.",
            "以 ResolveInvoice 查明该流水号对应内容；仅对确属另一订单者使用新流水号。",
        ),
        (
            "Frequent conflicts mean that a platform reuses serials: tell it.",
            "频繁冲突说明平台重复使用流水号，应通知平台。",
        ),
    ),
    page(
        Reason::SerialInProgress,
        Resend::SameSerial,
        ("The request of this serial is under way.", "该流水号的请求正在处理中。"),
        (
            "Ask again a little later; never send the order under another serial.",
            "稍后查询，切勿换流水号重发。",
        ),
        NOTHING,
    ),
    page(
        Reason::SerialClosed,
        Resend::NewSerial,
        (
            "ResolveInvoice closed the serial unused; nothing was and nothing will be issued \
             under it.",
            "该流水号已被 ResolveInvoice 关闭，未开票且不再开票。",
        ),
        ("Send the order under a new serial.", "以新流水号重发订单。"),
        NOTHING,
    ),
    page(
        Reason::SingleLimitExceeded,
        Resend::AfterFix,
        (
            "The total is above the device's limit for one invoice (单张开票限额).",
            "金额超过设备单张开票限额。",
        ),
        ("Split the order, or apply for a higher limit.", "拆单，或申请提高限额。"),
        ("Read the monitor data again after the limit was raised.", "限额提高后重新读取监控数据。"),
    ),
    page(
        Reason::CumulativeLimitExceeded,
        Resend::SameSerial,
        (
            "The device's cumulative limit (累计限额) of the period is reached.",
            "设备当期累计限额已用尽。",
        ),
        ("Wait for the next period, or apply for a higher limit.", "等待下一期，或申请提高限额。"),
        ("Copy and clear the period once it is due.", "到期后抄报清卡。"),
    ),
    page(
        Reason::PeriodLocked,
        Resend::SameSerial,
        (
            "The device is locked until its period is reported (抄报) and cleared (清卡).",
            "设备已锁，须抄报清卡。",
        ),
        (
            "Wait until the seller has reported, then send the same bytes again.",
            "待销售方抄报清卡后原样重发。",
        ),
        (
            "Copy the report and clear the device; the lock starts at the issue deadline.",
            "执行抄报清卡；开票截止时间一到即锁。",
        ),
    ),
    page(
        Reason::OfflineTime,
        Resend::SameSerial,
        ("The device has been offline for longer than it may.", "设备离线开票时长超限。"),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Restore the way to the acceptance side; pending invoices free the device once \
             they are written back.",
            "恢复与受理端的连接；积压发票上传并回写后解锁。",
        ),
    ),
    page(
        Reason::OfflineCount,
        Resend::SameSerial,
        ("The device has as many undelivered invoices as it may.", "设备离线未上传发票份数超限。"),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Restore the way to the acceptance side, and watch the outbox.",
            "恢复与受理端的连接，关注待上传队列。",
        ),
    ),
    page(
        Reason::OfflineAmount,
        Resend::SameSerial,
        (
            "The undelivered invoices of the device come to more than they may.",
            "设备离线未上传发票金额超限。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Restore the way to the acceptance side, and watch the outbox.",
            "恢复与受理端的连接，关注待上传队列。",
        ),
    ),
    page(
        Reason::UploadDeadline,
        Resend::SameSerial,
        (
            "Invoices were not delivered by the device's day of the month (上传截止日期).",
            "发票未在上传截止日前上传。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        ("Deliver what is pending and have it written back.", "上传积压发票并完成回写。"),
    ),
    page(
        Reason::NoNumbers,
        Resend::SameSerial,
        ("The series has no number left.", "号段已用尽。"),
        ("Wait until numbers are added, then send the same bytes again.", "待补充号段后原样重发。"),
        ("Add a segment (`stock add`).", "执行 `stock add` 补充号段。"),
    ),
    page(
        Reason::NumberMismatch,
        Resend::SameSerial,
        (
            "The device's next number is not the one that the books expect.",
            "设备下一张号码与账簿不符。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Find out who issued past the proxy before the series goes on.",
            "查明是否有绕过代理的开票后再恢复。",
        ),
    ),
    page(
        Reason::SegmentOverlap,
        Resend::AfterFix,
        (
            "The segment overlaps one that is already known, of this or another device.",
            "号段与已登记号段（含其他设备）重叠。",
        ),
        ("Nothing; platforms do not see this.", "平台不会遇到。"),
        (
            "Check code and numbers against the tax office's record; never force it.",
            "与税务机关记录核对代码和号码，切勿强行登记。",
        ),
    ),
    page(
        Reason::SeriesFrozen,
        Resend::SameSerial,
        (
            "The series is frozen: what a device answered does not match the books.",
            "该系列已冻结：设备应答与账簿不符。",
        ),
        ("Wait; resolve what is open.", "等待，并了结未决请求。"),
        (
            "Read the evidence in the log, run `verify`, unfreeze only when it is explained.",
            "查看日志证据并执行 `verify`，查明后再解冻。",
        ),
    ),
    page(
        Reason::SeriesBacklog,
        Resend::SameSerial,
        ("The device has as many open claims as it can work off.", "设备未决请求已达上限。"),
        (
            "Wait as RetryInfo says, then send the same bytes again.",
            "按 RetryInfo 等待后原样重发。",
        ),
        ("Watch the device's signing rate.", "关注设备签名速率。"),
    ),
    page(
        Reason::ClockSkew,
        Resend::SameSerial,
        (
            "The clock left the monotonic clock, the authority's time or the journal by more \
             than the limit.",
            "时钟与单调时钟、受理端时间或账簿的偏差超限。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Repair time synchronisation; issuing goes on by itself once the clock is right.",
            "修复时间同步；时钟正确后自动恢复开票。",
        ),
    ),
    page(
        Reason::DeviceUnavailable,
        Resend::SameSerial,
        (
            "The virtual device is absent, disabled or not logged in.",
            "虚拟设备缺失、停用或未登录。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Look at the device's state; bring it back or enable it.",
            "查看设备状态，恢复或启用设备。",
        ),
    ),
    page(
        Reason::DevicePinLocked,
        Resend::SameSerial,
        (
            "The device's PIN is locked, or has so few tries left that the proxy does not \
             use them.",
            "设备 PIN 已锁，或剩余次数过少而停止尝试。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Unlock the device with the right PIN by hand; the proxy never tries one twice.",
            "人工以正确 PIN 解锁；代理不会重复尝试。",
        ),
    ),
    page(
        Reason::DeviceCertInvalid,
        Resend::SameSerial,
        (
            "The device's certificate is expired, or is not the bound one.",
            "设备证书已过期或与绑定证书不符。",
        ),
        ("Wait, then send the same bytes again.", "稍后原样重发。"),
        (
            "Renew the device's certificate at the tax office, then bind it.",
            "到税务机关更新设备证书后重新绑定。",
        ),
    ),
    page(
        Reason::DeviceAmbiguous,
        Resend::AfterFix,
        (
            "The taxpayer has several devices for the kind and the request names none.",
            "该纳税人该票种有多台设备，请求未指定。",
        ),
        ("Name one in `device_id`.", "在 `device_id` 中指定设备。"),
        NOTHING,
    ),
];
