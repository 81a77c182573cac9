//! One call's way through the simulator: the faults around it, the books' work off the runtime's
//! threads, and the answers that are held or come twice.

use super::{
    books::{Books, BooksError},
    faults::{Fault, Faults, Operation, Phase, Release},
    held::{Held, Window},
    server::Line,
    status,
};
use prost::Message;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tonic::{Code, Request, Response, Status};

/// What every call shares. Clones share it too.
#[derive(Debug, Clone)]
pub(super) struct House {
    books: Arc<Mutex<Books>>,
    /// The faults that wait.
    pub(super) faults: Arc<Faults>,
    /// How long every batch is judged.
    pub(super) judging: Duration,
    /// The last answer of each operation, encoded.
    previous: Arc<Mutex<BTreeMap<Operation, Vec<u8>>>>,
}

/// Which call it is.
#[derive(Debug)]
pub(super) struct Call {
    operation: Operation,
    line: Option<Line>,
}

impl Call {
    /// A call as it came in.
    pub(super) fn of<T>(operation: Operation, request: &Request<T>) -> Self {
        Self { operation, line: request.extensions().get().cloned() }
    }

    fn cut(&self) {
        if let Some(line) = &self.line {
            line.cut();
        }
    }
}

impl House {
    pub(super) fn new(books: Books, faults: Arc<Faults>, judging: Duration) -> Self {
        let books = Arc::new(Mutex::new(books));
        Self { books, faults, judging, previous: Arc::default() }
    }

    /// Does `work` as one call, with the faults around it.
    pub(super) async fn call<T: Message + Default + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&mut Books, &Faults) -> Result<T, BooksError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.arrive(&call).await?;
        let skew = match self.faults.take(call.operation, Phase::Clock, |_| true) {
            Some(Fault::SkewedClock(seconds)) => seconds,
            _ => 0,
        };
        let faults = Arc::clone(&self.faults);
        let answer = self.work(move |books| books.skewed(skew, |books| work(books, &faults)));
        let answer = self.repeat(call.operation, answer.await?);
        self.depart(&call).await?;
        Ok(Response::new(answer))
    }

    /// Uses the books on a thread that may block; no fault strikes.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, BooksError> + Send + 'static,
    ) -> Result<T, Status> {
        let books = Arc::clone(&self.books);
        let done = tokio::task::spawn_blocking(move || {
            // A panic rolls its transaction back, so the books behind a poisoned lock are sound.
            work(&mut books.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let answer = done.await.map_err(|_| status::unavailable("the call failed"))?;
        answer.map_err(|error| status::from_books(&error))
    }

    /// Everything in a window, page by page; `each` says whether to go on.
    pub(super) async fn pages<F>(
        &self,
        window: Window,
        mut each: impl FnMut(Vec<Held>) -> F,
    ) -> Result<(), Status>
    where
        F: Future<Output = bool>,
    {
        let mut after = (String::new(), String::new());
        loop {
            let (of, from) = (window.clone(), after.clone());
            let page = self.work(move |books| books.page(&of, (&from.0, &from.1))).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.code.clone(), last.number.clone());
            if !each(page).await {
                return Ok(());
            }
        }
    }

    /// The faults before anything is done.
    pub(super) async fn arrive(&self, call: &Call) -> Result<(), Status> {
        if let Some(Fault::Delay(time)) = self.faults.take(call.operation, Phase::Delay, |_| true) {
            tokio::time::sleep(time).await;
        }
        let hold = self.faults.hold();
        match self.faults.take(call.operation, Phase::Arrival, |_| true) {
            Some(Fault::ErrorBefore(code)) => Err(status::on_purpose(code)),
            Some(Fault::Busy) => Err(status::on_purpose(Code::ResourceExhausted)),
            Some(Fault::Frozen) => match hold.released().await {
                Release::Cleared => Ok(()),
                Release::Held | Release::Stopped => Err(status::on_purpose(Code::Unavailable)),
            },
            Some(fault) => {
                if fault == Fault::ResetBefore {
                    call.cut();
                }
                hold.released().await;
                Err(status::on_purpose(Code::Unavailable))
            }
            None => Ok(()),
        }
    }

    /// The faults after everything is done.
    pub(super) async fn depart(&self, call: &Call) -> Result<(), Status> {
        let hold = self.faults.hold();
        match self.faults.take(call.operation, Phase::Departure, |_| true) {
            Some(Fault::LoseAnswer) => Err(status::on_purpose(Code::Unavailable)),
            Some(Fault::ErrorAfter(code)) => Err(status::on_purpose(code)),
            Some(fault) => {
                if fault == Fault::ResetAfter {
                    call.cut();
                }
                hold.released().await;
                Err(status::on_purpose(Code::Unavailable))
            }
            None => Ok(()),
        }
    }

    /// Remembers an answer; the one before it when that fault strikes.
    fn repeat<T: Message + Default>(&self, operation: Operation, answer: T) -> T {
        let before = {
            let mut previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner);
            previous.insert(operation, answer.encode_to_vec())
        };
        let again = self.faults.take(operation, Phase::Repeat, |_| before.is_some());
        let before = before.filter(|_| again.is_some());
        before.and_then(|bytes| T::decode(bytes.as_slice()).ok()).unwrap_or(answer)
    }
}
