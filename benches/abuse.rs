//! Clients that are slow, silent or many, against a real process: when each is gone, and what a normal client notices.
//!
//! `cargo bench --bench abuse -- [--only silent]`
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is measured for a normal client, before and while the others are there.
const TIME: Duration = Duration::from_secs(4);
/// The limits that the proxy is given: each abuser has to be gone by then.
const LIMIT: Duration = Duration::from_secs(3);
/// Limits are looked at every half second, and a loaded machine is late.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Abuse {
    SlowHead,
    SlowBody,
    SlowRead,
    Silent,
    HalfHandshake,
    SilentHandshake,
    Idle,
}

const ALL: [(Abuse, &str, usize); 7] = [
    (Abuse::SlowHead, "slow head", 1000),
    (Abuse::SlowBody, "slow body", 1000),
    (Abuse::SlowRead, "slow read", 200),
    (Abuse::Silent, "silent", 1000),
    (Abuse::HalfHandshake, "half a handshake", 1000),
    (Abuse::SilentHandshake, "no handshake", 1000),
    (Abuse::Idle, "idle, kept alive", 5000),
];

fn main() -> Result<(), Failure> {
    let args: Vec<_> = std::env::args().collect();
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        println!("limits of {LIMIT:?}; a normal client's latency in ms: p50/p99/max\n");
        println!("{:18}{:>7}{:>20}{:>20}{:>12}{:>8}", "abuse", "count", "before", "meanwhile", "last gone", "left");
        for (abuse, name, count) in
            ALL.iter().filter(|(_, name, _)| only.is_none_or(|only| name.contains(only.as_str())))
        {
            measure(*abuse, name, *count).await?;
        }
        Ok(())
    })
}

async fn measure(abuse: Abuse, name: &str, count: usize) -> Result<(), Failure> {
    let node = std::net::TcpListener::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let _proxy = Proxy::start(folder.path(), node.local_addr()?)?;
    start_node(node)?;
    let (plain, secure) = addresses(&folder.path().join("s.sock"))?;
    let before = normal(plain).await?;
    let began = Instant::now();
    let target = if matches!(abuse, Abuse::HalfHandshake | Abuse::SilentHandshake) { secure } else { plain };
    let mut abusers = JoinSet::new();
    for number in 0..count {
        abusers.spawn(one(abuse, target));
        // A burst beyond the queue of the socket would measure the kernel.
        if number % 50 == 49 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let meanwhile = normal(plain).await?;
    let deadline = LIMIT + GRACE;
    let mut last = Duration::ZERO;
    let mut gone = 0;
    let all = timeout(deadline, async {
        while let Some(ended) = abusers.join_next().await {
            last = last.max(ended.ok().and_then(Result::ok).map_or(Duration::ZERO, |at| at - began));
            gone += 1;
        }
    });
    let _ = all.await;
    println!("{name:18}{count:>7}{before:>20}{meanwhile:>20}{:>10.1} s{:>8}", last.as_secs_f64(), count - gone);
    abusers.shutdown().await;
    Ok(())
}

/// Does it until the proxy ends it; when that was.
async fn one(abuse: Abuse, target: SocketAddr) -> Result<Instant, Failure> {
    let mut stream = TcpStream::connect(target).await?;
    let first: &[u8] = match abuse {
        Abuse::SlowHead => b"GET / HTTP/1.1\r\nhost: a\r\n",
        Abuse::SlowBody => b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n",
        Abuse::SlowRead => b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
        // The beginning of a ClientHello of 512 bytes.
        Abuse::HalfHandshake => &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 1, 2, 3],
        Abuse::Idle => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        Abuse::Silent | Abuse::SilentHandshake => b"",
    };
    stream.write_all(first).await?;
    if abuse == Abuse::SlowRead {
        // Not a byte is read until the proxy has given it up; then a read shows the end behind what was in flight.
        sleep(LIMIT + GRACE / 2).await;
    }
    let drips = matches!(abuse, Abuse::SlowHead);
    let mut space = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            read = stream.read(&mut space) => match read {
                Ok(0) | Err(_) => return Ok(Instant::now()),
                Ok(_) => {}
            },
            () = sleep(Duration::from_millis(200)), if drips => {
                if stream.write_all(b"x").await.is_err() {
                    return Ok(Instant::now());
                }
            }
        }
    }
}

/// A request each two milliseconds on one connection, and one on a new connection each twenty.
async fn normal(target: SocketAddr) -> Result<String, Failure> {
    let end = Instant::now() + TIME;
    let mut all = Vec::new();
    let mut kept = connect(target).await?;
    let mut number = 0_u32;
    while Instant::now() < end {
        number += 1;
        let began = Instant::now();
        if number.is_multiple_of(10) {
            kept = connect(target).await?;
        }
        kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        let mut have = Vec::new();
        while !have.ends_with(b"fine") {
            let mut space = [0; 1024];
            let read = timeout(Duration::from_secs(5), kept.read(&mut space)).await??;
            if read == 0 {
                return Err("a normal client was turned away".into());
            }
            have.extend_from_slice(&space[..read]);
        }
        all.push(began.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    all.sort();
    let at = |part: usize| all[(all.len() - 1) * part / 1000].as_secs_f64() * 1e3;
    Ok(format!("{:.1}/{:.1}/{:.1}", at(500), at(990), at(1000)))
}

async fn connect(target: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// On a thread of its own: what it sends to slow readers must not delay the clients that measure.
fn start_node(listener: std::net::TcpListener) -> Result<(), Failure> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve(listener).await;
            }
        });
    });
    Ok(())
}

/// A node that answers at once, or with more than anybody can buffer.
async fn serve(listener: TcpListener) {
    let large = std::sync::Arc::new(vec![b'x'; 64 << 20]);
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let large = std::sync::Arc::clone(&large);
        tokio::spawn(async move {
            let mut space = vec![0; 64 * 1024];
            while let Ok(read) = stream.read(&mut space).await {
                if read == 0 {
                    return;
                }
                let (head, body): (String, &[u8]) = if space.starts_with(b"GET /large") {
                    (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", large.len()), &large)
                } else {
                    ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n".into(), b"fine")
                };
                if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(body).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Dropping it kills it.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    fn start(folder: &Path, node: SocketAddr) -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()])?;
        std::fs::write(folder.join("cert.pem"), made.cert.pem())?;
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
        let limit = format!("{}s", LIMIT.as_secs());
        let text = format!(
            "limits = {{ head = \"{limit}\", idle = \"{limit}\", handshake = \"{limit}\" }}\n\
             [[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"https\"\nbind = \"127.0.0.1:0\"\n\
             tls = {{ certificates = [{{ cert = \"cert.pem\", key = \"key.pem\" }}] }}\n\
             [service.app]\nmatch = \"*\"\nnodes = [\"{node}\"]\ntimeouts = {{ body = \"{limit}\" }}\n"
        );
        std::fs::write(folder.join("sluice.toml"), text)?;
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["run", "--log", "error", "--config"])
            .arg(folder.join("sluice.toml"))
            .env("SLUICE_SOCKET", folder.join("s.sock"))
            .env("SLUICE_STATE_DIR", folder.join("state"))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

/// Where the proxy listens, once its node serves.
fn addresses(socket: &Path) -> Result<(SocketAddr, SocketAddr), Failure> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        let text = ask(socket).unwrap_or_default();
        let found: Vec<SocketAddr> =
            text.split("\"address\":\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect();
        if text.contains("\"serving\"") && found.len() >= 2 {
            return Ok((found[0], found[1]));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("the proxy does not serve".into())
}

fn ask(socket: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
