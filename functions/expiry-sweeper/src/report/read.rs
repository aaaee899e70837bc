//! Reads reports back.

use std::io::Read;
use std::sync::Arc;

use shared::object_ref::ETag;

use super::{Action, COLUMNS, Row, RowResult, cell};

/// A record longer than this is none of ours: a key has at most 1,024 bytes.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Why a report cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It does not begin with the header row.
    #[error("this is no sweep report: its first row is not the header row {}", COLUMNS.join(","))]
    NotAReport,
    /// A row is not what was written.
    #[error("row {row} of the report is damaged: {problem}")]
    Damaged {
        /// Which one, the header row being 1.
        row: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The report ends within a row, or has no rows at all.
    #[error("the report ends within row {row}: it was not transferred whole")]
    CutShort {
        /// Which one, the header row being 1.
        row: u64,
    },
}

impl ReadError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAReport => "not-a-report",
            Self::Damaged { .. } | Self::CutShort { .. } => "report-damaged",
        }
    }
}

/// Reads a report's rows one by one.
pub fn read_rows<R: Read>(reader: R) -> Rows<R> {
    Rows {
        reader,
        chunk: vec![0; 64 << 10],
        decoder: RowDecoder::new(),
        ready: Vec::new().into_iter(),
        ended: false,
    }
}

/// The rows of a report; the iterator ends after an error.
pub struct Rows<R> {
    reader: R,
    chunk: Vec<u8>,
    decoder: RowDecoder,
    ready: std::vec::IntoIter<Row>,
    ended: bool,
}

impl<R: Read> Rows<R> {
    fn read_on(&mut self) -> Result<Vec<Row>, ReadError> {
        let length = self.reader.read(&mut self.chunk).map_err(|error| ReadError::Damaged {
            row: self.decoder.row,
            problem: format!("it cannot be read: {error}"),
        })?;
        if length == 0 {
            self.ended = true;
            self.decoder.finish()?;
            return Ok(Vec::new());
        }
        self.decoder.push(self.chunk.get(..length).unwrap_or_default())
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.ready.next() {
                return Some(Ok(row));
            }
            if self.ended {
                return None;
            }
            match self.read_on() {
                Ok(rows) => self.ready = rows.into_iter(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Turns a report's bytes, as they arrive, into rows.
#[derive(Debug)]
pub struct RowDecoder {
    /// What has arrived of a record that is not whole yet.
    pending: Vec<u8>,
    /// How much of `pending` has been searched for a record's end.
    searched: usize,
    in_quotes: bool,
    /// The row that comes next, the header row being 1.
    row: u64,
    /// The last row's values of the columns that seldom change.
    shared: [Arc<str>; 3],
}

impl Default for RowDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RowDecoder {
    /// A decoder at a report's first byte.
    pub fn new() -> Self {
        let nothing: Arc<str> = Arc::from("");
        let shared = [nothing.clone(), nothing.clone(), nothing];
        Self { pending: Vec::new(), searched: 0, in_quotes: false, row: 1, shared }
    }

    /// The rows that are whole with these bytes.
    ///
    /// # Errors
    /// Where the bytes are no report.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Row>, ReadError> {
        self.pending.extend_from_slice(bytes);
        let mut whole = 0;
        // A line feed ends a record unless it stands in quotes; a doubled quote toggles twice.
        for (at, byte) in self.pending.iter().enumerate().skip(self.searched) {
            match byte {
                b'"' => self.in_quotes = !self.in_quotes,
                b'\n' if !self.in_quotes => whole = at + 1,
                _ => {}
            }
        }
        self.searched = self.pending.len() - whole;
        let rest = self.pending.split_off(whole);
        let records = std::mem::replace(&mut self.pending, rest);
        if self.pending.len() > MAX_RECORD_BYTES {
            return Err(self.damaged("it does not end"));
        }
        self.decode(&records)
    }

    /// Whether the report ended where a report may end.
    ///
    /// # Errors
    /// Where it did not.
    pub fn finish(&self) -> Result<(), ReadError> {
        match (self.row, self.pending.is_empty()) {
            (1, _) => Err(ReadError::NotAReport),
            (_, true) => Ok(()),
            (row, false) => Err(ReadError::CutShort { row }),
        }
    }

    fn damaged(&self, problem: impl Into<String>) -> ReadError {
        ReadError::Damaged { row: self.row, problem: problem.into() }
    }

    fn decode(&mut self, records: &[u8]) -> Result<Vec<Row>, ReadError> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(records);
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| self.damaged(error.to_string()))?;
            if self.row > 1 {
                rows.push(self.row_of(&record)?);
            } else if !record.iter().eq(COLUMNS) {
                return Err(ReadError::NotAReport);
            }
            self.row += 1;
        }
        Ok(rows)
    }

    fn row_of(&mut self, record: &csv::StringRecord) -> Result<Row, ReadError> {
        if record.len() != COLUMNS.len() {
            return Err(self.damaged(format!("it has {} cells instead of {}", record.len(), COLUMNS.len())));
        }
        let cells = Cells { record, row: self.row };
        for (index, shared) in self.shared.iter_mut().enumerate() {
            let value = cells.text(index);
            if **shared != *value {
                *shared = value.into();
            }
        }
        let [sweep_id, rule, bucket] = self.shared.clone();
        Ok(Row {
            sweep_id,
            rule,
            bucket,
            key: cells.text(3),
            version_id: cells.optional(4, |text| Some(text.to_owned()))?,
            e_tag: cells.optional(5, ETag::parse)?,
            size_bytes: cells.optional(6, |text| text.parse().ok())?,
            last_modified: cells.optional(7, |text| text.parse().ok())?,
            expired_at: cells.optional(8, |text| text.parse().ok())?,
            reason: cells.text(9).into(),
            action: cells.required(10, Action::parse)?,
            result: cells.required(11, RowResult::parse)?,
            error: cells.optional(12, |text| Some(text.to_owned()))?,
            deleted_at: cells.optional(13, |text| text.parse().ok())?,
        })
    }
}

struct Cells<'r> {
    record: &'r csv::StringRecord,
    row: u64,
}

impl Cells<'_> {
    fn text(&self, index: usize) -> String {
        cell::restore(self.record.get(index).unwrap_or_default()).into_owned()
    }

    fn required<T>(&self, index: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, ReadError> {
        let text = self.text(index);
        parse(&text).ok_or_else(|| {
            let column = COLUMNS.get(index).copied().unwrap_or_default();
            ReadError::Damaged { row: self.row, problem: format!("{column} cannot be {text:?}") }
        })
    }

    fn optional<T>(
        &self,
        index: usize,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        match self.record.get(index) {
            None | Some("") => Ok(None),
            Some(_) => self.required(index, parse).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::super::{encode, header};
    use super::*;
    use proptest::prelude::*;

    fn report(rows: &[Row]) -> Vec<u8> {
        let mut bytes = header();
        encode(rows, &mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Row>, ReadError> {
        read_rows(bytes).collect()
    }

    #[test]
    fn a_report_without_rows_is_a_report() {
        assert_eq!(read(&header()), Ok(Vec::new()));
    }

    #[test]
    fn something_else_is_no_report() {
        for other in ["", "a,b\r\n1,2\r\n", "{\"json\": true}", "sweep_id"] {
            assert_eq!(read(other.as_bytes()), Err(ReadError::NotAReport), "{other}");
        }
    }

    #[test]
    fn a_report_that_ends_within_a_row_is_cut_short() {
        let bytes = report(&[row("a"), row("b")]);
        let error = read(&bytes[..bytes.len() - 3]).unwrap_err();
        assert_eq!(error, ReadError::CutShort { row: 3 });
        assert_eq!(error.code(), "report-damaged");
    }

    #[test]
    fn a_damaged_row_is_named() {
        let bytes = String::from_utf8(report(&[row("a"), row("b")])).unwrap();
        let error = read(bytes.replace(",delete,deleted,", ",delete,done,").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "row 2 of the report is damaged: result cannot be \"done\"");
        let error = read(format!("{bytes}1,2,3\r\n").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "row 4 of the report is damaged: it has 3 cells instead of 14");
        let error = read(&[bytes.as_bytes(), b"\xff\r\n"].concat()).unwrap_err();
        assert!(matches!(error, ReadError::Damaged { row: 4, .. }), "{error}");
    }

    #[test]
    fn a_record_without_end_is_refused_before_it_fills_the_memory() {
        let mut decoder = RowDecoder::new();
        decoder.push(&header()).unwrap();
        let endless = vec![b'x'; MAX_RECORD_BYTES + 1];
        assert!(matches!(decoder.push(&endless), Err(ReadError::Damaged { row: 2, .. })));
    }

    proptest! {
        #[test]
        fn every_row_reads_back_however_its_bytes_arrive(
            keys in proptest::collection::vec(any::<String>(), 0..4),
            nasty in "[=+\"'; ,\t\r\na-]{0,12}",
            error in proptest::option::of("[ -~]{1,20}"),
            chunk in 1_usize..200,
        ) {
            let rows: Vec<_> = keys
                .iter()
                .chain([&nasty])
                .map(|key| Row { error: error.clone(), size_bytes: None, ..row(key) })
                .collect();
            let bytes = report(&rows);
            let mut decoder = RowDecoder::new();
            let mut decoded = Vec::new();
            for chunk in bytes.chunks(chunk) {
                decoded.extend(decoder.push(chunk).unwrap());
            }
            prop_assert_eq!(decoder.finish(), Ok(()));
            prop_assert_eq!(&decoded, &rows);
            prop_assert_eq!(read(&bytes).unwrap(), rows);
        }
    }
}
