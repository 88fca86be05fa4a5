//! The socket's file.

use super::*;

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_its_owner() {
    let (_folder, fake) = start();
    let mode = std::fs::metadata(&fake.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    let path = fake.socket.clone();
    drop(fake);
    assert!(!path.exists());
}

#[test]
fn a_living_socket_is_not_taken_and_a_dead_one_is() {
    let (folder, fake) = start();
    let error = UnixSocket::bind(&fake.socket).unwrap_err().to_string();
    assert!(error.contains("another sluice is running"), "{error}");
    assert_eq!(ask(&fake, "GET", "/healthz").0, 200, "it still lives");

    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    let socket = UnixSocket::bind(&dead).unwrap();
    UnixStream::connect(socket.path()).unwrap();
}

#[test]
fn a_hanging_owner_with_a_full_queue_counts_as_living() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let hangs = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    hangs.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    hangs.listen(0).unwrap();
    let _fills = UnixStream::connect(&path).unwrap();
    let begun = Instant::now();
    let error = UnixSocket::bind(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn another_file_of_that_name_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let error = UnixSocket::bind(&path).unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn a_socket_that_became_somebody_elses_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let first = UnixSocket::bind(&path).unwrap();
    std::fs::rename(&path, folder.path().join("moved.sock")).unwrap();
    let second = UnixSocket::bind(&path).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();
    drop(first);
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_missing_folder_is_made_and_a_long_path_explained() {
    let folder = tempfile::tempdir().unwrap();
    assert!(UnixSocket::bind(&folder.path().join("run/s.sock")).is_ok());
    let error = UnixSocket::bind(&folder.path().join("a/b/s.sock")).unwrap_err();
    assert!(error.to_string().contains("cannot make the folder"), "{error}");
    let error = UnixSocket::bind(&folder.path().join("x".repeat(120))).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn only_one_of_many_that_start_at_once_gets_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| UnixSocket::bind(&path))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|bound| bound.is_ok()).count(), 1);
}

/// The API on a clock that the test moves.
fn serve(folder: &Path) -> std::path::PathBuf {
    let socket = UnixSocket::bind(&folder.join("s.sock")).unwrap();
    let path = socket.path().to_owned();
    let (port, _calls) = Port::new(1);
    let (_ready, ready) = tokio::sync::watch::channel(true);
    tokio::spawn(socket.serve(port, ready));
    path
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_head_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let mut slow = tokio::net::UnixStream::connect(serve(folder.path())).await.unwrap();
    let begun = tokio::time::Instant::now();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer).await;
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_take_the_places_only_for_a_while() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let path = serve(folder.path());
    let mut idle = Vec::new();
    for _ in 0..server::CONNECTIONS {
        idle.push(tokio::net::UnixStream::connect(&path).await.unwrap());
        // So that the queue is emptied.
        tokio::task::yield_now().await;
    }
    let begun = tokio::time::Instant::now();
    let mut one_more = tokio::net::UnixStream::connect(&path).await.unwrap();
    one_more.write_all(b"GET /healthz HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(begun.elapsed().as_secs(), 5, "it had to wait for a place");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_leave_room_for_somebody_who_steers() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let fake = tokio::task::block_in_place(|| Fake::start(folder.path(), control));
    let mut streams = Vec::new();
    for number in 0..=server::STREAMS {
        let mut stream = tokio::net::UnixStream::connect(&fake.socket).await.unwrap();
        stream.write_all(b"POST /v1/services/endless/wait HTTP/1.1\r\nHost: s\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        let expected = if number < server::STREAMS { "HTTP/1.1 200" } else { "HTTP/1.1 503" };
        assert_eq!(String::from_utf8_lossy(&head), expected, "{number}");
        streams.push(stream);
    }
    assert_eq!(tokio::task::block_in_place(|| ask(&fake, "POST", "/v1/services/shop/abort").0), 200);
    // Whoever goes makes room for the next.
    streams.clear();
    let begun = Instant::now();
    while tokio::task::block_in_place(|| ask(&fake, "GET", "/v1/events?after=1").0) != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
