//! Rows in as little memory as they can wait in.

use std::borrow::{Borrow, Cow};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use shared::object_ref::ETagRef;

use super::{Action, Row, RowResult};

/// Rows that wait: on the way into a plan, and in flight while the store deletes what they name.
///
/// A [`Row`] takes 264 bytes, and a few pieces of memory that are its alone. Here a row takes 48 and its share of one
/// text, so that thousands of rows are a few large pieces, which leave no holes behind. When something was deleted is not
/// kept, since no row that waits says so; and a version without a name is none.
#[derive(Debug, Clone, Default)]
pub struct PackedRows {
    /// The rows' keys, versions and tags, one behind the other.
    text: String,
    rows: Vec<Packed>,
    /// What many rows have in common; mostly there is one of them.
    kinds: Vec<Kind>,
}

/// What tells a row from others.
#[derive(Debug, Clone, Copy)]
struct Packed {
    /// Its size and its times, or anything where [`Kind`] says that there is none.
    size_bytes: u64,
    modified: Instant,
    expired: Instant,
    /// Where in the text its version begins. Its key begins where the row before ends.
    version_id: Offset,
    /// Where its tag begins.
    e_tag: Offset,
    /// Where the row ends.
    end: Offset,
    /// Which of the kinds it is.
    kind: Offset,
}

/// A time in 12 bytes, of which a [`Timestamp`] takes 16.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
struct Instant {
    seconds: i64,
    nanoseconds: i32,
}

impl Instant {
    fn of(time: Option<Timestamp>) -> Self {
        let time = time.unwrap_or_default();
        Self { seconds: time.as_second(), nanoseconds: time.subsec_nanosecond() }
    }

    fn time(self) -> Timestamp {
        // It was one.
        Timestamp::new(self.seconds, self.nanoseconds).unwrap_or_default()
    }
}

/// A place in the text, or among the kinds. The rows of a page or a batch stay far below the 4 GiB of which it can tell.
type Offset = u32;

/// Beyond all that it can tell there is nothing, so that a row there would have no key, which no store takes.
fn offset(length: usize) -> Offset {
    Offset::try_from(length).unwrap_or(Offset::MAX)
}

/// What rows have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    sweep_id: Arc<str>,
    rule: Arc<str>,
    bucket: Arc<str>,
    reason: Cow<'static, str>,
    action: Action,
    result: RowResult,
    error: Option<String>,
    has: Has,
}

/// What is known of a row: its size, when it was modified, and when it expired.
type Has = [bool; 3];

fn has(row: &Row) -> Has {
    [row.size_bytes.is_some(), row.last_modified.is_some(), row.expired_at.is_some()]
}

impl Kind {
    fn is_of(&self, row: &Row) -> bool {
        let Self { sweep_id, rule, bucket, reason, action, result, error, has: known } = self;
        (action, result, known) == (&row.action, &row.result, &has(row))
            && (reason, error) == (&row.reason, &row.error)
            && (sweep_id, rule, bucket) == (&row.sweep_id, &row.rule, &row.bucket)
    }

    fn of(row: &Row) -> Self {
        Self {
            sweep_id: row.sweep_id.clone(),
            rule: row.rule.clone(),
            bucket: row.bucket.clone(),
            reason: row.reason.clone(),
            action: row.action,
            result: row.result,
            error: row.error.clone(),
            has: has(row),
        }
    }
}

impl PackedRows {
    /// None yet, with room for so many.
    pub fn with_capacity(rows: usize) -> Self {
        Self { rows: Vec::with_capacity(rows), ..Self::default() }
    }

    /// Appends a row.
    pub fn push(&mut self, row: &Row) {
        self.text.push_str(&row.key);
        let version_id = offset(self.text.len());
        self.text.push_str(row.version_id.as_deref().unwrap_or_default());
        let e_tag = offset(self.text.len());
        self.text.push_str(row.e_tag.as_ref().map_or("", |e_tag| e_tag.as_str()));
        let end = offset(self.text.len());
        // The last one first: rows are like their neighbours.
        let kind = self.kinds.iter().rposition(|kind| kind.is_of(row)).unwrap_or_else(|| {
            self.kinds.push(Kind::of(row));
            self.kinds.len() - 1
        });
        let size_bytes = row.size_bytes.unwrap_or_default();
        let [modified, expired] = [row.last_modified, row.expired_at].map(Instant::of);
        let kind = offset(kind);
        self.rows.push(Packed { size_bytes, modified, expired, version_id, e_tag, end, kind });
    }

    /// Gives back the memory that more rows would have taken.
    pub fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.rows.shrink_to_fit();
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn text(&self, range: Range<Offset>) -> &str {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// The row's key. Of a row that there is not, it is empty, as is whatever else is asked of it.
    pub fn key(&self, index: usize) -> &str {
        let Some(row) = self.rows.get(index) else { return "" };
        let begin =
            index.checked_sub(1).and_then(|before| self.rows.get(before)).map_or(0, |before| before.end);
        self.text(begin..row.version_id)
    }

    /// The row's version; of a multipart upload its id.
    pub fn version_id(&self, index: usize) -> Option<&str> {
        let row = self.rows.get(index)?;
        Some(self.text(row.version_id..row.e_tag)).filter(|version_id| !version_id.is_empty())
    }

    /// The tag that was listed.
    pub fn e_tag(&self, index: usize) -> Option<ETagRef<'_>> {
        let row = self.rows.get(index)?;
        ETagRef::normalised(self.text(row.e_tag..row.end))
    }

    fn kind(&self, index: usize) -> Option<&Kind> {
        self.kinds.get(self.rows.get(index)?.kind as usize)
    }

    /// What is done to it.
    pub fn action(&self, index: usize) -> Option<Action> {
        self.kind(index).map(|kind| kind.action)
    }

    /// What became of it.
    pub fn result(&self, index: usize) -> Option<RowResult> {
        self.kind(index).map(|kind| kind.result)
    }

    /// The row itself.
    pub fn get(&self, index: usize) -> Option<Row> {
        let Packed { size_bytes, modified, expired, .. } = *self.rows.get(index)?;
        let Kind { sweep_id, rule, bucket, reason, action, result, error, has } = self.kind(index)?;
        let [has_size, was_modified, is_due] = *has;
        Some(Row {
            sweep_id: sweep_id.clone(),
            rule: rule.clone(),
            bucket: bucket.clone(),
            key: self.key(index).to_owned(),
            version_id: self.version_id(index).map(str::to_owned),
            e_tag: self.e_tag(index).map(ETagRef::owned),
            size_bytes: has_size.then_some(size_bytes),
            last_modified: was_modified.then(|| modified.time()),
            expired_at: is_due.then(|| expired.time()),
            reason: reason.clone(),
            action: *action,
            result: *result,
            error: error.clone(),
            deleted_at: None,
        })
    }

    /// The rows one by one.
    pub fn iter(&self) -> impl Iterator<Item = Row> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<R: Borrow<Row>> FromIterator<R> for PackedRows {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        let mut packed = Self::default();
        rows.into_iter().for_each(|row| packed.push(row.borrow()));
        packed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::object_ref::ETag;

    use super::*;

    prop_compose! {
        fn rows()(
            key in "\\PC{0,40}",
            version_id in proptest::option::of("[a-z0-9é]{1,9}"),
            e_tag in proptest::option::of("[A-Fa-f0-9\" -]{1,34}"),
            size_bytes: Option<u64>,
            times in any::<[Option<u32>; 2]>(),
            (of, reason) in (0..3_usize, 0..2_usize),
            action in prop::sample::select(vec![Action::Delete, Action::Quarantine, Action::DeleteVersion, Action::AbortUpload]),
            error in proptest::option::of("[ab]"),
        ) -> Row {
            let time = |seconds: u32| Timestamp::new(seconds.into(), 500_000_000).unwrap();
            let [last_modified, expired_at] = times.map(|seconds| seconds.map(time));
            Row {
                sweep_id: "s".into(),
                rule: Arc::from(["r", "r2", "r3"][of]),
                bucket: "files".into(),
                key,
                version_id,
                e_tag: e_tag.as_deref().and_then(ETag::parse),
                size_bytes,
                last_modified,
                expired_at,
                reason: ["expired".into(), Cow::Owned("orphan".to_owned())][reason].clone(),
                action,
                result: if error.is_some() { RowResult::Held } else { RowResult::Planned },
                error,
                deleted_at: None,
            }
        }
    }

    proptest! {
        #[test]
        fn rows_come_out_as_they_went_in(rows in prop::collection::vec(rows(), 0..40)) {
            let mut packed: PackedRows = rows.iter().collect();
            packed.shrink_to_fit();
            prop_assert_eq!((packed.len(), packed.is_empty()), (rows.len(), rows.is_empty()));
            prop_assert_eq!(&packed.iter().collect::<Vec<_>>(), &rows);
            for (index, row) in rows.iter().enumerate() {
                prop_assert_eq!(packed.key(index), &row.key);
                prop_assert_eq!(packed.version_id(index), row.version_id.as_deref());
                prop_assert_eq!(packed.e_tag(index), row.e_tag.as_ref().map(ETag::borrowed));
                prop_assert_eq!(packed.action(index), Some(row.action));
                prop_assert_eq!(packed.result(index), Some(row.result));
            }
            prop_assert_eq!(packed.get(rows.len()), None);
            prop_assert_eq!(packed.key(rows.len()), "");
        }
    }

    #[test]
    fn a_row_takes_less_than_a_fifth_of_what_it_takes_by_itself() {
        assert!(size_of::<Packed>() * 5 < size_of::<Row>(), "{} {}", size_of::<Packed>(), size_of::<Row>());
    }

    #[test]
    fn what_rows_have_in_common_is_kept_once() {
        let rows: Vec<_> = (0..1000).map(|n| super::super::tests::row(&format!("a/{n}"))).collect();
        let packed: PackedRows = rows.iter().collect();
        assert_eq!(packed.kinds.len(), 1);
    }
}
