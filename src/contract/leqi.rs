//! What 乐企 wants beside an invoice: the machine that asked (开票设备信息) and the confirmation of a
//! red letter (红字确认单). Source: docs/domain.md 7.3, rule 45. Shapes hold for every profile; what
//! must be given is the profile's.

use super::{
    check::{Rules, too_long},
    findings::{Field, Findings},
    profile::{OriginField, Profile},
    red::only_red,
};
use crate::{model::Color, pb::v1 as pb, refusal::Reason};

const CONFIRMATION: Field = Field::of("red_confirmation");
const UUID: Field = Field::of("red_confirmation_uuid");

/// The machine that asked.
pub(super) fn origin(findings: &mut Findings<'_>, origin: Option<&pb::Origin>, profile: &Profile) {
    let rules = &profile.leqi;
    if origin.is_none() && rules.origin_required.is_empty() {
        return;
    }
    let empty = pb::Origin::default();
    let pb::Origin { ip_address, mac_address, cpu_id, board_serial } = origin.unwrap_or(&empty);
    let (ip, mac, id) = (rules.ip_address_max, rules.mac_address_max, rules.hardware_id_max);
    for (which, name, value, max) in [
        (OriginField::IpAddress, "origin.ip_address", ip_address, ip),
        (OriginField::MacAddress, "origin.mac_address", mac_address, mac),
        (OriginField::CpuId, "origin.cpu_id", cpu_id, id),
        (OriginField::BoardSerial, "origin.board_serial", board_serial, id),
    ] {
        let field = Field::of(name);
        if value.is_empty() && rules.origin_required.contains(&which) {
            findings.add(
                field,
                Reason::OriginInfoMissing,
                "is missing: the profile asks which machine sent the request",
                "缺少开票设备信息",
            );
        }
        if value.len() > max {
            too_long(findings, field, value.len(), max);
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            let (en, zh) = ("must be visible ASCII characters", "须为可见 ASCII 字符");
            findings.add(field, Reason::FieldInvalid, en, zh);
        }
    }
}

/// The confirmation of a red letter: number and UUID, both or none.
pub(super) fn confirmation(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    let leqi = &rules.profile.leqi;
    let (number, uuid) = (&wire.red_confirmation, &wire.red_confirmation_uuid);
    let asked = match rules.color {
        None => return,
        Some(Color::Blue) => {
            only_red(findings, CONFIRMATION, number);
            return only_red(findings, UUID, uuid);
        }
        Some(Color::Red) => {
            leqi.red_confirmation_required || !number.is_empty() || !uuid.is_empty()
        }
    };
    for (field, value, max) in [
        (CONFIRMATION, number, leqi.red_confirmation_max),
        (UUID, uuid, leqi.red_confirmation_uuid_max),
    ] {
        if asked && value.is_empty() {
            findings.add(
                field,
                Reason::RedConfirmationMissing,
                "is missing: a red letter is confirmed first, and names number and UUID",
                "缺少红字信息确认单编号或 UUID",
            );
        }
        if value.len() > max {
            too_long(findings, field, value.len(), max);
        }
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let (en, zh) = ("must be letters and digits", "须为字母和数字");
            findings.add(field, Reason::FieldInvalid, en, zh);
        }
    }
}
