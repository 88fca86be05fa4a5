//! One exchange with a scripted node, on a paused clock.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::super::probe::{Expected, Seen, Stage, exchange};
use super::{PATIENCE, answer};

/// Plays `script` (after a pause each) to one exchange on a paused clock, with a time limit of 2 s.
async fn play(
    script: Vec<(Duration, Vec<u8>)>,
    body: Option<&str>,
    endless: bool,
) -> (Result<(), String>, Seen, Duration) {
    let (ours, mut theirs) = tokio::io::duplex(8 * 1024);
    let began = Instant::now();
    let node = async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(theirs.read_u8().await.unwrap());
        }
        loop {
            for (pause, bytes) in &script {
                tokio::time::sleep(*pause).await;
                if theirs.write_all(bytes).await.is_err() {
                    return std::future::pending::<()>().await;
                }
            }
            if !endless {
                return std::future::pending().await;
            }
        }
    };
    let expected =
        Expected { path: "/", host: "node", status: &[200..=299], body: body.map(str::to_owned), header: None };
    let mut seen = Seen::default();
    let limit = Duration::from_secs(2);
    let result = tokio::select! {
        result = timeout(limit, exchange(ours, &expected, &mut seen)) => result,
        () = node => unreachable!(),
    };
    let result = result.unwrap_or_else(|_| Err(seen.out_of_time(limit)));
    (result, seen, began.elapsed())
}

fn after(millis: u64, bytes: impl AsRef<[u8]>) -> (Duration, Vec<u8>) {
    (Duration::from_millis(millis), bytes.as_ref().to_vec())
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_passes_within_the_limit_and_fails_beyond_it() {
    let head = answer("200 OK", "", "");
    assert!(play(vec![after(1900, &head)], None, false).await.0.is_ok());
    let (result, seen, took) = play(vec![after(2100, &head)], None, false).await;
    assert_eq!(result.unwrap_err(), "no answer within 2s");
    assert_eq!((seen.stage, took), (Stage::Waiting, Duration::from_secs(2)));
    let (result, ..) = play(vec![after(0, "HTTP/1.1 200 OK\r\n")], None, false).await;
    assert_eq!(result.unwrap_err(), "no answer within 2s");
    // Interim answers for ever are no answer.
    let (result, ..) = play(vec![after(10, "HTTP/1.1 103 Early Hints\r\n\r\n")], None, true).await;
    assert_eq!(result.unwrap_err(), "no answer within 2s");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_does_not_hold_up_the_verdict() {
    let head = |status: &str| format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = "5\r\ntick \r\n".repeat(100);
    // Not asked for, so not waited for.
    let (result, _, took) = play(vec![after(0, head("200 OK"))], None, false).await;
    assert!(result.is_ok() && took < Duration::from_millis(10), "{result:?} {took:?}");
    // Found as soon as it is there.
    let (result, ..) = play(vec![after(0, head("200 OK")), after(5, "6\r\nticket\r\n")], Some("tick"), false).await;
    assert!(result.is_ok(), "{result:?}");
    // Slow and without it.
    let (result, seen, took) = play(vec![after(0, head("200 OK")), after(5, &chunk)], Some("tock"), false).await;
    assert_eq!(result.unwrap_err(), "the body did not end within 2s, and what came does not match");
    assert_eq!((seen.status, took), (Some(200), Duration::from_secs(2)));
    // Fast and without it: cut at 64 KiB.
    let flood = "ffff\r\n".to_owned() + &"x".repeat(0xffff) + "\r\n";
    let (result, seen, _) = play(vec![after(0, head("200 OK")), after(0, flood.repeat(3))], Some("tock"), false).await;
    assert_eq!(result.unwrap_err(), "the body does not contain \"tock\"");
    assert_eq!(seen.body.len(), 64 * 1024);
    // A failed status whose body never comes is still a failed status.
    let (result, seen, took) = play(vec![after(0, head("500 X"))], None, false).await;
    assert_eq!(result.unwrap_err(), "status 500, wanted 200-299");
    assert_eq!((seen.status, took), (Some(500), Duration::from_secs(2)));
}

#[tokio::test]
async fn a_node_that_speaks_first_is_not_http() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
    let expected = Expected { path: "/", host: "node", status: &[200..=299], body: None, header: None };
    let error = timeout(PATIENCE, exchange(ours, &expected, &mut Seen::default())).await.unwrap().unwrap_err();
    assert!(error.contains("not HTTP/1.1"), "{error}");
}
