//! Which CDNs have to hear of what a rule deleted.

use shared::clock::Clock;
use shared::outcome::{Reason, RetryClass};

use super::{Halt, Moment, Request, Sweep};
use crate::cdn::{self, Cdn, CdnError, Grouping};
use crate::policy::{CdnTarget, Rule};
use crate::report::{Action, Row};

/// The keys that went, grouped for each CDN in front of the rule's bucket.
pub(super) struct Gone<'a> {
    targets: Vec<(&'a CdnTarget, Grouping)>,
    prefix: &'a str,
    /// Why a CDN goes on serving what was deleted, if it does.
    pub(super) refused: Option<Reason>,
}

impl<'a> Gone<'a> {
    pub(super) fn of(targets: &'a [CdnTarget], rule: &'a Rule) -> Self {
        let fronts = targets.iter().filter(|target| target.bucket == rule.bucket);
        let targets =
            fronts.map(|target| (target, Grouping::new(&target.path_prefix, &rule.prefix))).collect();
        Self { targets, prefix: &rule.prefix, refused: None }
    }

    /// Of whatever rules there were.
    pub(super) fn of_any(targets: &'a [CdnTarget]) -> Self {
        let prefix = "";
        let targets = targets.iter().map(|target| (target, Grouping::new(&target.path_prefix, prefix)));
        Self { targets: targets.collect(), prefix, refused: None }
    }

    /// The same where others invalidate at the same time.
    pub(super) fn beside_others(self) -> Self {
        let shared = |(target, grouping): (&'a CdnTarget, Grouping)| (target, grouping.beside_others());
        Self { targets: self.targets.into_iter().map(shared).collect(), ..self }
    }

    /// Adds what a row says is gone. Uploads and noncurrent versions were never served.
    pub(super) fn add(&mut self, row: &Row) {
        if matches!(row.action, Action::Delete | Action::Quarantine) {
            let fronts = self.targets.iter_mut().filter(|(target, _)| target.bucket == *row.bucket);
            fronts.for_each(|(_, grouping)| grouping.add(&row.key));
        }
    }

    /// Whether every distribution is there, before anything is deleted.
    pub(super) async fn check<S, C: Clock, D: Cdn>(
        &self,
        request: &Request<'_, S, C, D>,
    ) -> Result<(), Halt> {
        for (target, _) in &self.targets {
            cdn::check(request.cdn, &target.distribution_id, request.ending.left(Moment::Told)).await?;
        }
        Ok(())
    }

    /// Tells the CDNs what report `number` of the rule says is gone.
    pub(super) async fn invalidate<S, C: Clock, D: Cdn>(
        &mut self,
        request: &Request<'_, S, C, D>,
        sweep: &Sweep<'_, S, C>,
        number: u32,
    ) -> Result<(), Halt> {
        self.invalidate_as(request, &format!("{}/{}/{number}", sweep.id, sweep.rule.id)).await
    }

    /// Tells the CDNs what is gone, once for each `reference`.
    pub(super) async fn invalidate_as<S, C: Clock, D: Cdn>(
        &mut self,
        request: &Request<'_, S, C, D>,
        reference: &str,
    ) -> Result<(), Halt> {
        for (target, grouping) in &mut self.targets {
            let empty = Grouping::new(&target.path_prefix, self.prefix);
            let grouping = std::mem::replace(grouping, empty);
            let told = cdn::invalidate(
                request.cdn,
                &target.distribution_id,
                reference,
                grouping,
                request.ending.left(Moment::Told),
            )
            .await;
            match told {
                Ok(_) => {}
                // Another run tells it; the objects are gone either way.
                Err((_, error)) if error.retry_class() == RetryClass::Retryable => return Err(error.into()),
                Err((_, error)) => {
                    tracing::error!(distribution = target.distribution_id, %error, "the CDN goes on serving what was deleted");
                    let Reason { code, message } = error.reason();
                    let message = format!("{message}; the CDN goes on serving what was deleted.");
                    self.refused.get_or_insert(Reason::new(code, message));
                }
            }
        }
        Ok(())
    }
}

impl From<CdnError> for Halt {
    fn from(error: CdnError) -> Self {
        Self { reason: error.reason(), retry: error.retry_class() }
    }
}
