//! The reference list of a rule, and what it names that does not exist.

use jiff::Timestamp;
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{ListedEntry, ObjectStore};

use super::{Cursor, Halt, Phase, Position, Sweep};
use crate::policy::{Criterion, Location};
use crate::references::{ReferenceOptions, References, SortLimits};
use crate::report::KeyList;

/// A reference list that is being joined with a listing.
pub(crate) struct Audit<'s, S> {
    store: &'s S,
    references: References<'s, S>,
    /// Keys that are referenced and do not exist.
    missing: KeyList,
}

impl<'s, S: ObjectStore> Audit<'s, S> {
    /// Opens the list that the rule asks for, to go on where the cursor stands; `None` for a rule without one.
    pub(crate) async fn open<C: shared::clock::Clock>(
        sweep: &Sweep<'s, S, C>,
        cursor: &Cursor,
        token: &str,
    ) -> Result<Option<Self>, Halt> {
        let Criterion::Unreferenced { references: Location { bucket, key }, max_age, .. } =
            &sweep.rule.criterion
        else {
            return Ok(None);
        };
        let options = ReferenceOptions {
            prefix: sweep.rule.prefix.clone(),
            start_after: match &cursor.phase {
                Phase::Listing { after: Some(Position::Object { key }), .. } => Some(key.clone()),
                _ => None,
            },
            now: sweep.clock.now(),
            max_age: *max_age,
            limits: SortLimits::default(),
            verified: cursor.verified.as_deref().and_then(ETag::parse),
        };
        let references = References::open(sweep.store, &ObjectRef::new(&**bucket, &**key), options).await?;
        let missing = KeyList::new(sweep.target(format!("{}.missing", sweep.rule.id)), token);
        Ok(Some(Self { store: sweep.store, references, missing }))
    }

    /// Whether each object is referenced; `None` for one that was written after the list, which cannot know of it.
    pub(super) async fn mark(&mut self, entries: &[ListedEntry]) -> Result<Vec<Option<bool>>, Halt> {
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let marks = self.references.mark(&keys).await?;
        let missing = self.references.take_missing();
        self.missing.append(self.store, &missing).await?;
        // Some stores tell the one in seconds and the other finer.
        let written = self.references.written().as_second();
        let is_known = |entry: &ListedEntry| entry.last_modified.as_second() <= written;
        Ok(entries.iter().zip(marks).map(|(entry, mark)| (mark || is_known(entry)).then_some(mark)).collect())
    }

    /// When the list was written.
    pub(super) fn written(&self) -> Timestamp {
        self.references.written()
    }

    /// The listing is at its end.
    pub(super) async fn end(&mut self) -> Result<(), Halt> {
        while let Some(missing) = self.references.rest().await? {
            self.missing.append(self.store, &missing).await?;
        }
        Ok(())
    }

    /// Writes down what does not exist, and notes the numbers.
    pub(crate) async fn finish(self, cursor: &mut Cursor) -> Result<(), Halt> {
        cursor.verified = self.references.was_sorted().then(|| self.references.e_tag().to_string());
        let missing = self.missing.finish(self.store).await?;
        cursor.missing_references = Some(cursor.missing_references.unwrap_or_default() + missing);
        Ok(())
    }
}
