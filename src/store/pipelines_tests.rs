use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::store::Home;

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(camino::Utf8Path::from_path(folder.path()).unwrap()).unwrap();
    let store = Arc::new(Store::open(&home).unwrap());
    (folder, store)
}

fn at(minute: i64) -> Timestamp {
    "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

fn state(store: &Store) -> PipelineState {
    store.pipeline_state("web", "digest", at(0)).unwrap()
}

/// Claims and ends a run.
fn run(store: &Store, minute: i64, by: StartedBy, outcome: RunOutcome, limit: u32) -> bool {
    let due = (by != StartedBy::Manual).then(|| at(minute));
    let claim = store
        .claim_run("web", by, due, WhileRunning::Skip, at(minute))
        .unwrap();
    let Claim::Ours(run) = claim else {
        panic!("{claim:?}");
    };
    store
        .finish_run(run, outcome, Some("why"), Some(limit), at(minute + 1))
        .unwrap()
}

#[test]
fn a_time_is_given_to_one_of_many() {
    let (_folder, store) = store();
    let home = store.home().clone();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let home = home.clone();
            std::thread::spawn(move || {
                let store = Store::open(&home).unwrap();
                (0..25)
                    .filter(|minute| {
                        let due = Some(at(*minute));
                        let claim = store
                            .claim_run(
                                "web",
                                StartedBy::Schedule,
                                due,
                                WhileRunning::Start,
                                at(*minute),
                            )
                            .unwrap();
                        matches!(claim, Claim::Ours(_))
                    })
                    .count()
            })
        })
        .collect();
    let claimed: usize = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!(claimed, 25);
    assert_eq!(store.pipeline_runs("web", 100).unwrap().len(), 25);
}

#[test]
fn while_one_runs_the_next_is_skipped() {
    let (_folder, store) = store();
    let claim = |by, due: Option<i64>, policy| {
        store
            .claim_run("web", by, due.map(at), policy, at(9))
            .unwrap()
    };
    let Claim::Ours(first) = claim(StartedBy::Schedule, Some(1), WhileRunning::Skip) else {
        panic!("the first run may begin");
    };
    store.run_makes(first, "the-image", "{}").unwrap();
    let busy = Claim::Busy {
        run: first,
        image: Some("the-image".into()),
    };
    assert_eq!(
        claim(StartedBy::Schedule, Some(2), WhileRunning::Skip),
        busy
    );
    // The time is used up, also for a scheduler that comes later.
    assert_eq!(
        claim(StartedBy::Schedule, Some(2), WhileRunning::Start),
        Claim::Taken
    );
    // A person is told, and nothing is put on record.
    assert_eq!(claim(StartedBy::Manual, None, WhileRunning::Skip), busy);
    assert!(matches!(
        claim(StartedBy::Manual, None, WhileRunning::Start),
        Claim::Ours(_)
    ));
    // Other pipelines are another matter.
    let other = store
        .claim_run(
            "db",
            StartedBy::Schedule,
            Some(at(1)),
            WhileRunning::Skip,
            at(9),
        )
        .unwrap();
    assert!(matches!(other, Claim::Ours(_)));
    let outcomes: Vec<(RunOutcome, Option<String>)> = store
        .pipeline_runs("web", 10)
        .unwrap()
        .into_iter()
        .map(|run| (run.outcome, run.reason))
        .collect();
    assert_eq!(
        outcomes,
        [
            (RunOutcome::Running, None),
            (
                RunOutcome::Skipped,
                Some("the last run still goes on".to_owned())
            ),
            (RunOutcome::Running, None),
        ]
    );
}

#[test]
fn scheduled_failures_in_a_row_disable() {
    use RunOutcome::{Cancelled, Failed, Skipped, Succeeded};
    use StartedBy::{CatchUp, Manual, Schedule};
    let (_folder, store) = store();
    assert_eq!(state(&store).failures, 0);
    // Failures in a row, as the rule counts them: those of a person, and runs without an end of their own, change nothing.
    let steps = [
        (Schedule, Failed, 1),
        (Manual, Failed, 1),
        (Schedule, Skipped, 1),
        (Schedule, Cancelled, 1),
        (CatchUp, Failed, 2),
        (Manual, Succeeded, 0),
        (Schedule, Failed, 1),
        (Schedule, Succeeded, 0),
        (Schedule, Failed, 1),
        (Schedule, Failed, 2),
    ];
    for (minute, (by, outcome, failures)) in (0_i64..).zip(steps) {
        let disabled = run(&store, minute * 10, by, outcome, 3);
        assert!(!disabled);
        assert_eq!(state(&store).failures, failures, "after {by} {outcome}");
    }
    assert!(run(&store, 500, Schedule, Failed, 3));
    let disabled = state(&store);
    assert_eq!(disabled.status, Some(PipelineStatus::Disabled));
    assert_eq!(
        disabled.reason.as_deref(),
        Some("3 scheduled runs failed in a row")
    );
    store
        .set_pipeline_status("web", PipelineStatus::Enabled, None, at(600))
        .unwrap();
    let enabled = state(&store);
    assert_eq!(
        (enabled.status, enabled.failures, enabled.reason),
        (Some(PipelineStatus::Enabled), 0, None)
    );
    // Times that passed while it was disabled are not made up for.
    assert_eq!(enabled.checked, at(600));
}

#[test]
fn another_document_starts_anew() {
    let (_folder, store) = store();
    state(&store);
    run(&store, 10, StartedBy::Schedule, RunOutcome::Failed, 1);
    store.pipeline_checked("web", at(30)).unwrap();
    store.pipeline_checked("web", at(20)).unwrap();
    let before = state(&store);
    assert_eq!((before.checked, before.anchor), (at(30), at(0)));
    assert_eq!(before.status, Some(PipelineStatus::Disabled));
    let after = store.pipeline_state("web", "another", at(40)).unwrap();
    assert_eq!(
        after,
        PipelineState {
            status: None,
            reason: None,
            failures: 0,
            anchor: at(40),
            checked: at(40),
        }
    );
}

#[test]
fn an_end_is_an_end() {
    let (_folder, store) = store();
    state(&store);
    let Claim::Ours(run) = store
        .claim_run(
            "web",
            StartedBy::Schedule,
            Some(at(1)),
            WhileRunning::Skip,
            at(1),
        )
        .unwrap()
    else {
        panic!("the first run may begin");
    };
    assert_eq!(store.running_runs().unwrap().len(), 1);
    let finish = |outcome| {
        store
            .finish_run(run, outcome, None, Some(1), at(2))
            .unwrap()
    };
    assert!(!finish(RunOutcome::Succeeded));
    assert!(!finish(RunOutcome::Failed));
    assert_eq!(state(&store).failures, 0);
    let last = store.last_success("web").unwrap().unwrap();
    assert_eq!(
        (last.id, last.due, last.finished),
        (run, Some(at(1)), Some(at(2)))
    );
    assert!(store.running_runs().unwrap().is_empty());
}

#[test]
fn a_missed_time_is_on_record_once() {
    let (_folder, store) = store();
    for _ in 0..2 {
        store
            .skip_run("web", at(5), "nobody was there", at(900))
            .unwrap();
    }
    let runs = store.pipeline_runs("web", 10).unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].outcome, RunOutcome::Skipped);
    assert_eq!(runs[0].due, Some(at(5)));
}
