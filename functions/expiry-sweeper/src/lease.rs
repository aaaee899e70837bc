//! One sweep of a rule at a time, and where the next one goes on.
//!
//! Each rule has one document in the audit bucket, `sweeps/state/{rule}.json`: who sweeps it and until
//! when, how far an interrupted sweep has come, and what the last finished one deleted. It is created
//! with `If-None-Match` and replaced with `If-Match` only, so that of two sweepers one loses. A lease
//! ends by itself at its holder's deadline, which a function cannot outlive.
//!
//! A store that cannot replace on a condition (OSS) gets lock objects beside the document:
//! `sweeps/state/{rule}/lock.{n}.json`, created only where none stands. Of all, the highest number
//! counts; who finds it released or past its end creates the next. Who has the lock writes the document
//! without condition. The audit bucket must not be versioned there, because OSS ignores the condition in
//! a versioned bucket.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::object_ref::ObjectRef;
use shared::outcome::{Reason, RetryClass};
use shared::store::{ObjectStore, Precondition, StoreError};

use crate::report::{RuleSummary, UploadState};
use crate::sweep::Earlier;

mod document;
mod lock;

use document::{Written, read, write};
use lock::Lock;

/// How far clocks of two machines may differ. What was written later than this from now was written by
/// a clock that ran ahead, or this one was put back.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// How often an acquisition is tried against others who write at the same time.
const MAX_ROUNDS: u32 = 8;

/// The document of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The format's version, 1.
    pub version: u32,
    /// The rule's id.
    pub rule: String,
    /// When the document was written last.
    pub updated_at: Timestamp,
    /// Who sweeps the rule; `None` if nobody does.
    pub lease: Option<Holding>,
    /// How far an interrupted sweep has come.
    pub progress: Option<Progress>,
    /// The last sweep that was finished.
    pub last: Option<LastSweep>,
}

/// Who sweeps, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Who, for people who read it: a request id, a host.
    pub holder: String,
    /// What no other holding has, by which a holder knows its own.
    pub token: String,
    /// When it was taken.
    pub acquired_at: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// How far an interrupted sweep has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The sweep, which its continuation is a part of.
    pub sweep_id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The text of the rule ([`crate::policy::Rule::fingerprint`]); a cursor is only good for the same.
    pub fingerprint: String,
    /// Where to go on, as whoever sweeps notes it.
    pub cursor: Value,
    /// The numbers so far.
    pub summary: RuleSummary,
    /// The number of the report that comes next.
    pub next_report: u32,
    /// By what the reports of this invocation are known as its own; `None` once all that it knew is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// The report in the writing, should its writer die.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadState>,
}

/// The last sweep of a rule that was finished: what an anomaly is measured by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSweep {
    /// The sweep.
    pub sweep_id: String,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How many objects it looked at.
    pub scanned: u64,
    /// How many it deleted.
    pub deleted: u64,
    /// Their size.
    pub deleted_bytes: u64,
    /// The number of the report that comes next, should the rule be swept again under the same id.
    #[serde(default)]
    pub next_report: u32,
    /// The reports, as URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
}

impl LastSweep {
    /// What is kept of a finished sweep.
    pub fn of(sweep_id: &str, summary: &RuleSummary, next_report: u32) -> Self {
        Self {
            sweep_id: sweep_id.to_owned(),
            finished_at: summary.finished_at,
            scanned: summary.scanned,
            deleted: summary.deleted,
            deleted_bytes: summary.deleted_bytes,
            next_report,
            reports: summary.reports.clone(),
        }
    }

    /// What another sweep under the same id adds to.
    pub fn as_earlier(&self) -> Earlier {
        Earlier { deleted: self.deleted, deleted_bytes: self.deleted_bytes, reports: self.reports.clone() }
    }
}

/// Who wants to sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who, for people who read it.
    pub holder: String,
    /// The time.
    pub now: Timestamp,
    /// The deadline, at which the lease ends by itself.
    pub until: Timestamp,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Acquisition {
    /// The rule may be swept.
    Acquired(Box<Lease>),
    /// Somebody else sweeps it.
    AlreadyRunning {
        /// Who.
        holder: String,
        /// When that lease ends by itself.
        until: Timestamp,
    },
}

/// How a sweep ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was cut short, and the next one goes on here.
    Interrupted(Box<Progress>),
    /// It is finished.
    Finished(LastSweep),
    /// It ended before it did anything; what stood in the document stays.
    Untouched,
}

/// Why a lease cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else has the lease by now.
    #[error("the lease on rule {rule} was lost to {holder}")]
    Lost {
        /// The rule's id.
        rule: String,
        /// Who has it.
        holder: String,
    },
    /// The lease's end has come.
    #[error("the lease on rule {rule} ended at {until}")]
    Expired {
        /// The rule's id.
        rule: String,
        /// Its end.
        until: Timestamp,
    },
    /// The clock shows an earlier time than the document.
    #[error(
        "the clock shows {now}, but {object} was written at {written}: either the clock was put back, or it \
         ran ahead then; correct the clock, or delete {object} if it is right"
    )]
    ClockWentBack {
        /// The document.
        object: ObjectRef,
        /// When it was written.
        written: Timestamp,
        /// The time now.
        now: Timestamp,
    },
    /// What stands under the document's key is something else.
    #[error("{object} is not the state of a sweep ({problem}); look at it, and delete it to start afresh")]
    Unreadable {
        /// The document.
        object: ObjectRef,
        /// What is wrong with it.
        problem: String,
    },
    /// Others wrote the document each time.
    #[error("the lease on rule {rule} could not be had because others were writing it at the same time")]
    Contended {
        /// The rule's id.
        rule: String,
    },
}

impl LeaseError {
    /// The reason that an outcome carries for this error.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Store(error) => return error.reason(),
            Self::Lost { .. } => "lease-lost",
            Self::Expired { .. } => "lease-expired",
            Self::ClockWentBack { .. } => "clock-went-back",
            Self::Unreadable { .. } => "state-unreadable",
            Self::Contended { .. } => "lease-contended",
        };
        Reason::new(code, self.to_string())
    }

    /// Whether running again may help.
    pub fn retry_class(&self) -> RetryClass {
        match self {
            Self::Store(error) => error.retry_class(),
            Self::Lost { .. } | Self::Expired { .. } | Self::Contended { .. } => RetryClass::Retryable,
            Self::ClockWentBack { .. } | Self::Unreadable { .. } => RetryClass::Permanent,
        }
    }
}

/// The document of `rule`.
pub fn state_object(audit_bucket: &str, rule: &str) -> ObjectRef {
    ObjectRef::new(audit_bucket, format!("sweeps/state/{rule}.json"))
}

/// Where everything else that belongs to the rule's running sweep stands.
pub(crate) fn state_folder(rule: &str) -> String {
    format!("sweeps/state/{rule}/")
}

/// What to do about a claim.
#[derive(Debug, PartialEq)]
enum Decision {
    /// Write this.
    Take(Box<State>),
    /// Somebody else is at it.
    Busy(Holding),
}

/// Whether `claim` is met, given what stands there. Pure.
fn decide(found: Option<State>, rule: &str, claim: &Claim, token: &str) -> Result<Decision, Timestamp> {
    let (progress, last) = match found {
        None => (None, None),
        Some(state) => {
            if is_ahead(state.updated_at, claim.now) {
                return Err(state.updated_at);
            }
            match state.lease {
                Some(holding) if holding.until > claim.now && holding.token != token => {
                    return Ok(Decision::Busy(holding));
                }
                _ => (state.progress, state.last),
            }
        }
    };
    let lease = Holding {
        holder: claim.holder.clone(),
        token: token.to_owned(),
        acquired_at: claim.now,
        until: claim.until,
    };
    let (version, rule) = (document::VERSION, rule.to_owned());
    Ok(Decision::Take(Box::new(State {
        version,
        rule,
        updated_at: claim.now,
        lease: Some(lease),
        progress,
        last,
    })))
}

fn is_ahead(written: Timestamp, now: Timestamp) -> bool {
    written.duration_since(now) > CLOCK_TOLERANCE
}

/// The last sweep of `rule` that was finished, without taking a lease: for a plan, which writes nothing.
///
/// # Errors
/// Where the document cannot be read.
pub async fn last_sweep(
    store: &impl ObjectStore,
    audit_bucket: &str,
    rule: &str,
) -> Result<Option<LastSweep>, LeaseError> {
    let found = read(store, &state_object(audit_bucket, rule)).await?;
    Ok(found.and_then(|(state, _)| state.last))
}

/// How far an interrupted sweep of `rule` has come, without taking a lease.
///
/// # Errors
/// Where the document cannot be read.
pub async fn interrupted(
    store: &impl ObjectStore,
    audit_bucket: &str,
    rule: &str,
) -> Result<Option<Progress>, LeaseError> {
    let found = read(store, &state_object(audit_bucket, rule)).await?;
    Ok(found.and_then(|(state, _)| state.progress))
}

/// Asks for the lease on `rule`.
///
/// # Errors
/// [`LeaseError::ClockWentBack`] where the document is from the future, [`LeaseError::Unreadable`] where
/// it is none, and what the store says after several attempts.
pub async fn acquire(
    store: &impl ObjectStore,
    audit_bucket: &str,
    rule: &str,
    claim: &Claim,
) -> Result<Acquisition, LeaseError> {
    acquire_with(store, audit_bucket, rule, claim, store.capabilities().conditional_replace).await
}

async fn acquire_with(
    store: &impl ObjectStore,
    audit_bucket: &str,
    rule: &str,
    claim: &Claim,
    conditional: bool,
) -> Result<Acquisition, LeaseError> {
    let object = state_object(audit_bucket, rule);
    let expired = || LeaseError::Expired { rule: rule.to_owned(), until: claim.until };
    if claim.until <= claim.now {
        return Err(expired());
    }
    let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let lock = if conditional {
        None
    } else {
        match Lock::take(store, audit_bucket, rule, claim, &token).await? {
            Ok(lock) => Some(lock),
            Err(holding) => return Ok(busy(holding)),
        }
    };
    for _ in 0..MAX_ROUNDS {
        let found = read(store, &object).await?;
        let (state, precondition) = match found {
            None => (None, Precondition::IfAbsent),
            Some((mut state, e_tag)) => {
                // Without conditions the lock says who sweeps, and the document only how far it came.
                state.lease = state.lease.filter(|_| conditional);
                (Some(state), Precondition::IfMatch(e_tag))
            }
        };
        let state = match decide(state, rule, claim, &token) {
            Err(written) => return Err(LeaseError::ClockWentBack { object, written, now: claim.now }),
            Ok(Decision::Busy(holding)) => return Ok(busy(holding)),
            Ok(Decision::Take(state)) => *state,
        };
        let precondition = if conditional { precondition } else { Precondition::None };
        if let Written::Yes(e_tag) = write(store, &object, &state, precondition).await? {
            return Ok(Acquisition::Acquired(Box::new(Lease { object, state, e_tag, token, lock })));
        }
    }
    Err(LeaseError::Contended { rule: rule.to_owned() })
}

fn busy(holding: Holding) -> Acquisition {
    Acquisition::AlreadyRunning { holder: holding.holder, until: holding.until }
}

/// The right to sweep a rule.
#[derive(Debug)]
pub struct Lease {
    object: ObjectRef,
    state: State,
    e_tag: shared::object_ref::ETag,
    token: String,
    lock: Option<Lock>,
}

impl Lease {
    /// Where an interrupted sweep left off.
    pub fn progress(&self) -> Option<&Progress> {
        self.state.progress.as_ref()
    }

    /// The last sweep of the rule that was finished.
    pub fn last(&self) -> Option<&LastSweep> {
        self.state.last.as_ref()
    }

    /// When the lease ends by itself. Nothing may be deleted after this.
    pub fn until(&self) -> Option<Timestamp> {
        self.state.lease.as_ref().map(|holding| holding.until)
    }

    /// What is unique to this lease: reports are marked with it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Notes how far the sweep has come.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] and [`LeaseError::Expired`]: then nothing may be deleted any more.
    pub async fn save(
        &mut self,
        store: &impl ObjectStore,
        now: Timestamp,
        progress: Progress,
    ) -> Result<(), LeaseError> {
        let state = State { updated_at: now, progress: Some(progress), ..self.state.clone() };
        self.write(store, now, state).await
    }

    /// Moves the lease's end, for a sweep that has no deadline of its own.
    ///
    /// # Errors
    /// As for [`Lease::save`].
    pub async fn extend(
        &mut self,
        store: &impl ObjectStore,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(), LeaseError> {
        let mut state = State { updated_at: now, ..self.state.clone() };
        if let Some(holding) = &mut state.lease {
            holding.until = until;
        }
        self.write(store, now, state).await?;
        if let Some(lock) = &self.lock { lock.put(store, &self.state, false).await } else { Ok(()) }
    }

    /// Ends the lease. A lease that has ended by itself can still be given back where nobody took it.
    ///
    /// # Errors
    /// [`LeaseError::Lost`], and what the store says after several attempts; the lease then ends by itself.
    pub async fn release(
        mut self,
        store: &impl ObjectStore,
        now: Timestamp,
        end: End,
    ) -> Result<(), LeaseError> {
        let (progress, last) = match end {
            End::Interrupted(progress) => (Some(*progress), self.state.last.clone()),
            End::Finished(last) => (None, Some(last)),
            End::Untouched => (self.state.progress.clone(), self.state.last.clone()),
        };
        let state = State { updated_at: now, lease: None, progress, last, ..self.state.clone() };
        let before = self.state.clone();
        self.replace(store, state).await?;
        if let Some(lock) = &self.lock { lock.put(store, &before, true).await } else { Ok(()) }
    }

    async fn write(
        &mut self,
        store: &impl ObjectStore,
        now: Timestamp,
        state: State,
    ) -> Result<(), LeaseError> {
        let Some(holding) = &self.state.lease else { return Ok(()) };
        if is_ahead(holding.acquired_at, now) || is_ahead(self.state.updated_at, now) {
            let (object, written) = (self.object.clone(), self.state.updated_at);
            return Err(LeaseError::ClockWentBack { object, written, now });
        }
        if holding.until <= now {
            return Err(LeaseError::Expired { rule: self.state.rule.clone(), until: holding.until });
        }
        self.replace(store, state).await
    }

    async fn replace(&mut self, store: &impl ObjectStore, state: State) -> Result<(), LeaseError> {
        let precondition = match &self.lock {
            None => Precondition::IfMatch(self.e_tag.clone()),
            Some(lock) => {
                if let Some(holding) = lock.overtaken(store).await? {
                    return Err(self.lost(holding.holder));
                }
                Precondition::None
            }
        };
        match write(store, &self.object, &state, precondition).await? {
            Written::Yes(e_tag) => {
                (self.state, self.e_tag) = (state, e_tag);
                Ok(())
            }
            Written::No => {
                let holder = read(store, &self.object).await?.and_then(|(state, _)| state.lease);
                Err(self.lost(holder.map_or_else(|| "somebody else".to_owned(), |holding| holding.holder)))
            }
        }
    }

    fn lost(&self, holder: String) -> LeaseError {
        LeaseError::Lost { rule: self.state.rule.clone(), holder }
    }
}

#[cfg(test)]
mod tests;
