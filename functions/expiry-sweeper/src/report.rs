//! The report: one row per key that was or would be deleted, as CSV (RFC 4180).
//!
//! A sweep's reports stand at `sweeps/{yyyy-mm-dd}/{sweep_id}/{rule}.csv`, `{rule}.2.csv`, … in the audit
//! bucket: each invocation that worked on the rule writes one, and none is ever overwritten.
//!
//! Cells that a spreadsheet would execute carry an apostrophe in front, which [`read_rows`] takes away
//! again; see [`cell`] for the rule. Whoever reads a report by other means has to do the same.

use std::borrow::{Borrow, Cow};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use shared::object_ref::ETag;

pub mod cell;
mod key_list;
mod packed;
mod parts;
mod read;
mod spool;
mod stored;
mod summary;
mod writer;

pub use key_list::KeyList;
pub use packed::PackedRows;
pub(crate) use parts::PART_BYTES;
pub use parts::UploadState;
pub use read::{ReadError, RowDecoder, Rows, read_rows};
pub(crate) use stored::{DECODED_BYTES, FETCHED_BYTES, StoredError, StoredReport};
pub use summary::{RuleSummary, SummaryError, SummaryReason, SweepSummary, read_summary, write_summary};
pub use writer::{Left, ReportFile, ReportTarget, ReportWriter};

/// The names of the columns, in their order.
pub const COLUMNS: [&str; 14] = [
    "sweep_id",
    "rule",
    "bucket",
    "key",
    "version_id",
    "e_tag",
    "size_bytes",
    "last_modified",
    "expired_at",
    "reason",
    "action",
    "result",
    "error",
    "deleted_at",
];

/// What is done, or would be, to what a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The current object is deleted.
    Delete,
    /// The current object is copied to the audit bucket, then deleted.
    Quarantine,
    /// One version, or delete marker, is deleted for good.
    DeleteVersion,
    /// A multipart upload is given up.
    AbortUpload,
}

impl Action {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Quarantine => "quarantine",
            Self::DeleteVersion => "delete-version",
            Self::AbortUpload => "abort-upload",
        }
    }

    /// The action of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Delete, Self::Quarantine, Self::DeleteVersion, Self::AbortUpload]
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowResult {
    /// It would be deleted; nothing was done.
    Planned,
    /// It is gone.
    Deleted,
    /// Something else stands under the key by now, which was kept.
    Changed,
    /// It is held, by a tag or by object lock, and was kept.
    Held,
    /// It could not be deleted; `error` says why.
    Failed,
}

impl RowResult {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Deleted => "deleted",
            Self::Changed => "changed",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }

    /// The result of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Planned, Self::Deleted, Self::Changed, Self::Held, Self::Failed]
            .into_iter()
            .find(|result| result.as_str() == text)
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The sweep.
    pub sweep_id: Arc<str>,
    /// The rule's id.
    pub rule: Arc<str>,
    /// The bucket.
    pub bucket: Arc<str>,
    /// The raw key.
    pub key: String,
    /// The version, where one was deleted; of a multipart upload its id.
    pub version_id: Option<String>,
    /// The tag that was listed.
    pub e_tag: Option<ETag>,
    /// Size in bytes; a multipart upload and a delete marker have none.
    pub size_bytes: Option<u64>,
    /// When it was written; of a multipart upload, when it was begun.
    pub last_modified: Option<Timestamp>,
    /// Since when it has been due.
    pub expired_at: Option<Timestamp>,
    /// Why it is due, as a stable code.
    pub reason: Cow<'static, str>,
    /// What is done to it.
    pub action: Action,
    /// What became of it.
    pub result: RowResult,
    /// Why not, where it could not be deleted or was kept.
    pub error: Option<String>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Row {
    /// The cells, in the order of [`COLUMNS`], before they are made harmless.
    fn cells(&self) -> [Cow<'_, str>; COLUMNS.len()] {
        fn text<T: ToString>(value: Option<T>) -> Cow<'static, str> {
            value.map_or(Cow::Borrowed(""), |value| Cow::Owned(value.to_string()))
        }
        [
            Cow::Borrowed(&*self.sweep_id),
            Cow::Borrowed(&*self.rule),
            Cow::Borrowed(&*self.bucket),
            Cow::Borrowed(&*self.key),
            Cow::Borrowed(self.version_id.as_deref().unwrap_or_default()),
            Cow::Borrowed(self.e_tag.as_ref().map(ETag::as_str).unwrap_or_default()),
            text(self.size_bytes),
            text(self.last_modified),
            text(self.expired_at),
            Cow::Borrowed(&*self.reason),
            Cow::Borrowed(self.action.as_str()),
            Cow::Borrowed(self.result.as_str()),
            Cow::Borrowed(self.error.as_deref().unwrap_or_default()),
            text(self.deleted_at),
        ]
    }
}

/// The header row's bytes.
pub fn header() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = writer(&mut bytes);
    // Writing to memory does not fail.
    drop(write(&mut writer, &COLUMNS.map(Cow::Borrowed)));
    drop(writer);
    bytes
}

/// Writes the rows' bytes to `bytes`, memory that does not fail. Answers how many rows there were.
pub fn encode<R: Borrow<Row>>(rows: impl IntoIterator<Item = R>, bytes: impl io::Write) -> u64 {
    let mut writer = writer(bytes);
    let mut count = 0;
    for row in rows {
        drop(write(&mut writer, &row.borrow().cells()));
        count += 1;
    }
    drop(writer.flush());
    count
}

fn writer<W: io::Write>(bytes: W) -> csv::Writer<W> {
    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(bytes)
}

fn write<const N: usize>(
    writer: &mut csv::Writer<impl io::Write>,
    cells: &[Cow<'_, str>; N],
) -> csv::Result<()> {
    writer.write_record(cells.iter().map(|text| cell::neutralise(text)).map(CellBytes))
}

/// Lets the CSV writer take borrowed and owned cells alike.
struct CellBytes<'a>(Cow<'a, str>);

impl AsRef<[u8]> for CellBytes<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(key: &str) -> Row {
        Row {
            sweep_id: "01jd".into(),
            rule: "temp-catalog".into(),
            bucket: "files".into(),
            key: key.to_owned(),
            version_id: None,
            e_tag: ETag::parse("\"5D41402ABC4B2A76B9719D911017C592\""),
            size_bytes: Some(5),
            last_modified: Some("2026-11-20T06:00:00Z".parse().unwrap()),
            expired_at: Some("2026-11-21T06:00:00Z".parse().unwrap()),
            reason: "expired".into(),
            action: Action::Delete,
            result: RowResult::Deleted,
            error: None,
            deleted_at: Some("2026-11-21T07:29:20.5Z".parse().unwrap()),
        }
    }

    #[test]
    fn a_report_reads_as_the_contract_says() {
        let mut bytes = header();
        encode(&[row("tempcato/a, \"b\".png"), row("=1+1")], &mut bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "sweep_id,rule,bucket,key,version_id,e_tag,size_bytes,last_modified,expired_at,reason,action,\
             result,error,deleted_at\r\n\
             01jd,temp-catalog,files,\"tempcato/a, \"\"b\"\".png\",,5d41402abc4b2a76b9719d911017c592,5,\
             2026-11-20T06:00:00Z,2026-11-21T06:00:00Z,expired,delete,deleted,,2026-11-21T07:29:20.5Z\r\n\
             01jd,temp-catalog,files,'=1+1,,5d41402abc4b2a76b9719d911017c592,5,\
             2026-11-20T06:00:00Z,2026-11-21T06:00:00Z,expired,delete,deleted,,2026-11-21T07:29:20.5Z\r\n"
        );
    }

    #[test]
    fn names_of_actions_and_results_read_back() {
        for action in [Action::Delete, Action::Quarantine, Action::DeleteVersion, Action::AbortUpload] {
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        assert_eq!(Action::parse("Delete"), None);
        assert_eq!(RowResult::parse("held"), Some(RowResult::Held));
        assert_eq!(RowResult::parse(""), None);
    }
}
