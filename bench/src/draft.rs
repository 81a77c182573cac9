//! The invoice that the load is made of: eight lines at 13 %, about 1.5 KB.

use crate::target::Demo;
use skproxy::{
    contract::sample::{self, Seller},
    pb::v1::InvoiceDraft,
};

/// Lines of each invoice; eight fit the face of a paper one.
const LINES: u8 = 8;

/// A draft that meets every rule.
pub(crate) fn draft(demo: &Demo, serial: String) -> InvoiceDraft {
    let seller = Seller { taxpayer_id: &demo.taxpayer_id, name: &demo.seller_name };
    let draft = sample::draft_with_lines(&serial, seller, LINES);
    InvoiceDraft { device_id: demo.device_id.clone(), ..draft }
}
