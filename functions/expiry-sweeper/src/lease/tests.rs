use super::*;
use bytes::Bytes;
use shared::store::{Fault, FaultStore, MemoryStore, PutOptions, RecordingStore};

fn at(minutes: i64) -> Timestamp {
    "2026-11-21T07:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn claim(holder: &str, now: i64, until: i64) -> Claim {
    Claim { holder: holder.to_owned(), now: at(now), until: at(until) }
}

fn audit() -> MemoryStore {
    MemoryStore::new().with_bucket("audit")
}

fn summary() -> RuleSummary {
    RuleSummary {
        rule: "temp".to_owned(),
        bucket: "files".to_owned(),
        mode: "apply".to_owned(),
        complete: false,
        started_at: at(0),
        finished_at: at(1),
        scanned: 10,
        expired: 5,
        deleted: 4,
        changed: 1,
        held: 0,
        errors: 0,
        deleted_bytes: 20,
        lag_seconds: None,
        missing_references: None,
        reports: vec![],
        reason: None,
    }
}

fn progress(cursor: &str) -> Progress {
    Progress {
        sweep_id: "s1".to_owned(),
        started_at: at(0),
        fingerprint: "f".to_owned(),
        cursor: cursor.into(),
        summary: summary(),
        next_report: 2,
        writer: None,
        upload: None,
    }
}

async fn ask(store: &impl ObjectStore, claim: &Claim, conditional: bool) -> Result<Acquisition, LeaseError> {
    acquire_with(store, "audit", "temp", claim, conditional).await
}

async fn lease(store: &impl ObjectStore, claim: &Claim, conditional: bool) -> Lease {
    match ask(store, claim, conditional).await.unwrap() {
        Acquisition::Acquired(lease) => *lease,
        busy @ Acquisition::AlreadyRunning { .. } => panic!("{busy:?}"),
    }
}

fn is_busy(acquisition: &Acquisition, holder_was: &str, until_is: Timestamp) -> bool {
    matches!(acquisition, Acquisition::AlreadyRunning { holder, until } if holder == holder_was && *until == until_is)
}

#[tokio::test]
async fn a_second_sweeper_is_told_who_is_at_it_and_until_when() {
    for conditional in [true, false] {
        let store = audit();
        let first = lease(&store, &claim("first", 0, 15), conditional).await;
        assert_eq!(first.until(), Some(at(15)));
        let second = ask(&store, &claim("second", 14, 30), conditional).await.unwrap();
        assert!(is_busy(&second, "first", at(15)), "{second:?}");
        first.release(&store, at(14), End::Untouched).await.unwrap();
        lease(&store, &claim("second", 14, 30), conditional).await;
    }
}

#[tokio::test]
async fn a_lease_of_a_dead_holder_ends_at_its_deadline_and_its_progress_stays() {
    for conditional in [true, false] {
        let store = audit();
        let mut dead = lease(&store, &claim("dead", 0, 15), conditional).await;
        dead.save(&store, at(5), progress("u/m")).await.unwrap();
        let heir = lease(&store, &claim("heir", 15, 30), conditional).await;
        assert_eq!(heir.progress(), Some(&progress("u/m")));
        // The dead one was only slow, and learns that it must not go on.
        let error = dead.save(&store, at(14), progress("u/z")).await.unwrap_err();
        assert!(matches!(&error, LeaseError::Lost { holder, .. } if holder == "heir"), "{error}");
        let error = dead.save(&store, at(16), progress("u/z")).await.unwrap_err();
        assert_eq!(error.reason().code, "lease-expired");
        let error = dead.release(&store, at(14), End::Untouched).await.unwrap_err();
        assert_eq!(error.reason().code, "lease-lost");
        let mut heir = heir;
        heir.save(&store, at(16), progress("u/n")).await.unwrap();
    }
}

#[tokio::test]
async fn an_interrupted_sweep_leaves_its_cursor_and_a_finished_one_its_numbers() {
    for conditional in [true, false] {
        let store = audit();
        let first = lease(&store, &claim("first", 0, 15), conditional).await;
        assert_eq!((first.progress(), first.last()), (None, None));
        first.release(&store, at(1), End::Interrupted(Box::new(progress("k")))).await.unwrap();
        let second = lease(&store, &claim("second", 2, 15), conditional).await;
        assert_eq!(second.progress(), Some(&progress("k")));
        let last = LastSweep::of("s1", &summary(), 2);
        second.release(&store, at(3), End::Finished(last.clone())).await.unwrap();
        assert_eq!(last_sweep(&store, "audit", "temp").await.unwrap(), Some(last.clone()));
        let third = lease(&store, &claim("third", 4, 15), conditional).await;
        assert_eq!((third.progress(), third.last()), (None, Some(&last)));
        assert_eq!((last.deleted, last.scanned, last.deleted_bytes), (4, 10, 20));
    }
}

#[tokio::test]
async fn a_lease_can_be_extended_by_who_has_it() {
    for conditional in [true, false] {
        let store = audit();
        let mut first = lease(&store, &claim("first", 0, 15), conditional).await;
        first.extend(&store, at(10), at(40)).await.unwrap();
        let second = ask(&store, &claim("second", 20, 30), conditional).await.unwrap();
        assert!(is_busy(&second, "first", at(40)), "{second:?}");
    }
}

#[tokio::test]
async fn of_many_who_race_one_wins() {
    for conditional in [true, false] {
        let store = audit();
        for round in 0..3 {
            let claims: Vec<_> =
                (0..8).map(|n| claim(&format!("s{n}"), 20 * round, 20 * round + 15)).collect();
            let answers =
                futures::future::join_all(claims.iter().map(|claim| ask(&store, claim, conditional))).await;
            let won = answers.iter().filter(|answer| matches!(answer, Ok(Acquisition::Acquired(_)))).count();
            assert_eq!(won, 1, "{answers:?}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_back_is_a_clear_error() {
    for conditional in [true, false] {
        let store = audit();
        let mut first = lease(&store, &claim("first", 60, 75), conditional).await;
        let error = ask(&store, &claim("second", 0, 15), conditional).await.unwrap_err();
        assert_eq!(error.reason().code, "clock-went-back");
        assert_eq!(error.retry_class(), RetryClass::Permanent);
        let error = first.save(&store, at(50), progress("k")).await.unwrap_err();
        assert_eq!(error.reason().code, "clock-went-back");
        // Clocks of two machines never agree wholly.
        first.release(&store, at(60), End::Untouched).await.unwrap();
        let early = Claim { now: at(60) - SignedDuration::from_secs(30), ..claim("second", 0, 75) };
        lease(&store, &early, conditional).await;
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_gets_no_lease() {
    let error = ask(&audit(), &claim("late", 15, 15), true).await.unwrap_err();
    assert_eq!(error.reason().code, "lease-expired");
}

#[tokio::test]
async fn what_is_no_state_is_not_overwritten() {
    let store = audit();
    for content in
        ["hello", "{}", &serde_json::json!({"version": 2, "rule": "temp", "updated_at": at(0)}).to_string()]
    {
        let object = state_object("audit", "temp");
        store.put(&object, Bytes::from(content.to_owned()), PutOptions::default()).await.unwrap();
        let error = ask(&store, &claim("first", 0, 15), true).await.unwrap_err();
        assert_eq!(error.reason().code, "state-unreadable", "{content}");
        assert!(error.to_string().contains("s3://audit/sweeps/state/temp.json"), "{error}");
    }
}

#[tokio::test]
async fn a_lease_costs_two_calls_and_each_note_one() {
    let store = RecordingStore::new(audit());
    let mut first = lease(&store, &claim("first", 0, 15), true).await;
    assert_eq!(store.take().len(), 2);
    first.save(&store, at(1), progress("a")).await.unwrap();
    first.release(&store, at(2), End::Finished(LastSweep::of("s1", &summary(), 2))).await.unwrap();
    assert_eq!(store.take().len(), 2);
}

#[tokio::test]
async fn whichever_call_fails_and_however_the_lease_is_had_saved_and_given_back() {
    for conditional in [true, false] {
        for fault in Fault::ALL {
            for call in 1..=8 {
                let store = FaultStore::new(audit()).at_call(call, fault);
                let mut first = lease(&store, &claim("first", 0, 15), conditional).await;
                first.save(&store, at(1), progress("a")).await.unwrap();
                first.save(&store, at(2), progress("b")).await.unwrap();
                first.release(&store, at(3), End::Interrupted(Box::new(progress("c")))).await.unwrap();
                store.heal();
                let second = lease(&store, &claim("second", 4, 15), conditional).await;
                assert_eq!(second.progress(), Some(&progress("c")), "{fault:?} at call {call}");
            }
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_call_leaves_a_lease_that_ends() {
    for conditional in [true, false] {
        for calls in 0..12 {
            for after_effect in [false, true] {
                let store = FaultStore::new(audit());
                let store = if after_effect { store.cut_after_effect(calls) } else { store.cut_after(calls) };
                // What a crash cuts off is never retried, so the run is given up at its first error.
                let run = async {
                    let Ok(Acquisition::Acquired(mut first)) =
                        ask(&store, &claim("first", 0, 15), conditional).await
                    else {
                        return;
                    };
                    if first.save(&store, at(1), progress("a")).await.is_ok() {
                        drop(first.release(&store, at(2), End::Untouched).await);
                    }
                };
                drop(tokio::time::timeout(std::time::Duration::from_millis(30), run).await);
                let inner = store.inner();
                lease(inner, &claim("heir", 15, 30), conditional).await;
            }
        }
    }
}

#[test]
fn the_document_reads_as_documented() {
    let state = State {
        version: 1,
        rule: "temp".to_owned(),
        updated_at: at(0),
        lease: None,
        progress: None,
        last: Some(LastSweep::of("s1", &summary(), 2)),
    };
    let json = serde_json::to_value(&state).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "version": 1, "rule": "temp", "updated_at": "2026-11-21T07:00:00Z", "lease": null, "progress": null,
            "last": {"sweep_id": "s1", "finished_at": "2026-11-21T07:01:00Z", "scanned": 10, "deleted": 4,
                     "deleted_bytes": 20, "next_report": 2}
        })
    );
    assert_eq!(serde_json::from_value::<State>(json).unwrap(), state);
}
