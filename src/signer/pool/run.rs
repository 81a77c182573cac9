//! Runs one job on a backend and says what became of it. The claim stays outside the unwinding
//! closure, so that a panic of a backend cannot take it along.

use super::{Finished, Job, Question, Said, Source};
use crate::{
    model::{DeviceNo, InvoiceNumber, Kind},
    signer::{Backend, DeviceAnswer, DeviceNumbered, Signed, SignerError},
    store::{Claim, Durable},
};
use std::{
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The backend came back.
    Returned,
    /// The backend panicked; its state is anything.
    Panicked,
}

/// What a query brought.
enum Found {
    Issued(DeviceAnswer),
    Nothing { next: Option<InvoiceNumber>, quiescence: Duration },
}

pub(super) fn run(backend: &mut Backend, job: Job) -> (Finished, End) {
    match job {
        Job::Sign(claim) => {
            let (result, end) = guarded(|| sign(backend, &claim));
            let finished = match result.unwrap_or_else(|| Err(panicked(claim.device))) {
                Ok(signed) => Finished::Signed { claim, signed },
                Err(error) => Finished::Failed { claim, error },
            };
            (finished, end)
        }
        Job::Issue(claim) => {
            let (result, end) = guarded(|| device(backend, claim.device)?.issue(&claim));
            // It may have panicked after it had sent the request.
            let finished = match result.unwrap_or_else(|| Err(in_doubt(claim.device))) {
                Ok(answer) => Finished::DeviceIssued { claim, answer },
                Err(error) => Finished::Failed { claim, error },
            };
            (finished, end)
        }
        Job::Query(claim) => {
            let (result, end) = guarded(|| query(backend, &claim));
            let finished = match result.unwrap_or_else(|| Err(panicked(claim.device))) {
                Ok(Found::Issued(answer)) => Finished::DeviceIssued { claim, answer },
                Ok(Found::Nothing { next, quiescence }) => {
                    Finished::NothingIssued { claim, next, quiescence }
                }
                Err(error) => Finished::QueryFailed { claim, error },
            };
            (finished, end)
        }
        Job::Next { device: no, kind } => {
            let (result, end) = guarded(|| next(backend, no, kind));
            let finished = match result.unwrap_or_else(|| Err(panicked(no))) {
                Ok(next) => Finished::Next { device: no, kind, next },
                Err(error) => Finished::NextFailed { device: no, kind, error },
            };
            (finished, end)
        }
        Job::Ask { device: no, question, reply } => {
            let (result, end) = guarded(|| ask(backend, no, &question));
            let said = result.unwrap_or_else(|| Err(panicked(no)));
            (Finished::Said { device: no, said, reply }, end)
        }
    }
}

/// What a result says of the device; `None` when it is well.
pub(super) fn error_of(finished: &Finished) -> Option<&SignerError> {
    match finished {
        Finished::Failed { error, .. }
        | Finished::QueryFailed { error, .. }
        | Finished::NextFailed { error, .. }
        | Finished::Said { said: Err(error), .. } => Some(error),
        Finished::Signed { .. }
        | Finished::DeviceIssued { .. }
        | Finished::NothingIssued { .. }
        | Finished::Next { .. }
        | Finished::Said { said: Ok(_), .. } => None,
    }
}

/// Opens a session; a panic is a failure like another.
pub(super) fn open(source: &dyn Source) -> Result<Backend, SignerError> {
    let panicked = || SignerError::Unavailable {
        device: String::new(),
        detail: "it panicked when a session was opened".to_owned(),
    };
    guarded(|| source.open()).0.unwrap_or_else(|| Err(panicked()))
}

/// The answer to a job that no backend saw.
pub(super) fn not_sent(job: Job, detail: &str) -> Finished {
    let error = unavailable(job.device(), detail);
    match job {
        Job::Sign(claim) | Job::Issue(claim) => Finished::Failed { claim, error },
        Job::Query(claim) => Finished::QueryFailed { claim, error },
        Job::Next { device, kind } => Finished::NextFailed { device, kind, error },
        Job::Ask { device, reply, .. } => Finished::Said { device, said: Err(error), reply },
    }
}

/// Drops a backend that has panicked, which may panic again.
pub(super) fn discard(backend: Backend) {
    let (_, end) = guarded(move || drop(backend));
    if end == End::Panicked {
        tracing::warn!("a backend panicked when it was dropped");
    }
}

/// The result and how it came about; no result after a panic.
fn guarded<T>(call: impl FnOnce() -> T) -> (Option<T>, End) {
    // Whatever the closure holds by `&mut` is thrown away after a panic, so broken state is not
    // seen.
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => (Some(result), End::Returned),
        Err(_) => (None, End::Panicked),
    }
}

fn sign(backend: &mut Backend, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
    match backend {
        Backend::Proxy(signer) => signer.sign(claim),
        Backend::Device(_) => Err(refused(claim.device, "it draws its numbers itself")),
    }
}

fn query(backend: &mut Backend, claim: &Durable<Claim>) -> Result<Found, SignerError> {
    let device = device(backend, claim.device)?;
    if let Some(answer) = device.recover(claim)? {
        return Ok(Found::Issued(answer));
    }
    // In this order: a number drawn between the two calls shows as a changed next number.
    let next = device.next_number(claim.kind)?;
    Ok(Found::Nothing { next, quiescence: device.quiescence() })
}

fn next(
    backend: &mut Backend,
    no: DeviceNo,
    kind: Kind,
) -> Result<Option<InvoiceNumber>, SignerError> {
    device(backend, no)?.next_number(kind)
}

fn ask(backend: &mut Backend, no: DeviceNo, question: &Question) -> Said {
    let device = device(backend, no)?;
    match question {
        Question::Monitor(kind) => device.monitor(*kind).map(Some),
        Question::WriteBack { kind, acceptance_serial, result } => {
            device.write_back(*kind, acceptance_serial, result).map(|()| None)
        }
    }
}

fn device(
    backend: &mut Backend,
    no: DeviceNo,
) -> Result<&mut Box<dyn DeviceNumbered>, SignerError> {
    match backend {
        Backend::Device(device) => Ok(device),
        Backend::Proxy(_) => Err(refused(no, "it draws no numbers itself")),
    }
}

fn unavailable(device: DeviceNo, detail: &str) -> SignerError {
    SignerError::Unavailable { device: device.to_string(), detail: detail.to_owned() }
}

fn panicked(device: DeviceNo) -> SignerError {
    unavailable(device, "its backend panicked")
}

fn in_doubt(device: DeviceNo) -> SignerError {
    let detail = "its backend panicked while it was issuing".to_owned();
    SignerError::InDoubt { device: device.to_string(), detail }
}

fn refused(device: DeviceNo, detail: &str) -> SignerError {
    SignerError::Refused { device: device.to_string(), detail: detail.to_owned() }
}
