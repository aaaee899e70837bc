//! What of a sweep is safe at the store, kept by whoever has come further: the listing, the deleting, or both at once.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Cursor, Halt, Place, Tally};
use crate::policy::Rule;
use crate::report::UploadState;

use super::Progress;

/// For how long nothing need be written down: a quarter of what a lease is taken for.
const LONGEST_SILENCE: Duration = Duration::from_secs(15 * 60);

/// A cursor that says what is safe and nothing more, and how it is written down.
pub(super) struct Ledger<'p, F> {
    safe: RefCell<(Cursor, Option<UploadState>)>,
    /// How often that changed.
    changes: Cell<u64>,
    /// Writes it down; and of how many changes it did.
    save: Mutex<(F, u64)>,
    /// When it did so last.
    saved_at: Cell<Instant>,
    /// The numbers so far, safe or not, for whoever watches.
    shown: RefCell<Tally>,
    watcher: (&'p dyn Progress, &'p Rule),
}

impl<'p, F> Ledger<'p, F>
where
    F: AsyncFnMut(&Cursor, Option<UploadState>) -> Result<(), Halt>,
{
    pub(super) fn new(cursor: Cursor, watcher: (&'p dyn Progress, &'p Rule), save: F) -> Self {
        let shown = RefCell::new(cursor.tally.clone());
        let safe = RefCell::new((cursor, None));
        let saved_at = Cell::new(Instant::now());
        Self { safe, changes: Cell::new(0), save: Mutex::new((save, 0)), saved_at, shown, watcher }
    }

    /// Takes a change down that is safe by now; it is not written yet.
    pub(super) fn change(&self, change: impl FnOnce(&mut Cursor, &mut Option<UploadState>)) {
        let (cursor, upload) = &mut *self.safe.borrow_mut();
        change(cursor, upload);
        self.changes.set(self.changes.get() + 1);
    }

    /// Where the plan goes on after `count` rows from `place` on.
    pub(super) fn after(&self, place: Place, count: u64) -> Place {
        self.safe.borrow().0.after(place, count)
    }

    /// Writes down what is safe, unless somebody else has just done so.
    ///
    /// # Errors
    /// It cannot be written, or the rule is somebody else's by now. Nothing more may be done then.
    pub(super) async fn save(&self) -> Result<(), Halt> {
        let wanted = self.changes.get();
        let (save, saved) = &mut *self.save.lock().await;
        if *saved >= wanted {
            return Ok(());
        }
        let changes = self.changes.get();
        let (cursor, upload) = self.safe.borrow().clone();
        save(&cursor, upload).await?;
        *saved = changes;
        self.saved_at.set(Instant::now());
        Ok(())
    }

    /// Writes down what is safe if that was long ago, so that a lease does not end while its holder is at work.
    ///
    /// # Errors
    /// As for [`Ledger::save`].
    pub(super) async fn keep(&self) -> Result<(), Halt> {
        if self.saved_at.get().elapsed() < LONGEST_SILENCE {
            return Ok(());
        }
        self.change(|_, _| {});
        self.save().await
    }

    /// Shows whoever watches that another page was listed.
    pub(super) fn scanned(&self, added: &Tally) {
        self.shown.borrow_mut().add(added);
        let (progress, rule) = self.watcher;
        progress.scanned(rule, &self.shown.borrow());
    }

    /// Shows whoever watches that another batch was deleted.
    pub(super) fn deleted(&self, added: &Tally) {
        self.shown.borrow_mut().add(added);
        let (progress, rule) = self.watcher;
        progress.deleted(rule, &self.shown.borrow());
    }

    /// What is safe.
    pub(super) fn into_cursor(self) -> Cursor {
        self.safe.into_inner().0
    }
}
