//! What 乐企 (leqi), the direct connection for fully digital invoices, asks for beyond the other
//! contracts. Source: docs/domain.md 7.3 and rule 45.

use serde::Deserialize;

/// The `[leqi]` table of a profile. Lengths hold wherever a field is given, whatever is required.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leqi {
    /// Fields of the origin that must be given; none: it may be left out.
    pub origin_required: Vec<OriginField>,
    /// Whether a red invoice needs its red confirmation (红字确认单), number and UUID.
    pub red_confirmation_required: bool,
    /// Longest IP address (ip). Unit: characters.
    pub ip_address_max: usize,
    /// Longest MAC address (macdz). Unit: characters.
    pub mac_address_max: usize,
    /// Longest CPU id (cpuid) and main board serial (zbxlh). Unit: characters.
    pub hardware_id_max: usize,
    /// Longest number of a red confirmation (hzqrxxdbh). Unit: characters.
    pub red_confirmation_max: usize,
    /// Longest UUID of a red confirmation (hzqrduuid). Unit: characters.
    pub red_confirmation_uuid_max: usize,
}

impl Default for Leqi {
    fn default() -> Self {
        Self {
            origin_required: Vec::new(),
            red_confirmation_required: false,
            ip_address_max: 20,
            mac_address_max: 20,
            hardware_id_max: 64,
            red_confirmation_max: 20,
            red_confirmation_uuid_max: 32,
        }
    }
}

/// A field of the origin (开票设备信息), as a profile names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginField {
    /// IP address (ip).
    IpAddress,
    /// MAC address (macdz).
    MacAddress,
    /// CPU id (cpuid).
    CpuId,
    /// Serial of the main board (zbxlh).
    BoardSerial,
}

impl Leqi {
    /// The first key that is impossible, with what it must be.
    pub(super) fn impossible(&self) -> Option<(String, &'static str)> {
        let lengths = [
            (self.ip_address_max, "ip_address_max"),
            (self.mac_address_max, "mac_address_max"),
            (self.hardware_id_max, "hardware_id_max"),
            (self.red_confirmation_max, "red_confirmation_max"),
            (self.red_confirmation_uuid_max, "red_confirmation_uuid_max"),
        ];
        let (_, key) = lengths.into_iter().find(|(length, _)| !(1..=200).contains(length))?;
        Some((format!("leqi.{key}"), "1 to 200"))
    }
}
