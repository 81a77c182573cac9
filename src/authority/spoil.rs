//! Spoils what goes out, as the content faults say. What is stored stays right: a changed statement
//! is signed again on its way.

use super::{
    books::{Books, BooksError},
    faults::{Fault, Faults, Operation, Phase},
    monitor,
};
use crate::pb::authority::v1::{MonitorData, Receipt, ReceiptStatement};
use prost::Message as _;

/// The receipt as it goes out.
pub(super) fn receipt(
    books: &Books,
    faults: &Faults,
    operation: Operation,
    mut receipt: Receipt,
) -> Result<Receipt, BooksError> {
    let mut statement =
        ReceiptStatement::decode(receipt.statement.as_slice()).map_err(|_| BooksError::Damaged)?;
    let applies = |fault: &Fault| match fault {
        Fault::MonitorMalformed => !statement.monitors.is_empty(),
        _ => true,
    };
    match faults.take(operation, Phase::Content, applies) {
        Some(Fault::WrongSignature) => {
            if let Some(last) = receipt.signature.last_mut() {
                *last ^= 1;
            }
            return Ok(receipt);
        }
        Some(Fault::WrongBatch) => {
            if let Some(first) = statement.batch_id.first_mut() {
                *first ^= 1;
            }
        }
        Some(Fault::SwappedVerdicts) => swap(&mut statement),
        Some(Fault::MonitorMalformed) => statement.monitors.iter_mut().for_each(monitor::spoil),
        _ => return Ok(receipt),
    }
    let statement = statement.encode_to_vec();
    let signature = books.receipt_key().sign(&statement).map_err(BooksError::Sign)?;
    Ok(Receipt { statement, signature })
}

/// Two verdicts change places; a lonely one is about another invoice.
fn swap(statement: &mut ReceiptStatement) {
    let last = statement.verdicts.len().saturating_sub(1);
    match statement.verdicts.as_mut_slice() {
        [only] => only.digest = vec![0; 32],
        verdicts => verdicts.swap(0, last),
    }
}

/// Monitor data as it goes out.
pub(super) fn monitor(faults: &Faults, operation: Operation, mut data: MonitorData) -> MonitorData {
    if faults.take(operation, Phase::Content, |_| true).is_some() {
        monitor::spoil(&mut data);
    }
    data
}
