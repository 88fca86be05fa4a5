//! The thread that compares passwords with their hashes. A hash that is worth something takes tens of milliseconds, in which
//! a worker would answer a thousand requests. One thread for all workers, because it takes their processors.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

/// Passwords that wait. With more, somebody is guessing.
const QUEUE: usize = 64;

/// Compares passwords, one after another. The thread is started for the first, and ends with this.
#[derive(Debug, Default)]
pub struct Passwords(OnceLock<Option<SyncSender<Job>>>);

/// A password to compare. Not shown to anybody.
struct Job {
    password: Vec<u8>,
    hash: String,
    reply: oneshot::Sender<bool>,
}

impl Passwords {
    /// Asks whether a bcrypt hash is that of a password. `None`: too many wait already.
    pub fn compare(&self, password: Vec<u8>, hash: &str) -> Option<oneshot::Receiver<bool>> {
        let queue = self.0.get_or_init(|| {
            let (sender, jobs) = sync_channel(QUEUE);
            let thread = std::thread::Builder::new().name("passwords".into()).spawn(move || run(&jobs));
            thread.inspect_err(|error| tracing::error!(%error, "passwords cannot be checked: no thread")).ok()?;
            Some(sender)
        });
        let (reply, verdict) = oneshot::channel();
        let job = Job { password, hash: hash.to_owned(), reply };
        queue.as_ref()?.try_send(job).ok()?;
        Some(verdict)
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        // Nobody waits any more.
        if job.reply.is_closed() {
            continue;
        }
        let right = bcrypt::verify(&job.password, &job.hash).unwrap_or(false);
        let _ = job.reply.send(right);
    }
}
