//! The list of references: which keys are still in use, one raw key a line, plain or gzip.
//!
//! The list is joined with a listing, both in UTF-8 byte order, so that neither has to fit into memory.
//! It is read whole once before the first decision: a list that is cut off, damaged or out of order must
//! not make orphans of what it would have named further down. One that is out of order is sorted in
//! temporary files first. A list that is missing, empty (also of keys under the rule's prefix) or too
//! old stops its rule; it never means that everything is an orphan. And an object that is younger than the list is
//! none, since the list cannot know of it.
//!
//! A line cannot hold a key with a line feed in it, nor one that ends in a carriage return. Objects with
//! such keys count as referenced.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared::object_ref::{ETag, ObjectRef};
use shared::outcome::{Reason, RetryClass};
use shared::store::{ObjectStore, StoreError, StoreErrorKind};

use crate::ranges::Ranges;

mod join;
mod lines;
mod sort;

pub use join::{Answer, Join};
pub use sort::SortLimits;

use lines::Lines;
use sort::{Sorted, Sorter};

/// A reference list, and what is expected of it.
#[derive(Debug, Clone)]
pub struct ReferenceOptions {
    /// Only keys that start so matter; the others are passed over.
    pub prefix: String,
    /// Go on behind this key.
    pub start_after: Option<String>,
    /// The time.
    pub now: Timestamp,
    /// From what age, by its `Last-Modified`, the list is not believed any more.
    pub max_age: Duration,
    /// What sorting may use.
    pub limits: SortLimits,
    /// The tag that the list had when it was last found whole and in order, by a run that this one
    /// continues: then it need not be read twice.
    pub verified: Option<ETag>,
}

/// Why a list cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// There is none.
    #[error("the reference list {list} does not exist; until it does, nothing under this rule is an orphan")]
    Missing {
        /// The list.
        list: ObjectRef,
    },
    /// It names nothing that the rule could be about.
    #[error(
        "the reference list {list} names no key that starts with {prefix:?}, which would make every object an orphan; write the list again, with raw keys, one a line"
    )]
    Empty {
        /// The list.
        list: ObjectRef,
        /// The rule's prefix.
        prefix: String,
    },
    /// It is too old.
    #[error(
        "the reference list {list} was written at {written}, which is longer ago than references_max_age ({max_age:?}) allows; write it again"
    )]
    Stale {
        /// The list.
        list: ObjectRef,
        /// When it was written.
        written: Timestamp,
        /// How old it may be.
        max_age: Duration,
    },
    /// It is gzip, but not whole.
    #[error("the reference list {list} is damaged or was cut off: {problem}")]
    Damaged {
        /// The list.
        list: ObjectRef,
        /// What is wrong with it.
        problem: String,
    },
    /// A line cannot be a key.
    #[error("line {line} of the reference list {list} is no key: {problem}")]
    NoKey {
        /// The list.
        list: ObjectRef,
        /// Which line, from 1.
        line: u64,
        /// Why.
        problem: &'static str,
    },
    /// Sorting it takes more temporary space than there is.
    #[error(
        "the reference list {list} is not in byte order, and to sort it takes more than the {limit_bytes} bytes of temporary space that there are; sort it beforehand (LC_ALL=C sort -u), or give the function more ephemeral storage"
    )]
    TooLarge {
        /// The list.
        list: ObjectRef,
        /// How much there is.
        limit_bytes: u64,
    },
    /// Temporary files fail.
    #[error("the reference list {list} cannot be sorted, because a temporary file fails")]
    Temporary {
        /// The list.
        list: ObjectRef,
        /// How.
        #[source]
        source: io::Error,
    },
    /// It was replaced while it was read.
    #[error("the reference list {list} was replaced while it was read; the next run takes the new one")]
    Changed {
        /// The list.
        list: ObjectRef,
    },
    /// The keys to be looked up came out of order, which is a mistake in this program.
    #[error("the listing is out of order at {key:?}")]
    Disorder {
        /// The key.
        key: String,
    },
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReferenceError {
    /// The reason that an outcome carries for this error.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Missing { .. } => "references-missing",
            Self::Empty { .. } => "references-empty",
            Self::Stale { .. } => "references-stale",
            Self::Damaged { .. } => "references-damaged",
            Self::NoKey { .. } => "references-not-keys",
            Self::TooLarge { .. } => "references-too-large",
            Self::Temporary { .. } => "references-unsortable",
            Self::Changed { .. } => "references-changed",
            Self::Disorder { .. } => "listing-out-of-order",
            Self::Store(error) => return error.reason(),
        };
        Reason::new(code, self.to_string())
    }

    /// Whether running again may help.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Changed { .. } => RetryClass::Retryable,
            Self::Store(error) => error.retry_class(),
            _ => RetryClass::Permanent,
        }
    }
}

/// A list that was found whole, and is now being joined with a listing.
pub struct References<'s, S> {
    source: Source<'s, S>,
    join: Join,
    options: ReferenceOptions,
    e_tag: ETag,
    written: Timestamp,
    was_sorted: bool,
    keys: Option<u64>,
}

enum Source<'s, S> {
    /// In order already: read from the store once more.
    Stored(Box<Lines<Ranges<'s, S>>>),
    /// Sorted in temporary files.
    Sorted(Sorted),
}

impl<'s, S: ObjectStore> References<'s, S> {
    /// Opens the list at `list`: finds it whole, and sorts it where it is not in order.
    ///
    /// # Errors
    /// Whatever keeps the list from being believed, before anything is decided by it.
    pub async fn open(
        store: &'s S,
        list: &ObjectRef,
        options: ReferenceOptions,
    ) -> Result<Self, ReferenceError> {
        let bytes = Ranges::open(store, list).await.map_err(|error| store_error(list, error))?;
        let written = bytes.meta().last_modified;
        let max_age = options.max_age;
        let limit = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        if options.now.duration_since(written) > limit {
            return Err(ReferenceError::Stale { list: list.clone(), written, max_age });
        }
        let e_tag = bytes.meta().e_tag.clone();
        let mut this = Self {
            source: Source::Stored(Box::new(Lines::new(bytes.clone()))),
            join: Join::behind(options.start_after.clone()),
            e_tag,
            written,
            was_sorted: true,
            keys: None,
            options,
        };
        if this.options.verified.as_ref() == Some(&this.e_tag) {
            return Ok(this);
        }
        match this.read_through(bytes.clone()).await? {
            Some(keys) => this.keys = Some(keys),
            None => this.sort(bytes).await?,
        }
        if this.keys == Some(0) {
            return Err(ReferenceError::Empty { list: list.clone(), prefix: this.options.prefix });
        }
        Ok(this)
    }

    /// How many lines name a key under the prefix; `None` where one is out of order.
    async fn read_through(&self, bytes: Ranges<'s, S>) -> Result<Option<u64>, ReferenceError> {
        let mut lines = Lines::new(bytes);
        let (mut keys, mut last) = (0, String::new());
        while let Some(batch) = lines.next().await? {
            for key in batch {
                if key < last {
                    return Ok(None);
                }
                keys += u64::from(key.starts_with(&self.options.prefix));
                last = key;
            }
        }
        Ok(Some(keys))
    }

    async fn sort(&mut self, bytes: Ranges<'s, S>) -> Result<(), ReferenceError> {
        let mut sorter = Sorter::new(bytes.object().clone(), self.options.limits.clone());
        let mut lines = Lines::new(bytes);
        let mut keys = 0;
        while let Some(mut batch) = lines.next().await? {
            batch.retain(|key| key.starts_with(&self.options.prefix));
            keys += batch.len() as u64;
            sorter.push(batch)?;
        }
        self.source = Source::Sorted(sorter.finish()?);
        (self.was_sorted, self.keys) = (false, Some(keys));
        Ok(())
    }

    /// The list's tag.
    pub fn e_tag(&self) -> &ETag {
        &self.e_tag
    }

    /// When the list was written. Of what was written later it knows nothing.
    pub fn written(&self) -> Timestamp {
        self.written
    }

    /// Whether the list was in order, so that [`ReferenceOptions::verified`] may name it next time.
    pub fn was_sorted(&self) -> bool {
        self.was_sorted
    }

    /// How many lines name a key under the prefix; `None` where the list was verified before.
    pub fn keys(&self) -> Option<u64> {
        self.keys
    }

    /// Whether each of `keys` is referenced. Keys come in ascending order, over all calls, and none that
    /// exists may be left out: what lies between two of them counts as missing.
    ///
    /// # Errors
    /// Where the list cannot be read on; then nothing is known about any of `keys`.
    pub async fn mark<K: AsRef<str>>(&mut self, keys: &[K]) -> Result<Vec<bool>, ReferenceError> {
        let mut marks = Vec::with_capacity(keys.len());
        for key in keys {
            let key = key.as_ref();
            loop {
                match self.join.ask(key) {
                    Answer::Referenced(referenced) => {
                        marks.push(referenced);
                        break;
                    }
                    Answer::More => self.feed().await?,
                    Answer::Disorder => return Err(ReferenceError::Disorder { key: key.to_owned() }),
                }
            }
        }
        Ok(marks)
    }

    /// References whose object is missing, as far as the listing has come. To be taken after each call of
    /// [`References::mark`], as they are kept in memory.
    pub fn take_missing(&mut self) -> Vec<String> {
        self.join.take_missing()
    }

    /// The references behind the end of the listing, in batches; `None` at the end.
    ///
    /// # Errors
    /// Where the list cannot be read on.
    pub async fn rest(&mut self) -> Result<Option<Vec<String>>, ReferenceError> {
        loop {
            self.join.end();
            let missing = self.join.take_missing();
            if !missing.is_empty() {
                return Ok(Some(missing));
            }
            if self.join.is_fed_up() {
                return Ok(None);
            }
            self.feed().await?;
        }
    }

    async fn feed(&mut self) -> Result<(), ReferenceError> {
        let batch = match &mut self.source {
            Source::Stored(lines) => lines.next().await?,
            Source::Sorted(sorted) => sorted.next()?,
        };
        match batch {
            None => self.join.feed(None),
            Some(mut batch) => {
                batch.retain(|key| key.starts_with(&self.options.prefix));
                self.join.feed(Some(VecDeque::from(batch)));
            }
        }
        Ok(())
    }
}

fn store_error(list: &ObjectRef, error: StoreError) -> ReferenceError {
    match error.kind {
        StoreErrorKind::NotFound => ReferenceError::Missing { list: list.clone() },
        StoreErrorKind::PreconditionFailed => ReferenceError::Changed { list: list.clone() },
        _ => ReferenceError::Store(error),
    }
}

#[cfg(test)]
mod tests;

/// Where temporary files go unless somebody says otherwise.
pub fn temporary_directory() -> PathBuf {
    std::env::temp_dir()
}
