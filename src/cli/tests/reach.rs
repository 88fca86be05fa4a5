//! A proxy that is not there, hangs, or is something else.

use super::*;

#[test]
fn a_proxy_that_is_not_there_is_exit_code_1_with_the_socket_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("s.sock");
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for socket in [missing, dead] {
        let ran = run_on(&socket, &["status"], None);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        for part in [socket.to_str().unwrap(), "is `sluice run` running?", "--socket"] {
            assert!(ran.err.contains(part), "{}", ran.err);
        }
        let ran = run_on(&socket, &["wait", "shop", "--json"], None);
        assert_eq!(ran.code, 1);
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(json["error"]["kind"], "unreachable");
    }
}

/// Accepts one connection, reads a request head, and says this; then keeps the connection open until the client goes.
fn speaker(folder: &Path, says: &'static [u8]) -> PathBuf {
    let path = folder.join("speaker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = stream.write_all(says);
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {}
            });
        }
    });
    path
}

#[test]
fn an_answer_that_is_not_http_or_not_ours_is_exit_code_1() {
    for (says, part) in [
        (&b"220 smtp ready\r\n\r\n"[..], "the connection to the proxy broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "of another version"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops", "oops"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = speaker(folder.path(), says);
        let ran = run_on(&socket, &["status"], None);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_answers_nothing_is_given_up_after_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    // The kernel accepts into the queue; nobody ever takes it out.
    let _listener = UnixListener::bind(&path).unwrap();
    let begun = tokio::time::Instant::now();
    let client = Client::new(path);
    let failure = client.get_text("/v1/status").await.unwrap_err();
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("nothing answered within 5 s"), "{}", failure.message);
    assert_eq!(begun.elapsed().as_secs(), 5);
    let failure = client.stream("/v1/services/shop/wait").await.unwrap_err();
    assert_eq!((failure.code, begun.elapsed().as_secs()), (1, 10));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up_after_fifteen_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let socket = speaker(folder.path(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}\n\n\r\n");
    let client = Client::new(socket);
    // `stream` asks for /healthz first, which would wait for the end of this body.
    let mut lines = client.open("/v1/services/shop/wait").await.unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("{}"));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    // Cancelled again and again, as a view that redraws itself does: the deadline must not begin anew.
    let failure = loop {
        match tokio::time::timeout(Duration::from_secs(1), lines.next()).await {
            Ok(result) => break result.unwrap_err(),
            Err(_) => assert!(begun.elapsed().as_secs() < 20),
        }
    };
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("nothing was heard"), "{}", failure.message);
}
