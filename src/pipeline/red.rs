//! CheckRed (红冲校验): what of a blue invoice may still be reversed.

use super::{
    Pipeline,
    target::{not_bound, taxpayer},
};
use crate::{
    identity::PeerCertificate,
    model::InvoiceNumber,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::Operation,
};

impl Pipeline {
    /// What may still be reversed. Reading: a suspended platform may ask, of its own invoices.
    pub(super) fn check_red_letter(
        &self,
        peer: Option<&PeerCertificate>,
        asked: &pb::CheckRedRequest,
    ) -> Result<pb::CheckRedResponse, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let taxpayer = taxpayer(&registry, &asked.taxpayer_id).ok_or_else(not_bound)?;
        registry.may_read((platform.no, taxpayer), Operation::Red)?;
        let number = InvoiceNumber::parse_number(&asked.number).ok_or_else(|| {
            Refusal::new(Reason::FieldInvalid, "number: 8 digits are needed, with leading zeros")
        })?;
        let number = InvoiceNumber { code: asked.code.clone(), number };
        let left = self.numbering.red_balance((platform.no, taxpayer), &number)?;
        let rates = left.rates.iter().map(|(rate, part)| pb::RateBalance {
            rate_millionths: *rate,
            amount_fen: part.amount.0,
            tax_fen: part.tax.0,
        });
        Ok(pb::CheckRedResponse {
            amount_fen: left.total.amount.0,
            tax_fen: left.total.tax.0,
            rates: rates.collect(),
        })
    }
}
