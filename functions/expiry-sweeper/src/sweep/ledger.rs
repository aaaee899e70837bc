//! What of a sweep is safe at the store, kept by whoever has come further: the listing, the deleting, or both at once.

use std::cell::{Cell, RefCell};

use tokio::sync::Mutex;

use super::{Cursor, Halt, Place, Tally};
use crate::policy::Rule;
use crate::report::UploadState;

use super::Progress;

/// A cursor that says what is safe and nothing more, and how it is written down.
pub(super) struct Ledger<'p, F> {
    safe: RefCell<(Cursor, Option<UploadState>)>,
    /// How often that changed.
    changes: Cell<u64>,
    /// Writes it down; and of how many changes it did.
    save: Mutex<(F, u64)>,
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
        Self { safe, changes: Cell::new(0), save: Mutex::new((save, 0)), shown, watcher }
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
        Ok(())
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
