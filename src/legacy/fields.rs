//! Fields of answers: each has an upper-case name in COMMON bodies and a lower-case one in those of
//! component and server. Decides nothing.

use super::{
    answer::{Answer, Device, Found, Monitor, Segment, Standing, Stock},
    dialect::Dialect,
    number::{rate, yuan},
    print::Printer,
    request::Operation,
    row::Column,
};
use crate::{
    model::{CstTime, Kind},
    pb::v1 as pb,
};

/// A name in COMMON bodies, and in lower-case ones.
type Name = (&'static str, &'static str);

/// Prints the fields of an answer.
pub(super) struct Fields<'p> {
    pub(super) printer: &'p mut Printer,
    pub(super) dialect: Dialect,
}

impl Fields<'_> {
    fn lower(&self) -> bool {
        self.dialect.column() == Column::Lower
    }

    fn name(&self, name: Name) -> &'static str {
        if self.lower() { name.1 } else { name.0 }
    }

    fn leaf(&mut self, name: Name, value: &str) {
        let name = self.name(name);
        if !name.is_empty() {
            self.printer.leaf(name, value);
        }
    }

    /// Prints `<list count="n"><group xh="1">…`; in COMMON bodies `<LIST size="n">`.
    fn list<T>(&mut self, name: Name, item: Name, all: &[T], each: fn(&mut Self, &T)) {
        let (count, of) = (all.len().to_string(), self.name(name));
        let key = if self.lower() { "count" } else { "size" };
        self.printer.open_with(of, &[(key, &count)]);
        for (index, one) in all.iter().enumerate() {
            let number = (index + 1).to_string();
            let attributes = [("xh", number.as_str())];
            let attributes = if self.lower() { &attributes[..] } else { &[] };
            self.printer.open_with(self.name(item), attributes);
            each(self, one);
            self.printer.close();
        }
        self.printer.close();
    }

    /// Prints an answer to `operation`; nothing for a refusal or doubt.
    pub(super) fn answer(&mut self, operation: Operation, answer: &Answer) {
        match answer {
            Answer::Invoices(found) => self.invoices(operation, found),
            Answer::Voided { code, number, at } => {
                self.leaf(("FP_DM", "fpdm"), code);
                self.leaf(("FP_HM", "fphm"), number);
                self.leaf(("ZFRQ", "zfrq"), &compact(*at));
            }
            Answer::Stock(stock) => self.stock(operation, stock),
            Answer::Device(device) => self.device(device),
            Answer::Monitor(monitor) => self.monitor(monitor),
            Answer::Rates(rates) => self.list(("SLXX", "slxx"), ("SLXX_GROUP", "group"), rates, {
                |fields, millionths| fields.leaf(("SL", "sl"), &rate(*millionths))
            }),
            Answer::Key { taxpayer_id, key } => {
                self.leaf(("NSRSBH", "nsrsbh"), taxpayer_id);
                self.leaf(("KEYNO", "keyno"), key);
            }
            Answer::InDoubt | Answer::Refused(_) => {}
        }
    }

    fn invoices(&mut self, operation: Operation, found: &[Found]) {
        match (operation, found) {
            (Operation::Query, _) if self.lower() => {
                self.list(("KPXX", "kpxx"), ("KPXX_GROUP", "group"), found, Self::listed);
            }
            (Operation::Query, [first, ..]) => {
                self.made(&first.invoice);
                self.standing(first);
            }
            (_, [first, ..]) => self.made(&first.invoice),
            (_, []) => {}
        }
    }

    /// What issuing made.
    fn made(&mut self, invoice: &pb::Invoice) {
        let draft = invoice.draft.as_ref();
        self.leaf(("FPQQLSH", ""), draft.map_or("", |draft| &draft.serial));
        self.leaf(("JQBH", ""), &invoice.machine_number);
        self.leaf(("FP_DM", "fpdm"), &invoice.code);
        self.leaf(("FP_HM", "fphm"), &invoice.number);
        self.leaf(("KPRQ", "kprq"), &compact_text(&invoice.issue_time));
        self.leaf(("FP_MW", "skm"), &invoice.cipher_text);
        self.leaf(("JYM", "jym"), &invoice.check_code);
        // The text of the code; a picture is the platform's to draw, as are the layout files.
        self.leaf(("EWM", "ewm"), &invoice.qr_text);
        self.leaf(("PDF_URL", ""), "");
        self.leaf(("OFD_URL", ""), "");
        self.leaf(("BZ", ""), draft.map_or("", |draft| &draft.remark));
    }

    fn standing(&mut self, found: &Found) {
        let none = pb::InvoiceDraft::default();
        let draft = found.invoice.draft.as_ref().unwrap_or(&none);
        let red = draft.color() == pb::InvoiceColor::Red;
        let state = match (found.standing, red) {
            (Standing::Valid, false) => "00",
            (Standing::Valid, true) => "01",
            (Standing::Voided, false) => "03",
            (Standing::Voided, true) => "04",
        };
        // Two digits in the server's variant, one elsewhere.
        let state = if self.dialect == Dialect::Server { state } else { &state[1..] };
        let kind = Kind::from_wire(draft.kind).map(kind_code).unwrap_or_default();
        let nobody = pb::Party::default();
        let seller = draft.seller.as_ref().unwrap_or(&nobody);
        let buyer = draft.buyer.as_ref().unwrap_or(&nobody);
        self.leaf(("FPLXDM", "fplxdm"), &kind);
        self.leaf(("FPZT", "fpzt"), state);
        self.leaf(("SCBZ", "scbz"), if found.uploaded { "1" } else { "0" });
        self.leaf(("XSF_NSRSBH", "xhdwsbh"), &seller.taxpayer_id);
        self.leaf(("XSF_MC", "xhdwmc"), &seller.name);
        self.leaf(("GMF_NSRSBH", "ghdwsbh"), &buyer.taxpayer_id);
        self.leaf(("GMF_MC", "ghdwmc"), &buyer.name);
        self.leaf(("HJJE", "hjje"), &yuan(draft.amount_fen));
        self.leaf(("HJSE", "hjse"), &yuan(draft.tax_fen));
        self.leaf(("JSHJ", "jshj"), &yuan(draft.total_fen));
    }

    fn listed(&mut self, found: &Found) {
        self.leaf(("JQBH", "jqbh"), &found.invoice.machine_number);
        self.made(&found.invoice);
        self.standing(found);
        let draft = found.invoice.draft.as_ref();
        self.leaf(("", "fpqqlsh"), draft.map_or("", |draft| &draft.serial));
        self.leaf(("", "bz"), draft.map_or("", |draft| &draft.remark));
    }

    fn stock(&mut self, operation: Operation, stock: &Stock) {
        let (code, number) = stock.next.clone().unwrap_or_default();
        self.leaf(("DQFPDM", "dqfpdm"), &code);
        self.leaf(("DQFPHM", "dqfphm"), &number);
        if operation == Operation::CurrentNumber {
            return;
        }
        self.leaf(("ZSYFS", "zsyfs"), &stock.left.to_string());
        self.list(("LGXX", "lgxx"), ("LGXX_GROUP", "group"), &stock.segments, Self::segment);
    }

    fn segment(&mut self, segment: &Segment) {
        let day = segment.acquired_on.map(|day| day.format("%Y%m%d").to_string());
        self.leaf(("FP_DM", "fpdm"), &segment.code);
        self.leaf(("QSHM", "qshm"), &segment.first);
        self.leaf(("ZZHM", "zzhm"), &segment.last);
        self.leaf(("FPFS", "fpfs"), &segment.count.to_string());
        self.leaf(("SYFS", "syfs"), &segment.left.to_string());
        self.leaf(("LGRQ", "lgrq"), &day.unwrap_or_default());
        self.leaf(("LGRY", "lgry"), "");
    }

    fn device(&mut self, device: &Device) {
        let kinds: String = device.kinds.iter().map(|kind| kind_code(*kind)).collect();
        self.leaf(("SKSBBH", "sksbbh"), &device.id);
        self.leaf(("JQBH", "jqbh"), &device.machine_number);
        self.leaf(("NSRSBH", "nsrsbh"), &device.taxpayer_id);
        self.leaf(("NSRMC", "nsrmc"), &device.taxpayer_name);
        self.leaf(("SWJGDM", "swjgdm"), &device.office.0);
        self.leaf(("SWJGMC", "swjgmc"), &device.office.1);
        self.leaf(("FPLXDM", "fplxdm"), &kinds);
        self.leaf(("DQSZ", "dqsz"), &compact(device.clock));
    }

    /// A limit that the device does not have is printed empty: zero would mean "none left".
    fn monitor(&mut self, monitor: &Monitor) {
        let fen = |fen: Option<i64>| fen.map(yuan).unwrap_or_default();
        let deadline = monitor.issue_deadline.map(compact).unwrap_or_default();
        self.leaf(("FPLXDM", "fplxdm"), &kind_code(monitor.kind));
        self.leaf(("KPJZSJ", "kpjzsj"), &deadline);
        self.leaf(("DZKPXE", "dzkpxe"), &fen(monitor.single_limit_fen));
        self.leaf(("ZSLJXE", "zsljxe"), &fen(monitor.blue_limit_fen));
        self.leaf(("FSLJXE", "fsljxe"), &fen(monitor.red_limit_fen));
        let needs_original = monitor.red_needs_original.map(u8::from);
        self.leaf(("FSFPBZ", "fsfpbz"), &number(needs_original));
        self.leaf(("FSFPTS", "fsfpts"), &number(monitor.red_days));
        self.leaf(("LXKPSC", "lxkpsc"), &number(monitor.offline_hours));
        self.leaf(("LXKPZS", "lxkpzs"), &number(monitor.offline_count));
        self.leaf(("LXZSLJJE", "lxzsljje"), &fen(monitor.offline_amount_fen));
        self.leaf(("LXFSLJJE", "lxfsljje"), &fen(monitor.offline_red_fen));
        self.leaf(("SCJZRQ", "scjzrq"), &number(monitor.upload_day));
    }
}

fn number<N: ToString>(value: Option<N>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn kind_code(kind: Kind) -> String {
    format!("{:03}", kind.legacy_code())
}

/// `yyyyMMddHHmmss` in China Standard Time.
pub(super) fn compact(at: CstTime) -> String {
    at.rfc3339().chars().take(19).filter(char::is_ascii_digit).collect()
}

/// The same of RFC 3339 text; as it is when it is none.
fn compact_text(text: &str) -> String {
    CstTime::parse(text).map_or_else(|| text.to_owned(), compact)
}
