//! A list of keys beside the reports, one raw key a line, as reference lists are.

use shared::object_ref::ObjectRef;
use shared::outcome::RetryClass;
use shared::store::{ObjectStore, StoreErrorKind, StoreResult};

use super::ReportTarget;
use super::parts::PartWriter;

const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// How many names are tried: one for each invocation that had something to list.
const MAX_NAMES: u32 = 100;

/// A list in the writing. Without keys it is not written.
pub struct KeyList {
    target: ReportTarget,
    number: u32,
    parts: PartWriter,
    keys: u64,
}

impl KeyList {
    /// Begins the list of `target`, `{rule}.txt`. `token` is unique to this invocation.
    pub fn new(target: ReportTarget, token: &str) -> Self {
        let object = ObjectRef::new(&*target.bucket, name(&target, 1));
        Self { number: 1, parts: PartWriter::new(object, token, CONTENT_TYPE), target, keys: 0 }
    }

    /// Appends keys, and sends a part where there is enough for one.
    ///
    /// # Errors
    /// What the store says after several attempts.
    pub async fn append(&mut self, store: &impl ObjectStore, keys: &[String]) -> StoreResult<()> {
        let mut text = Vec::with_capacity(keys.iter().map(|key| key.len() + 1).sum());
        for key in keys {
            text.extend_from_slice(key.as_bytes());
            text.push(b'\n');
        }
        self.parts.push(&text)?;
        self.keys += keys.len() as u64;
        if !self.parts.is_full() {
            return Ok(());
        }
        if !self.parts.is_begun() {
            // An upload is bound to its name.
            for _ in 0..MAX_NAMES {
                match store.head(&self.parts.object).await {
                    Ok(_) => self.next_name(),
                    // Who may not look has the name refused when the list is put together.
                    Err(error) if error.retry_class() == RetryClass::Permanent => break,
                    Err(error) => return Err(error),
                }
            }
        }
        self.parts.send(store).await
    }

    fn next_name(&mut self) {
        self.number += 1;
        self.parts.object.key = name(&self.target, self.number);
    }

    /// Makes the list visible, and answers how many keys it has.
    ///
    /// # Errors
    /// What the store says after several attempts.
    pub async fn finish(mut self, store: &impl ObjectStore) -> StoreResult<u64> {
        if self.keys == 0 {
            return Ok(0);
        }
        let mut names = 1..MAX_NAMES;
        loop {
            match self.parts.finish(store).await {
                Err(error)
                    if error.kind == StoreErrorKind::PreconditionFailed
                        && !self.parts.is_begun()
                        && names.next().is_some() =>
                {
                    self.next_name();
                }
                result => {
                    result?;
                    return Ok(self.keys);
                }
            }
        }
    }
}

fn name(target: &ReportTarget, number: u32) -> String {
    let report = target.key(number);
    report.strip_suffix(".csv").map_or_else(|| report.clone(), |name| format!("{name}.txt"))
}
