//! From outcomes to what the carrier understands.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Delivery, Envelope, Malformed, Record};
use crate::outcome::{Outcome, Reason, RetryClass, Status};
use crate::runtime::InvocationError;

impl Malformed {
    /// How a record ends that cannot be understood. Delivering it again would not help.
    pub fn outcome(&self) -> Outcome {
        Outcome::failed(Reason::new("malformed-event", self.0.clone()), RetryClass::Permanent)
    }
}

impl From<Malformed> for InvocationError {
    fn from(malformed: Malformed) -> Self {
        Self { error_type: "MalformedEvent", message: malformed.0 }
    }
}

impl Delivery {
    /// The answer to this delivery, from one outcome per record, in order.
    ///
    /// SQS hears which messages to deliver again; one that cannot be understood is among them, because that
    /// is the way to the dead-letter queue. S3 Batch Operations hears one result per task. Everybody
    /// else hears the outcomes.
    ///
    /// # Errors
    /// `Retryable` if a record should be delivered again and the carrier cannot be told which;
    /// `MalformedEvent` if no record could be understood.
    pub fn answer(&self, outcomes: &[Outcome]) -> Result<Value, InvocationError> {
        match &self.envelope {
            Envelope::Sqs => Ok(self.batch_item_failures(outcomes)),
            Envelope::BatchOperations { schema_version, invocation_id } => Ok(json!({
                "invocationSchemaVersion": schema_version,
                "treatMissingKeysAs": "PermanentFailure",
                "invocationId": invocation_id,
                "results": self.paired(outcomes).map(|(record, outcome)| result(record, outcome)).collect::<Vec<_>>(),
            })),
            _ => self.report(outcomes),
        }
    }

    fn paired<'a>(&'a self, outcomes: &'a [Outcome]) -> impl Iterator<Item = (&'a Record, &'a Outcome)> {
        self.records.iter().zip(outcomes)
    }

    fn batch_item_failures(&self, outcomes: &[Outcome]) -> Value {
        let mut failures = aws_lambda_events::sqs::SqsBatchResponse::default();
        let mut listed = HashSet::new();
        for (record, outcome) in self.paired(outcomes) {
            let again = outcome.is_retryable() || record.content.is_err();
            if let Some(id) = record.delivery_id.as_deref().filter(|_| again)
                && listed.insert(id)
            {
                failures.add_failure(id);
            }
        }
        let mut answer = json!(failures);
        answer["outcomes"] = json!(outcomes);
        answer
    }

    fn report(&self, outcomes: &[Outcome]) -> Result<Value, InvocationError> {
        let first_malformed = self.records.iter().find_map(|record| record.content.as_ref().err());
        if let Some(malformed) = first_malformed
            && self.records.iter().all(|record| record.content.is_err())
        {
            return Err(malformed.clone().into());
        }
        let again = outcomes.iter().filter(|outcome| outcome.is_retryable()).count();
        if again > 0 {
            let reason = outcomes.iter().filter(|o| o.is_retryable()).find_map(|o| o.reason.as_ref());
            let why =
                reason.map(|reason| format!(": {}: {}", reason.code, reason.message)).unwrap_or_default();
            return Err(InvocationError {
                error_type: "Retryable",
                message: format!("{again} of {} records should be delivered again{why}", outcomes.len()),
            });
        }
        Ok(json!({ "outcomes": outcomes }))
    }
}

fn result(record: &Record, outcome: &Outcome) -> Value {
    let code = match (outcome.status, outcome.retry) {
        (Status::Failed, Some(RetryClass::Retryable)) => "TemporaryFailure",
        (Status::Failed, _) => "PermanentFailure",
        _ => "Succeeded",
    };
    let status = outcome.status.as_str();
    let text = match &outcome.reason {
        Some(reason) => format!("{status}: {}: {}", reason.code, reason.message),
        None => match outcome.detail.get("avatar").and_then(|avatar| avatar["key"].as_str()) {
            Some(key) => format!("{status}: {key}"),
            None => status.to_owned(),
        },
    };
    json!({"taskId": record.delivery_id, "resultCode": code, "resultString": text})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(envelope: Envelope, ids: &[&str]) -> Delivery {
        let record = |id: &&str| Record {
            delivery_id: Some((*id).to_owned()),
            content: if id.contains("bad") {
                Err(Malformed("the message's body is no JSON".into()))
            } else {
                Ok(super::super::Content::Test)
            },
        };
        Delivery { envelope, records: ids.iter().map(record).collect() }
    }

    fn throttled() -> Outcome {
        Outcome::failed(Reason::new("throttled", "The store asks to slow down."), RetryClass::Retryable)
    }

    fn denied() -> Outcome {
        Outcome::failed(Reason::new("access-denied", "Not permitted."), RetryClass::Permanent)
    }

    #[test]
    fn sqs_hears_each_message_to_deliver_again_once() {
        let delivery = delivery(Envelope::Sqs, &["a", "b", "b", "c", "bad"]);
        let malformed = Malformed("x".into()).outcome();
        let answer = delivery
            .answer(&[Outcome::of(Status::Stored), throttled(), throttled(), denied(), malformed])
            .unwrap();
        assert_eq!(answer["batchItemFailures"], json!([{"itemIdentifier": "b"}, {"itemIdentifier": "bad"}]));
        assert_eq!(answer["outcomes"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn batch_operations_hears_one_result_per_task() {
        let envelope =
            Envelope::BatchOperations { schema_version: "2.0".into(), invocation_id: "YXNk".into() };
        let rejected = Outcome::rejected(Reason::new("empty", "The upload has no bytes."));
        let answer = delivery(envelope, &["1", "2", "3"]).answer(&[rejected, throttled(), denied()]).unwrap();
        assert_eq!(answer["invocationSchemaVersion"], "2.0");
        assert_eq!(answer["invocationId"], "YXNk");
        assert_eq!(answer["results"][0]["resultCode"], "Succeeded");
        assert_eq!(answer["results"][0]["resultString"], "rejected: empty: The upload has no bytes.");
        assert_eq!(answer["results"][1]["resultCode"], "TemporaryFailure");
        assert_eq!(answer["results"][2]["resultCode"], "PermanentFailure");
    }

    #[test]
    fn a_retryable_record_fails_the_invocation_and_a_permanent_one_does_not() {
        let delivery = delivery(Envelope::S3Notification, &["a", "b"]);
        let error = delivery.answer(&[Outcome::of(Status::Stored), throttled()]).unwrap_err();
        assert_eq!(error.error_type, "Retryable");
        assert!(error.message.contains("1 of 2") && error.message.contains("throttled"), "{error}");
        assert!(delivery.answer(&[Outcome::of(Status::Stored), denied()]).is_ok());
    }

    #[test]
    fn an_event_of_nothing_but_malformed_records_fails() {
        let all = delivery(Envelope::S3Notification, &["bad"]);
        let error = all.answer(&[Malformed("x".into()).outcome()]).unwrap_err();
        assert_eq!(error.error_type, "MalformedEvent");
        let some = delivery(Envelope::S3Notification, &["bad", "a"]);
        let answer = some.answer(&[Malformed("x".into()).outcome(), Outcome::of(Status::Stored)]).unwrap();
        assert_eq!(answer["outcomes"][0]["reason"]["code"], "malformed-event");
    }
}
