//! Sorts more keys than fit into memory, by way of temporary files.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::mem;
use std::path::PathBuf;

use shared::object_ref::ObjectRef;

use super::ReferenceError;

/// What a string costs beside its bytes.
const OVERHEAD_BYTES: usize = 40;
/// How many keys are handed on at once.
const BATCH_KEYS: usize = 4096;

/// What sorting may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortLimits {
    /// Memory, in bytes.
    pub memory_bytes: usize,
    /// Temporary space, in bytes.
    pub disk_bytes: u64,
    /// Where temporary files go.
    pub directory: PathBuf,
}

impl Default for SortLimits {
    /// What the smallest Lambda function has to spare: 32 MiB, and of its 512 MB of ephemeral storage 448 MiB.
    fn default() -> Self {
        Self { memory_bytes: 32 << 20, disk_bytes: 448 << 20, directory: super::temporary_directory() }
    }
}

/// Takes keys in any order.
pub(super) struct Sorter {
    list: ObjectRef,
    limits: SortLimits,
    keys: Vec<String>,
    key_bytes: usize,
    runs: Vec<Run>,
    disk_bytes: u64,
}

impl Sorter {
    pub(super) fn new(list: ObjectRef, limits: SortLimits) -> Self {
        Self { list, limits, keys: Vec::new(), key_bytes: 0, runs: Vec::new(), disk_bytes: 0 }
    }

    pub(super) fn push(&mut self, keys: Vec<String>) -> Result<(), ReferenceError> {
        for key in keys {
            self.key_bytes += key.len() + OVERHEAD_BYTES;
            self.keys.push(key);
            if self.key_bytes > self.limits.memory_bytes {
                self.spill()?;
            }
        }
        Ok(())
    }

    fn sorted(&mut self) -> Vec<String> {
        self.key_bytes = 0;
        let mut keys = mem::take(&mut self.keys);
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn spill(&mut self) -> Result<(), ReferenceError> {
        let keys = self.sorted();
        self.disk_bytes += keys.iter().map(|key| key.len() as u64 + 1).sum::<u64>();
        let too_large =
            || ReferenceError::TooLarge { list: self.list.clone(), limit_bytes: self.limits.disk_bytes };
        if self.disk_bytes > self.limits.disk_bytes {
            return Err(too_large());
        }
        let run = self.write(&keys).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => too_large(),
            _ => temporary(&self.list, error),
        })?;
        self.runs.push(run);
        Ok(())
    }

    fn write(&self, keys: &[String]) -> io::Result<Run> {
        // It has no name, so that it is gone with the process however that ends.
        let mut writer = BufWriter::new(tempfile::tempfile_in(&self.limits.directory)?);
        for key in keys {
            writer.write_all(key.as_bytes())?;
            writer.write_all(b"\n")?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Run::File(BufReader::new(file)))
    }

    pub(super) fn finish(mut self) -> Result<Sorted, ReferenceError> {
        let rest = self.sorted();
        let mut runs = mem::take(&mut self.runs);
        runs.push(Run::Memory(rest.into_iter()));
        let mut sorted = Sorted { list: self.list, runs, heads: BinaryHeap::new(), last: None };
        for index in 0..sorted.runs.len() {
            if let Some(key) = sorted.read(index)? {
                sorted.heads.push(Reverse((key, index)));
            }
        }
        Ok(sorted)
    }
}

fn temporary(list: &ObjectRef, source: io::Error) -> ReferenceError {
    ReferenceError::Temporary { list: list.clone(), source }
}

/// Sorted keys.
enum Run {
    Memory(std::vec::IntoIter<String>),
    File(BufReader<File>),
}

impl Run {
    fn next(&mut self) -> io::Result<Option<String>> {
        match self {
            Self::Memory(keys) => Ok(keys.next()),
            Self::File(reader) => {
                let mut key = String::new();
                if reader.read_line(&mut key)? == 0 {
                    return Ok(None);
                }
                key.pop();
                Ok(Some(key))
            }
        }
    }
}

/// All keys in order, each once.
pub(super) struct Sorted {
    list: ObjectRef,
    runs: Vec<Run>,
    /// The next key of each run.
    heads: BinaryHeap<Reverse<(String, usize)>>,
    last: Option<String>,
}

impl Sorted {
    fn read(&mut self, index: usize) -> Result<Option<String>, ReferenceError> {
        let Some(run) = self.runs.get_mut(index) else { return Ok(None) };
        run.next().map_err(|error| temporary(&self.list, error))
    }

    /// The next keys; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<String>>, ReferenceError> {
        let mut keys = Vec::new();
        while keys.len() < BATCH_KEYS {
            let Some(Reverse((_, index))) = self.heads.peek() else { break };
            let following = self.read(*index)?;
            let Some(mut head) = self.heads.peek_mut() else { break };
            let key = match following {
                Some(following) => mem::replace(&mut head.0.0, following),
                None => PeekMut::pop(head).0.0,
            };
            if self.last.as_ref() != Some(&key) {
                self.last = Some(key.clone());
                keys.push(key);
            }
        }
        Ok((!keys.is_empty()).then_some(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sort(keys: Vec<String>, memory_bytes: usize, disk_bytes: u64) -> Result<Vec<String>, ReferenceError> {
        let limits = SortLimits { memory_bytes, disk_bytes, ..SortLimits::default() };
        let mut sorter = Sorter::new(ObjectRef::new("audit", "list"), limits);
        sorter.push(keys)?;
        let mut sorted = sorter.finish()?;
        let mut all = Vec::new();
        while let Some(keys) = sorted.next()? {
            all.extend(keys);
        }
        Ok(all)
    }

    #[test]
    fn more_than_the_temporary_space_is_refused_with_what_to_do() {
        let keys: Vec<_> = (0..1000).map(|n| format!("u/{n}")).collect();
        let error = sort(keys, 1000, 2000).unwrap_err();
        assert_eq!(error.reason().code, "references-too-large");
        assert!(error.to_string().contains("LC_ALL=C sort -u"), "{error}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_clear_error() {
        let limits =
            SortLimits { memory_bytes: 1, directory: "/nowhere/at/all".into(), ..SortLimits::default() };
        let mut sorter = Sorter::new(ObjectRef::new("audit", "list"), limits);
        let error = sorter.push(vec!["a".to_owned()]).unwrap_err();
        assert_eq!(error.reason().code, "references-unsortable");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn everything_comes_out_in_order_and_once(
            keys in proptest::collection::vec("[a-cü\u{10000}]{1,3}", 0..200),
            memory_bytes in 1_usize..3000,
        ) {
            let expected: Vec<_> = keys.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(sort(keys, memory_bytes, 1 << 20).unwrap(), expected);
        }
    }
}
