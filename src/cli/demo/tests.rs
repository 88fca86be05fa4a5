//! Load against origins, with nothing between them: what is right is told right, and every kind of wrong is told.

use std::time::{Duration, Instant};

use super::*;

/// Loaded machines are slow; a wait that takes longer than this is a failure, not slowness.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(origin: &Origin, rates: Rates) -> LoadOptions {
    LoadOptions {
        rates,
        slow: Duration::from_millis(300),
        session: Duration::from_millis(500),
        beat: Duration::from_millis(20),
        ..LoadOptions::mixed(origin.address(), "shop.test", 0.0, 1)
    }
}

/// Runs load until the tally says enough, then stops it.
async fn until(load: Load, what: &str, enough: impl Fn(&Tally) -> bool) -> Tally {
    let begin = Instant::now();
    while !enough(&load.tally()) {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come:\n{}", load.tally().explain());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    load.stop().await
}

fn gets() -> Rates {
    Rates { get: 100.0, ..Rates::default() }
}

#[tokio::test]
async fn a_good_origin_gives_no_failure_of_any_kind() {
    let ledger = Ledger::new();
    let origin = Origin::start(OriginOptions::new("v1", &ledger)).unwrap();
    let rates = Rates { get: 60.0, post: 40.0, slow: 5.0, upload: 5.0, websocket: 5.0, events: 5.0 };
    let load = Load::start(options(&origin, rates)).unwrap();
    let tally = until(load, "five of each kind", |tally| tally.kinds.values().all(|kind| kind.ok >= 5)).await;
    assert_eq!(tally.failures(), 0, "{}", tally.explain());
    assert_eq!((tally.restarts, tally.client_retries), (0, 0));
    assert_eq!(tally.started_total(), tally.ok());
    assert_eq!(tally.in_flight, 0);
    assert!(tally.messages > 20 && tally.events > 20);
    assert_eq!(ledger.orders(), tally.kinds[&Kind::Post].ok);
    assert_eq!(ledger.duplicates(), []);
    assert_eq!(origin.counts().requests, tally.answers("v1"));
    assert!(tally.connections < tally.started_total(), "connections are used again");
}

#[tokio::test]
async fn a_killed_origin_gives_failures() {
    for reset in [false, true] {
        let origin = Origin::start(OriginOptions::new("v1", &Ledger::new())).unwrap();
        let rates = Rates { slow: 20.0, websocket: 20.0, ..gets() };
        let load = Load::start(LoadOptions { slow: Duration::from_secs(3), ..options(&origin, rates) }).unwrap();
        let begin = Instant::now();
        // Answers that have begun and not ended are WebSockets and downloads: at least three of them downloads.
        let in_the_middle = |tally: &Tally| {
            let sockets = tally.kinds[&Kind::WebSocket].started;
            tally.messages > 0 && tally.answers("v1") >= tally.ok() + sockets + 3
        };
        while !in_the_middle(&load.tally()) {
            assert!(begin.elapsed() < PATIENCE, "{}", load.tally().explain());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if reset {
            origin.reset();
        } else {
            origin.kill();
        }
        assert!(origin.is_ended());
        let tally = until(load, "failures of three kinds", |tally| {
            tally.failed_by(Reason::Connect) > 0
                && tally.kinds[&Kind::Slow].failed.contains_key(&Reason::Truncated)
                && tally.kinds[&Kind::WebSocket].failed.contains_key(&Reason::Abnormal)
        })
        .await;
        assert!(!tally.examples.is_empty() && tally.examples.len() <= 20);
        assert_eq!(tally.started_total(), tally.ok() + tally.failures(), "everything ends in one of the two ways");
    }
}

#[tokio::test]
async fn a_truncated_and_a_corrupted_download_are_told_apart() {
    let cases = [
        (Faults { truncate: true, ..Faults::default() }, Reason::Truncated),
        (Faults { corrupt: true, ..Faults::default() }, Reason::WrongBody),
    ];
    for (faults, reason) in cases {
        let mut origin = OriginOptions::new("v1", &Ledger::new());
        origin.faults = faults;
        let origin = Origin::start(origin).unwrap();
        let rates = Rates { slow: 30.0, ..Rates::default() };
        let load = Load::start(options(&origin, rates)).unwrap();
        // Some with a length and some chunked.
        let tally = until(load, "ten failures", |tally| tally.failures() >= 10).await;
        assert_eq!(tally.failed_by(reason), tally.failures(), "{}", tally.explain());
        assert_eq!(tally.ok(), 0);
    }
}

#[tokio::test]
async fn an_order_that_is_executed_twice_is_in_the_ledger() {
    let ledger = Ledger::new();
    let mut origin = OriginOptions::new("v1", &ledger);
    origin.faults.twice = true;
    let origin = Origin::start(origin).unwrap();
    let rates = Rates { post: 50.0, ..Rates::default() };
    let load = Load::start(options(&origin, rates)).unwrap();
    let tally = until(load, "an order", |tally| tally.ok() > 0).await;
    assert_eq!(tally.failures(), 0, "the client cannot see it: {}", tally.explain());
    assert_eq!(ledger.duplicates().len() as u64, tally.ok());
}

#[tokio::test]
async fn a_websocket_closed_with_1012_is_a_restart_and_one_closed_with_1001_a_failure() {
    let rates = Rates { websocket: 10.0, ..Rates::default() };
    let mut origin = OriginOptions::new("v1", &Ledger::new());
    origin.faults.restart_after = Some(5);
    let origin = Origin::start(origin).unwrap();
    let load = Load::start(options(&origin, rates)).unwrap();
    let tally = until(load, "three sessions", |tally| tally.ok() >= 3).await;
    assert_eq!(tally.failures(), 0, "{}", tally.explain());
    assert!(tally.restarts >= 3);

    let origin = Origin::start(OriginOptions::new("v1", &Ledger::new())).unwrap();
    let load = Load::start(options(&origin, rates)).unwrap();
    let begin = Instant::now();
    while load.tally().messages == 0 {
        assert!(begin.elapsed() < PATIENCE, "{}", load.tally().explain());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    origin.stop_gracefully();
    let tally = until(load, "the abnormal end", |tally| tally.failed_by(Reason::Abnormal) > 0).await;
    assert_eq!(tally.restarts, 0);
}

#[tokio::test]
async fn an_event_stream_that_a_stopping_node_ends_is_a_failure() {
    let origin = Origin::start(OriginOptions::new("v1", &Ledger::new())).unwrap();
    let rates = Rates { events: 20.0, ..Rates::default() };
    let load = Load::start(LoadOptions { session: PATIENCE, ..options(&origin, rates) }).unwrap();
    let begin = Instant::now();
    while load.tally().events < 5 {
        assert!(begin.elapsed() < PATIENCE, "{}", load.tally().explain());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    origin.stop_gracefully();
    let tally = until(load, "the abnormal end", |tally| tally.failed_by(Reason::Abnormal) > 0).await;
    assert_eq!(tally.restarts, 0, "{}", tally.explain());
}

#[tokio::test]
async fn an_origin_that_stalls_makes_latency_grow_and_not_the_rate_fall() {
    let mut origin = OriginOptions::new("v1", &Ledger::new());
    origin.delay = Duration::from_millis(500);
    let origin = Origin::start(origin).unwrap();
    let load = Load::start(options(&origin, gets())).unwrap();
    let begin = Instant::now();
    let tally = until(load, "a hundred answers", |tally| tally.ok() >= 100).await;
    // A closed loop over one connection would have done two a second.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(tally.failures(), 0, "{}", tally.explain());
    assert!(tally.short().value_at_quantile(0.5) >= 490_000);
    assert!(origin.counts().connections > 10, "none waited for another");
}

#[tokio::test]
async fn too_much_in_flight_is_a_failure() {
    let mut origin = OriginOptions::new("v1", &Ledger::new());
    origin.delay = Duration::from_secs(1);
    let origin = Origin::start(origin).unwrap();
    let load = Load::start(LoadOptions { max_in_flight: 3, ..options(&origin, gets()) }).unwrap();
    let tally = until(load, "overload", |tally| tally.failed_by(Reason::Overload) > 0).await;
    assert_eq!(tally.failed_by(Reason::Overload), tally.failures(), "{}", tally.explain());
}

#[tokio::test]
async fn an_origin_is_not_ready_at_once_and_counts_who_did_not_wait() {
    let mut origin = OriginOptions::new("v2", &Ledger::new());
    origin.ready_after = PATIENCE;
    let origin = Origin::start(origin).unwrap();
    let load = Load::start(options(&origin, gets())).unwrap();
    let tally = until(load, "failures", |tally| tally.failures() >= 5).await;
    assert_eq!(tally.failed_by(Reason::Status), tally.failures(), "{}", tally.explain());
    let counts = origin.counts();
    assert_eq!((counts.early, counts.late), (counts.requests, 0));
    assert!(tally.examples[0].detail.contains("503"), "{}", tally.examples[0]);
}

#[tokio::test]
async fn a_graceful_stop_lets_downloads_finish_and_refuses_new_connections() {
    let origin = Origin::start(OriginOptions::new("v1", &Ledger::new())).unwrap();
    let rates = Rates { slow: 50.0, ..Rates::default() };
    let load = Load::start(options(&origin, rates)).unwrap();
    let begin = Instant::now();
    while origin.counts().active < 3 {
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    origin.stop_gracefully();
    let tally = until(load, "a refused connection", |tally| tally.failed_by(Reason::Connect) > 0).await;
    assert!(tally.ok() > 0);
    assert_eq!(tally.failed_by(Reason::Truncated), 0, "{}", tally.explain());
    while !origin.is_ended() {
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_client_that_may_retry_survives_idle_closes_and_says_how_often() {
    let mut origin = OriginOptions::new("v1", &Ledger::new());
    origin.idle_close = Some(Duration::from_millis(5));
    let origin = Origin::start(origin).unwrap();
    let load = Load::start(LoadOptions { retry: true, ..options(&origin, gets()) }).unwrap();
    let tally = until(load, "a hundred answers", |tally| tally.ok() >= 100).await;
    assert_eq!(tally.failures(), 0, "{}", tally.explain());
    assert!(tally.connections > 10, "idle connections were closed: {}", tally.explain());
}
