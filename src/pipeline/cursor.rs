//! The cursor of a list: names the last invoice that was read, and the query that it belongs to.
//!
//! It holds the invoice's code and number, which the caller knows, and not our claim's id, which
//! would tell how many invoices the whole proxy issues.

use crate::{
    convert::{hex, sha256_parts, unhex},
    model::{CstTime, InvoiceNumber},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    store::ListOwner,
};

/// Version of the layout: this byte, 8 bytes of check, 4 of number, then the code.
const VERSION: u8 = 1;
/// Bytes of the check: enough against mistakes, and a forged cursor reads nothing that its query
/// does not.
const CHECK_LEN: usize = 8;

/// What a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    /// Whose invoices.
    pub(super) owner: ListOwner,
    /// First issue time.
    pub(super) from: CstTime,
    /// Issue time to stop before.
    pub(super) until: CstTime,
}

impl Query {
    /// Reads the window of a request.
    pub(super) fn parse(
        owner: ListOwner,
        request: &pb::ListInvoicesRequest,
    ) -> Result<Self, Refusal> {
        let time = |name: &str, text: &str| {
            if text.is_empty() {
                return Err(Refusal::new(Reason::FieldMissing, format!("{name}: it is empty")));
            }
            CstTime::parse(text).ok_or_else(|| {
                Refusal::new(Reason::FieldInvalid, format!("{name}: a time of RFC 3339 is needed"))
            })
        };
        let (from, until) = (time("from", &request.from)?, time("until", &request.until)?);
        if from >= until {
            return Err(Refusal::new(Reason::FieldInvalid, "until: must be later than `from`"));
        }
        Ok(Self { owner, from, until })
    }

    /// The cursor after an invoice.
    pub(super) fn cursor(&self, invoice: &pb::Invoice) -> String {
        let number = InvoiceNumber::parse_number(&invoice.number).unwrap_or_default();
        let number = InvoiceNumber { code: invoice.code.clone(), number };
        let mut bytes = vec![VERSION];
        bytes.extend(self.check(&number));
        bytes.extend(number.number.to_be_bytes());
        bytes.extend(number.code.as_bytes());
        hex(&bytes)
    }

    /// The invoice that a cursor of this query stands for.
    ///
    /// # Errors
    /// `FieldInvalid` for a text that is no cursor, or that of another query.
    pub(super) fn number_of(&self, cursor: &str) -> Result<InvoiceNumber, Refusal> {
        let wrong = |hint: &str| Refusal::new(Reason::FieldInvalid, format!("cursor: {hint}"));
        let bytes = unhex(cursor).ok_or_else(|| wrong("it is none of ours"))?;
        let (version, rest) = bytes.split_first().ok_or_else(|| wrong("it is none of ours"))?;
        if *version != VERSION {
            return Err(wrong("it is of another version"));
        }
        let (check, number) = split(rest).ok_or_else(|| wrong("it is none of ours"))?;
        if self.check(&number) != check {
            return Err(wrong("it belongs to another taxpayer or window"));
        }
        Ok(number)
    }

    fn check(&self, number: &InvoiceNumber) -> [u8; CHECK_LEN] {
        let numbers = [
            self.owner.platform.0,
            self.owner.taxpayer.0,
            self.from.unix(),
            self.until.unix(),
            i64::from(number.number),
        ];
        let numbers: Vec<u8> = numbers.iter().flat_map(|value| value.to_be_bytes()).collect();
        let hash = sha256_parts(&[b"list cursor", &[VERSION], &numbers, number.code.as_bytes()]);
        let mut check = [0; CHECK_LEN];
        check.copy_from_slice(&hash[..CHECK_LEN]);
        check
    }
}

fn split(rest: &[u8]) -> Option<([u8; CHECK_LEN], InvoiceNumber)> {
    let (check, rest) = rest.split_first_chunk()?;
    let (number, code) = rest.split_first_chunk()?;
    let code = String::from_utf8(code.to_vec()).ok()?;
    Some((*check, InvoiceNumber { code, number: u32::from_be_bytes(*number) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PlatformNo, TaxpayerNo};

    fn request(from: &str, until: &str) -> pb::ListInvoicesRequest {
        let (from, until) = (from.to_owned(), until.to_owned());
        pb::ListInvoicesRequest { from, until, ..pb::ListInvoicesRequest::default() }
    }

    fn query(platform: i64, taxpayer: i64, until: &str) -> Query {
        let owner = ListOwner { taxpayer: TaxpayerNo(taxpayer), platform: PlatformNo(platform) };
        Query::parse(owner, &request("2026-01-01T00:00:00+08:00", until)).unwrap()
    }

    const UNTIL: &str = "2026-02-01T00:00:00+08:00";

    fn invoice(code: &str, number: &str) -> pb::Invoice {
        let (code, number) = (code.to_owned(), number.to_owned());
        pb::Invoice { code, number, ..pb::Invoice::default() }
    }

    #[test]
    fn a_cursor_leads_back_to_its_invoice_in_its_own_query() {
        for (code, number) in [("044002600111", "00000042"), ("", "99999999")] {
            let cursor = query(1, 1, UNTIL).cursor(&invoice(code, number));
            let found = query(1, 1, UNTIL).number_of(&cursor).unwrap();
            assert_eq!((found.code.as_str(), found.number_text().as_str()), (code, number));
            // The same moment, written otherwise.
            assert!(query(1, 1, "2026-01-31T16:00:00Z").number_of(&cursor).is_ok());
        }
    }

    #[test]
    fn whatever_else_is_handed_in_is_no_cursor() {
        let cursor = query(1, 1, UNTIL).cursor(&invoice("044002600111", "00000042"));
        for (what, query, cursor) in [
            ("another platform", query(2, 1, UNTIL), cursor.clone()),
            ("another taxpayer", query(1, 2, UNTIL), cursor.clone()),
            ("another window", query(1, 1, "2026-03-01T00:00:00+08:00"), cursor.clone()),
            ("another version", query(1, 1, UNTIL), cursor.replacen("01", "02", 1)),
            ("another number", query(1, 1, UNTIL), cursor.replace("0000002a", "0000002b")),
            ("cut short", query(1, 1, UNTIL), cursor[..20].to_owned()),
            ("one byte", query(1, 1, UNTIL), "01".to_owned()),
            ("no hex", query(1, 1, UNTIL), "cursor".to_owned()),
            ("no text", query(1, 1, UNTIL), format!("{cursor}ff")),
        ] {
            let refused = query.number_of(&cursor).map_err(|refusal| refusal.reason);
            assert_eq!(refused, Err(Reason::FieldInvalid), "{what}");
        }
    }

    #[test]
    fn a_window_has_two_ends_in_their_order() {
        let from = "2026-01-01T00:00:00+08:00";
        for (from, until, expect) in [
            (from, UNTIL, None),
            (from, "2025-12-31T16:00:01Z", None),
            (from, from, Some(Reason::FieldInvalid)),
            (from, "2025-12-31T16:00:00Z", Some(Reason::FieldInvalid)),
            (UNTIL, from, Some(Reason::FieldInvalid)),
            ("2026-01-01", UNTIL, Some(Reason::FieldInvalid)),
            (from, "tomorrow", Some(Reason::FieldInvalid)),
            ("", UNTIL, Some(Reason::FieldMissing)),
            (from, "", Some(Reason::FieldMissing)),
        ] {
            let owner = ListOwner { taxpayer: TaxpayerNo(1), platform: PlatformNo(1) };
            let parsed = Query::parse(owner, &request(from, until));
            let found = parsed.map_err(|refusal| refusal.reason).err();
            assert_eq!(found, expect, "{from} to {until}");
        }
    }
}
