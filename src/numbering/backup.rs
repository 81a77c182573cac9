//! Backups beside issuing: the actor copies a slice of the books between two batches. One at a
//! time; whoever asked hears how far it is, and ends it by leaving.

use super::{Numbering, work::Completion};
use crate::{
    refusal::{Reason, Refusal, chain},
    store::backup::{Copied, Copier, Destination, Progress},
};
use std::{
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

/// What whoever asked for a backup hears, from time to time and at the end.
#[derive(Debug)]
pub enum BackupNews {
    /// It goes on.
    Copying(Progress),
    /// Everything is copied; it is for the hearer to finish it.
    Copied(Copied),
}

/// News that wait for their hearer; further ones are dropped, but for the last.
const NEWS_MAX: usize = 8;

/// A backup that somebody asks for.
pub(super) struct Asked {
    destination: Destination,
    news: Sender<Result<BackupNews, Refusal>>,
    /// Room for the last of the news.
    end: OwnedPermit<Result<BackupNews, Refusal>>,
}

/// The one backup at a time, between whoever asks and the actor.
#[derive(Default)]
pub(crate) struct Backups(Mutex<Slot>);

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Asked(Asked),
    Running,
    /// The actor has ended.
    Closed,
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backups")
    }
}

impl Backups {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, asked: Asked) -> Result<(), Refusal> {
        let mut slot = self.slot();
        match *slot {
            Slot::Free => *slot = Slot::Asked(asked),
            Slot::Asked(_) | Slot::Running => {
                return Err(Refusal::new(Reason::AlreadyExists, "a backup is under way"));
            }
            Slot::Closed => return Err(draining()),
        }
        Ok(())
    }

    /// The backup to be made; it is running from now on.
    pub(super) fn begin(&self) -> Option<Asked> {
        let mut slot = self.slot();
        if !matches!(*slot, Slot::Asked(_)) {
            return None;
        }
        match std::mem::replace(&mut *slot, Slot::Running) {
            Slot::Asked(asked) => Some(asked),
            Slot::Free | Slot::Running | Slot::Closed => None,
        }
    }

    /// The running backup has ended; another one may be asked for.
    pub(super) fn end(&self) {
        *self.slot() = Slot::Free;
    }

    /// The actor ends: no backup any more.
    pub(super) fn close(&self) {
        *self.slot() = Slot::Closed;
    }
}

impl Numbering {
    /// Asks for a backup. The last of the news is `Copied` or an error; a closed channel without
    /// either means that the proxy has ended. Dropping the receiver ends the backup.
    ///
    /// # Errors
    /// `AlreadyExists` while another one is under way; `Draining`.
    ///
    /// # Panics
    /// Never: a fresh channel has room.
    pub fn back_up(
        &self,
        destination: Destination,
    ) -> Result<Receiver<Result<BackupNews, Refusal>>, Refusal> {
        let (news, hearer) = mpsc::channel(NEWS_MAX);
        let end = news.clone().try_reserve_owned().expect("a fresh channel has room");
        self.shared.backups.ask(Asked { destination, news, end })?;
        // Wakes the actor.
        self.mailbox.complete(Completion::Change(None));
        Ok(hearer)
    }
}

/// Makes a backup, with a `turn` of the actor between two slices. False when a turn was the last.
pub(super) fn run(asked: Asked, copier: &Copier, mut turn: impl FnMut() -> bool) -> bool {
    let Asked { destination, news, end } = asked;
    let mut goes_on = true;
    let copied = copier.run(destination, |progress| {
        // A hearer who is slow misses some.
        drop(news.try_send(Ok(BackupNews::Copying(progress))));
        goes_on = turn();
        if goes_on && !news.is_closed() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    let told = match copied {
        Ok(Some(copied)) => Ok(BackupNews::Copied(copied)),
        Ok(None) => Err(draining()),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(error, "a backup was not made; the books are not concerned");
            Err(Refusal::new(Reason::BackupFailed, error))
        }
    };
    drop(end.send(told));
    goes_on
}

fn draining() -> Refusal {
    Refusal::new(Reason::Draining, "the proxy is going down; no backup was made")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Batch, RegistryChange, Store as _,
        embedded::{self, Options},
    };

    /// Asks for a backup of books of several slices; (what was told last, whether the actor goes
    /// on, turns taken).
    fn ended(turns_max: usize) -> (Result<BackupNews, Refusal>, bool, usize) {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = embedded::open(&Options::in_dir(dir.path())).unwrap().store;
        let bulk = RegistryChange::Setting("bulk".into(), vec![1; 8 << 20]);
        store.commit(Batch { registry: vec![bulk], ..Batch::default() }).unwrap();
        let (news, mut hearer) = mpsc::channel(NEWS_MAX);
        let end = news.clone().try_reserve_owned().unwrap();
        let destination = Destination::prepare(to.path()).unwrap();
        let mut turns = 0;
        let asked = Asked { destination, news, end };
        let goes_on = run(asked, &store.copier().unwrap(), || {
            turns += 1;
            turns < turns_max
        });
        let mut last = None;
        while let Ok(told) = hearer.try_recv() {
            last = Some(told);
        }
        (last.unwrap(), goes_on, turns)
    }

    #[test]
    fn the_last_turn_ends_the_backup_and_says_so() {
        let (told, goes_on, turns) = ended(2);
        assert!(matches!(&told, Err(refusal) if refusal.reason == Reason::Draining), "{told:?}");
        assert_eq!((goes_on, turns), (false, 2));
    }

    #[test]
    fn turns_go_on_between_the_slices_until_everything_is_copied() {
        let (told, goes_on, turns) = ended(usize::MAX);
        assert!(matches!(told, Ok(BackupNews::Copied(_))), "{told:?}");
        assert!(goes_on && turns > 3, "{turns} turns");
    }
}
