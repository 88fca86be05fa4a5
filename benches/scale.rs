//! Ten thousand services in a real process: from an edit to one of them until it is live, what the others notice of it, and
//! what it costs in memory; and what reading the metrics of all of them does to others.
//!
//! `cargo bench --bench scale -- [--services 10000] [--edits 20]`
#![allow(missing_docs)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How often the metrics are read, twice a second.
const SCRAPES: usize = 8;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let services = option("--services").unwrap_or(10_000);
    let edits = option("--edits").unwrap_or(20);
    let port = start_node()?;
    println!("{services} services with 3 nodes each, {edits} edits of one of them\n");
    for (name, layout) in [("a file each", Layout::FileEach), ("one file", Layout::OneFile)] {
        println!("{name}");
        measure(layout, services, edits, port)?;
    }
    Ok(())
}

fn option(name: &str) -> Option<usize> {
    let args: Vec<_> = std::env::args().collect();
    args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)?.parse().ok())
}

/// A node that answers with the path it was asked for. It has every address of 127.0.0.0/8.
fn start_node() -> Result<u16, Failure> {
    let listener = std::net::TcpListener::bind("0.0.0.0:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    let mut bytes = vec![0; 4096];
                    while let Ok(got) = stream.read(&mut bytes).await {
                        if got == 0 {
                            return;
                        }
                        let text = String::from_utf8_lossy(&bytes[..got]);
                        let path = text.split(' ').nth(1).unwrap_or("?");
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    Ok(port)
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    OneFile,
    FileEach,
}

fn service(index: usize, host: &str, strip: bool, port: u16) -> String {
    format!(
        "[service.s{index}]\nmatch = \"{host}/app\"\nstrip_prefix = {strip}\n\
         nodes = [\"127.0.0.1:{port}\", \"127.0.0.2:{port}\", \"127.0.0.3:{port}\"]\nhealth = {{ interval = \"1h\", rise = 1 }}\n"
    )
}

/// The first journal is awaited so long.
const JOURNAL: Duration = Duration::from_secs(40);

const TOP: &str = "shutdown = { linger = \"0s\" }\n[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n";

struct Site {
    dir: tempfile::TempDir,
    layout: Layout,
    services: usize,
    port: u16,
}

impl Site {
    /// Writes what must be written when the edited service looks like this.
    fn edit(&self, host: &str, strip: bool) -> Result<(), Failure> {
        let edited = self.services / 2;
        let one = service(edited, host, strip, self.port);
        match self.layout {
            Layout::FileEach => self.replace(&format!("services/s{edited}.toml"), &one),
            Layout::OneFile => {
                let mut text = String::from(TOP);
                for index in 0..self.services {
                    if index == edited {
                        text.push_str(&one);
                    } else {
                        text.push_str(&service(index, &format!("s{index}.test"), false, self.port));
                    }
                }
                self.replace("sluice.toml", &text)
            }
        }
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        let beside = self.dir.path().join("beside");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, self.path(name))?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn measure(layout: Layout, services: usize, edits: usize, port: u16) -> Result<(), Failure> {
    let site = Site { dir: tempfile::tempdir()?, layout, services, port };
    if layout == Layout::FileEach {
        std::fs::create_dir(site.path("services"))?;
        site.replace("sluice.toml", &format!("include = [\"services/*.toml\"]\n{TOP}"))?;
        for index in 0..services {
            let text = service(index, &format!("s{index}.test"), false, port);
            std::fs::write(site.path(&format!("services/s{index}.toml")), text)?;
        }
    } else {
        site.edit(&format!("s{}.test", services / 2), false)?;
    }
    let row = |name: &str, value: String| println!("  {name:<28}{value:>22}");

    let began = Instant::now();
    let mut proxy = Proxy(start(&site)?);
    let address = until(|| listener(&site.path("s.sock")))?;
    row("start to first answer", ms(began.elapsed()));
    let last = services - 1;
    until(|| asked(address, &format!("s{last}.test")).filter(|path| path == "/app"))?;
    row("start to last service", ms(began.elapsed()));
    // A slow disk may take minutes.
    let complete = || count(&site.path("state/services")) >= services;
    while !complete() && began.elapsed() < JOURNAL {
        sleep(Duration::from_millis(100));
    }
    row(
        "start to journal complete",
        if complete() { ms(began.elapsed()) } else { format!("more than {}", ms(JOURNAL)) },
    );
    // Files must be some seconds old before their times prove anything.
    sleep(Duration::from_secs(4));
    row("memory", memory(proxy.0.id()));

    let quiet = Probe::start(address);
    sleep(Duration::from_secs(3));
    let quiet = quiet.stop();
    let scraped = Probe::start(address);
    let (mut times, mut size) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        let began = Instant::now();
        size = scrape(&site.path("s.sock"))?;
        times.push(began.elapsed());
        sleep(Duration::from_millis(500));
    }
    let scraped = scraped.stop();
    times.sort();
    let under = Probe::start(address);
    let same = format!("s{}.test", services / 2);
    let mut settings = Vec::new();
    for turn in 0..edits {
        let strip = turn % 2 == 0;
        let wanted = if strip { "/" } else { "/app" };
        let began = Instant::now();
        site.edit(&same, strip)?;
        let saved = Instant::now();
        until(|| asked(address, &same).filter(|path| path == wanted))?;
        settings.push((saved.elapsed(), began.elapsed()));
        sleep(Duration::from_millis(300));
    }
    let mut routes = Vec::new();
    for turn in 0..edits {
        let host = format!("e{turn}.test");
        site.edit(&host, false)?;
        let saved = Instant::now();
        until(|| asked(address, &host).filter(|path| path == "/app"))?;
        routes.push((saved.elapsed(), saved.elapsed()));
        sleep(Duration::from_millis(300));
    }
    let under = under.stop();
    for (name, all) in [("settings edit to live", &settings), ("route edit to live", &routes)] {
        let mut all: Vec<_> = all.iter().map(|(live, _)| *live).collect();
        all.sort();
        row(name, format!("{} / {}", ms(all[all.len() / 2]), ms(all[all.len() - 1])));
    }
    row("others, quiet p50/p99/max", quiet);
    row("others, scrapes p50/p99/max", scraped);
    row("others, edits p50/p99/max", under);
    row("a scrape, and its size", format!("{} {:.1} MB", ms(times[SCRAPES / 2]), size as f64 / 1e6));
    row("memory after the edits", memory(proxy.0.id()));
    let began = Instant::now();
    Command::new("kill").arg(proxy.0.id().to_string()).status()?;
    proxy.0.wait()?;
    row("SIGTERM to the end", ms(began.elapsed()));
    Ok(())
}

/// Dropping it kills it.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(site: &Site) -> Result<Child, Failure> {
    let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["run", "--log", "warn", "--config"])
        .arg(site.path("sluice.toml"))
        .env("SLUICE_SOCKET", site.path("s.sock"))
        .env("SLUICE_STATE_DIR", site.path("state"))
        .stdin(Stdio::null())
        .spawn()?;
    Ok(child)
}

fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(2) {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        sleep(Duration::from_millis(1));
    }
    Err("not within two minutes".into())
}

fn listener(socket: &Path) -> Option<SocketAddr> {
    let mut stream = UnixStream::connect(socket).ok()?;
    // One service: an answer of 10,000 would be measured otherwise.
    stream.write_all(b"GET /v1/status?service=s0 HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (_, rest) = text.split_once("\"address\":\"")?;
    rest.split('"').next()?.parse().ok()
}

/// The path that the node saw; None if there was no answer of a node.
fn asked(address: SocketAddr, host: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    exchange(&mut stream, host)
}

fn exchange(stream: &mut TcpStream, host: &str) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(format!("GET /app HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).ok()?;
    let mut bytes = [0; 4096];
    let mut all = Vec::new();
    loop {
        let got = stream.read(&mut bytes).ok()?;
        all.extend_from_slice(&bytes[..got]);
        let text = String::from_utf8_lossy(&all);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            if !head.starts_with("HTTP/1.1 200") {
                return None;
            }
            if body.starts_with('/') {
                return Some(body.to_owned());
            }
        }
        if got == 0 {
            return None;
        }
    }
}

/// Reads all metrics; how many bytes they are.
fn scrape(socket: &Path) -> Result<usize, Failure> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err("no metrics".into());
    }
    Ok(answer.len())
}

/// Requests to another service on one connection, one after the other.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

impl Probe {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            let Ok(mut stream) = TcpStream::connect(address) else { return all };
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert!(exchange(&mut stream, "s1.test").is_some(), "a request of another service failed");
                all.push(began.elapsed());
                sleep(Duration::from_millis(1));
            }
            all
        });
        Self { stop, thread }
    }

    fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = self.thread.join().unwrap_or_default();
        all.sort();
        let at = |part: usize| all.get((all.len().saturating_sub(1)) * part / 1000).copied().unwrap_or_default();
        let mut text = String::new();
        for part in [500, 990, 1000] {
            let _ = write!(text, "{}{:.1}", if text.is_empty() { "" } else { "/" }, at(part).as_secs_f64() * 1e3);
        }
        text
    }
}

fn count(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
}

/// Resident memory.
fn memory(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?").trim();
    let kib = line.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default();
    format!("{:.0} MB", kib / 1024.0)
}

fn ms(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}
