//! Locks for stores that can create on a condition, but not replace on one.

use serde::{Deserialize, Serialize};
use shared::object_ref::ObjectRef;
use shared::store::{ListOptions, ObjectStore, Precondition, StoreError};

use super::document::{Written, read_json, write};
use super::{Claim, Holding, LeaseError, State, state_folder};
use crate::retry::retrying;

/// A lock that was taken.
#[derive(Debug)]
pub(super) struct Lock {
    bucket: String,
    prefix: String,
    number: u64,
}

/// A lock object's content.
#[derive(Debug, Serialize, Deserialize)]
struct LockDocument {
    released: bool,
    holding: Holding,
}

impl Lock {
    fn at(bucket: &str, rule: &str, number: u64) -> Self {
        Self { bucket: bucket.to_owned(), prefix: format!("{}lock.", state_folder(rule)), number }
    }

    fn object(&self) -> ObjectRef {
        // Twenty digits, so that names sort as numbers do.
        ObjectRef::new(&*self.bucket, format!("{}{:020}.json", self.prefix, self.number))
    }

    /// The numbers of all locks.
    async fn numbers(&self, store: &impl ObjectStore) -> Result<Vec<u64>, StoreError> {
        let mut options = ListOptions { prefix: self.prefix.clone(), ..ListOptions::default() };
        let mut numbers = Vec::new();
        loop {
            let page = retrying(|| store.list(&self.bucket, options.clone())).await?;
            let number =
                |key: &str| key.strip_prefix(&*self.prefix)?.strip_suffix(".json")?.parse::<u64>().ok();
            numbers.extend(page.objects.iter().filter_map(|entry| number(&entry.key)));
            options.continuation = page.continuation;
            if options.continuation.is_none() {
                return Ok(numbers);
            }
        }
    }

    /// Takes the next lock, unless somebody else holds one: that is the inner error.
    pub(super) async fn take(
        store: &impl ObjectStore,
        bucket: &str,
        rule: &str,
        claim: &Claim,
        token: &str,
    ) -> Result<Result<Self, Holding>, LeaseError> {
        let mut lock = Self::at(bucket, rule, 0);
        let before = lock.numbers(store).await?;
        lock.number = before.iter().max().copied().unwrap_or_default();
        if let Some(holding) = lock.holding(store, claim).await? {
            return Ok(Err(holding));
        }
        lock.number += 1;
        let holding = Holding {
            holder: claim.holder.clone(),
            token: token.to_owned(),
            acquired_at: claim.now,
            until: claim.until,
        };
        let document = LockDocument { released: false, holding: holding.clone() };
        if let Written::No = write(store, &lock.object(), &document, Precondition::IfAbsent).await? {
            return Ok(Err(lock.holding(store, claim).await?.unwrap_or(holding)));
        }
        // Who was very slow may have created a number that others have used and cleared away since.
        if let Some(holding) = lock.overtaken(store).await? {
            let late = lock.object();
            retrying(|| store.delete(&late, None)).await?;
            return Ok(Err(holding));
        }
        for number in before {
            let passed = Self::at(bucket, rule, number).object();
            // Left over, it does no harm: only the highest counts.
            drop(store.delete(&passed, None).await);
        }
        Ok(Ok(lock))
    }

    /// Who holds this lock at the claim's time.
    async fn holding(&self, store: &impl ObjectStore, claim: &Claim) -> Result<Option<Holding>, LeaseError> {
        let object = self.object();
        let Some((lock, _)) = read_json::<LockDocument>(store, &object).await? else { return Ok(None) };
        if super::is_ahead(lock.holding.acquired_at, claim.now) {
            let (written, now) = (lock.holding.acquired_at, claim.now);
            return Err(LeaseError::ClockWentBack { object, written, now });
        }
        Ok((!lock.released && lock.holding.until > claim.now).then_some(lock.holding))
    }

    /// Who has taken a later lock.
    pub(super) async fn overtaken(&self, store: &impl ObjectStore) -> Result<Option<Holding>, LeaseError> {
        let highest = self.numbers(store).await?.into_iter().max().unwrap_or_default();
        if highest <= self.number {
            return Ok(None);
        }
        let later = Self { bucket: self.bucket.clone(), prefix: self.prefix.clone(), number: highest };
        Ok(read_json::<LockDocument>(store, &later.object()).await?.map(|(lock, _)| lock.holding))
    }

    /// Writes the lock again, with another end or as released.
    pub(super) async fn put(
        &self,
        store: &impl ObjectStore,
        state: &State,
        released: bool,
    ) -> Result<(), LeaseError> {
        let Some(holding) = state.lease.clone() else { return Ok(()) };
        let document = LockDocument { released, holding };
        write(store, &self.object(), &document, Precondition::None).await.map(drop)
    }
}
