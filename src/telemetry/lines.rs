//! Writes lines to a file, or to standard output, on a thread that does nothing else.
//!
//! Whoever has lines hands over a batch and never waits: a disk that is slow, full or gone costs lines, which are counted, and nothing
//! else. The file is opened when there is something to write, and again when it was moved away or somebody asks for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Batches that wait to be written; what comes beyond is dropped.
const BATCHES: usize = 64;

/// How long nothing is written before it is looked whether the file is still there.
const IDLE: Duration = Duration::from_millis(500);

/// The file is asked whether it was moved away at most this often.
const LOOK: Duration = Duration::from_millis(500);

/// A file that cannot be opened is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// What does not take anything for this long is given up for the batch.
const STUCK: Duration = Duration::from_secs(1);

/// Losses are told in the log at most this often.
const TELL: Duration = Duration::from_mins(1);

/// What was handed over is written within this when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// A pipe that is ready takes this much without waiting (`PIPE_BUF`).
const PIPE: usize = 4096;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which is made if it is not there.
    File(PathBuf),
}

/// Some lines, each with its end.
#[derive(Debug)]
pub struct Batch {
    /// The lines.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub lines: u64,
}

/// What became of lines.
#[derive(Debug, Default)]
pub struct Fate {
    /// Written by whoever takes them.
    written: AtomicU64,
    /// Written by anybody.
    dropped: AtomicU64,
    /// Written by the thread: whether the last batch could not be written.
    failing: AtomicBool,
    /// Set by whoever wants the file to be opened again; cleared by the thread.
    reopen: AtomicBool,
    /// Set when the process ends.
    stop: AtomicBool,
}

impl Fate {
    /// Lines that were written, and lines that were dropped.
    pub fn counts(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    /// Whether the last batch could not be written.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// So many lines are where they were to go.
    pub fn pass(&self, lines: u64) {
        self.written.fetch_add(lines, Ordering::Relaxed);
    }

    /// So many lines are lost.
    pub fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

/// Where batches are handed over. Any thread may have one.
#[derive(Clone, Debug)]
pub struct Sink {
    batches: SyncSender<Batch>,
    fate: Arc<Fate>,
}

impl Sink {
    /// One without a thread: whoever has the other end takes what is handed over, and counts it.
    pub fn pair() -> (Self, Receiver<Batch>) {
        let (batches, received) = sync_channel(BATCHES);
        (Self { batches, fate: Arc::default() }, received)
    }

    /// Whether the other one hands over to the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.fate, &other.fate)
    }

    /// Counts what came at its end, for both ends to see.
    pub fn shared_fate(&self) -> Arc<Fate> {
        Arc::clone(&self.fate)
    }

    /// Hands lines over; they come back if there is no room. Never waits.
    pub fn send(&self, batch: Batch) -> Result<(), Batch> {
        match self.batches.try_send(batch) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(batch)) => Err(batch),
            Err(TrySendError::Disconnected(batch)) => {
                self.fate.lose(batch.lines);
                Ok(())
            }
        }
    }

    /// What became of lines.
    pub fn fate(&self) -> &Fate {
        &self.fate
    }
}

/// The thread. It ends when this is dropped, after it wrote what it was given.
#[derive(Debug)]
pub struct Lines {
    sink: Sink,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Starts the thread. `name`: what these lines are, for the log.
    pub fn start(name: &'static str, target: Target) -> io::Result<Self> {
        let (batches, received) = sync_channel(BATCHES);
        let fate = Arc::new(Fate::default());
        let writer = Writer {
            name,
            target,
            out: None,
            fate: Arc::clone(&fate),
            looked: Instant::now(),
            closed_since: None,
            torn: false,
            told: None,
        };
        let thread = std::thread::Builder::new().name("lines".into()).spawn(move || writer.run(&received))?;
        Ok(Self { sink: Sink { batches, fate }, thread: Some(thread) })
    }

    /// Where batches are handed over.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Whether anybody else may still hand lines over.
    pub fn is_shared(&self) -> bool {
        // This one's, and the thread's.
        Arc::strong_count(&self.sink.fate) > 2
    }

    /// Opens the file again, behind what was handed over so far. For `logrotate`.
    pub fn reopen(&self) {
        self.sink.fate.reopen.store(true, Ordering::Relaxed);
        // Wakes the thread. If there is no room it is awake.
        let _ = self.sink.batches.try_send(Batch { bytes: Vec::new(), lines: 0 });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.sink.fate.stop.store(true, Ordering::Relaxed);
        let _ = self.sink.batches.try_send(Batch { bytes: Vec::new(), lines: 0 });
        let Some(thread) = self.thread.take() else { return };
        let end = Instant::now() + FAREWELL;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What is written to.
struct Out {
    file: File,
    /// The file's number, by which it is known when another one has its name; none for standard output.
    id: Option<(u64, u64)>,
    /// Bytes that may be written at once, without waiting.
    most: usize,
}

struct Writer {
    name: &'static str,
    target: Target,
    out: Option<Out>,
    fate: Arc<Fate>,
    /// When it was looked last whether the file has its name still.
    looked: Instant,
    /// Since when it could not be opened.
    closed_since: Option<Instant>,
    /// The last batch broke off, perhaps in a line.
    torn: bool,
    /// When losses were told last, and how many there were then.
    told: Option<(Instant, u64)>,
}

impl Writer {
    fn run(mut self, batches: &Receiver<Batch>) {
        loop {
            match batches.recv_timeout(IDLE) {
                Ok(batch) => self.take(&batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What was handed over before somebody asked for another file belongs into this one.
            while let Ok(batch) = batches.try_recv() {
                self.take(&batch);
            }
            if self.fate.reopen.swap(false, Ordering::Relaxed) {
                self.out = None;
                self.closed_since = None;
            }
            self.tell();
            if self.fate.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn take(&mut self, batch: &Batch) {
        if batch.bytes.is_empty() {
            return;
        }
        let wrote = self.open().and_then(|()| self.write(&batch.bytes));
        let failing = self.fate.failing.load(Ordering::Relaxed);
        self.fate.failing.store(wrote.is_err(), Ordering::Relaxed);
        match wrote {
            Ok(()) => {
                self.fate.pass(batch.lines);
                if failing {
                    tracing::info!(log = self.name, "lines can be written again");
                }
            }
            Err(error) => {
                self.fate.lose(batch.lines);
                if !failing {
                    tracing::error!(log = self.name, target = ?self.target, %error, "lines are lost; requests go on");
                }
                self.told.get_or_insert((Instant::now(), 0));
            }
        }
    }

    /// Has the file open, under its name.
    fn open(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if let (Some(out), Target::File(path)) = (&self.out, &self.target)
            && now - self.looked >= LOOK
        {
            self.looked = now;
            if identity(path).ok() != out.id {
                self.out = None;
            }
        }
        if self.out.is_some() {
            return Ok(());
        }
        if self.closed_since.is_some_and(|since| now - since < AGAIN) {
            return Err(io::Error::other("it could not be opened or written a moment ago"));
        }
        self.closed_since = Some(now);
        self.out = Some(match &self.target {
            Target::Stdout => {
                // The descriptor itself: a buffer in between could hold a part of a line.
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Out { file, id: None, most: PIPE }
            }
            Target::File(path) => {
                // A pipe that nobody reads must not hold the thread in here.
                let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
                let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
                let id = file.metadata().map(|data| (data.dev(), data.ino()))?;
                Out { file, id: Some(id), most: usize::MAX }
            }
        });
        self.looked = now;
        self.closed_since = None;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let whole = if self.torn { write_all(&mut out.file, b"\n", out.most, &self.fate) } else { Ok(()) };
        let done = whole.and_then(|()| write_all(&mut out.file, bytes, out.most, &self.fate));
        self.torn = done.is_err();
        if done.is_err() {
            self.out = None;
            self.closed_since = Some(Instant::now());
        }
        done
    }

    /// Tells losses, but not often.
    fn tell(&mut self) {
        let dropped = self.fate.dropped.load(Ordering::Relaxed);
        let before = self.told.map_or(0, |(_, before)| before);
        if dropped > before && self.told.is_none_or(|(at, _)| at.elapsed() >= TELL) {
            tracing::warn!(log = self.name, lines = dropped - before, total = dropped, "lines were lost");
            self.told = Some((Instant::now(), dropped));
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|data| (data.dev(), data.ino()))
}

/// Writes all of it, `most` bytes at once, as fast as it is taken; an error if nothing is taken for too long.
fn write_all(out: &mut (impl Write + AsFd), mut bytes: &[u8], most: usize, fate: &Fate) -> io::Result<()> {
    let mut moved = Instant::now();
    while !bytes.is_empty() {
        if !is_writable(out.as_fd())? {
            if moved.elapsed() >= STUCK || fate.stop.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is taken"));
            }
            continue;
        }
        match out.write(&bytes[..bytes.len().min(most)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                moved = Instant::now();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                if moved.elapsed() >= STUCK {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
