//! The contract suite on every store there is.

use harness::contract::Subject;
use harness::store_contract;
use shared::store::{FaultStore, MemoryStore, RecordingStore};

const PLAIN: &str = "plain-bucket";
const VERSIONED: &str = "versioned-bucket";

fn subject<S>(store: S) -> Subject<S> {
    Subject { store, plain: PLAIN.to_owned(), versioned: VERSIONED.to_owned(), run: "run/".to_owned() }
}

fn memory() -> MemoryStore {
    MemoryStore::new().with_bucket(PLAIN).with_versioned_bucket(VERSIONED)
}

store_contract!(memory_store, async { subject(memory()) });
store_contract!(memory_store_in_small_pages, async { subject(memory().with_page_size(2)) });
store_contract!(recording_store, async { subject(RecordingStore::new(memory())) });
store_contract!(fault_store_without_faults, async { subject(FaultStore::new(memory())) });
