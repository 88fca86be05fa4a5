//! Reads the configuration away from the control loop: a file system that hangs must not stop health checks and drains.
//!
//! One read at a time. Whoever asks while one is running gets the next one: his edit may have come after this one began.

use std::path::PathBuf;

use tokio::task::JoinHandle;
use tracing::error;

use super::certificates::{self, Certificates, Read};
use crate::config::{self, Cache, Loaded};

/// The reader. `T` is what waits for a read.
#[derive(Debug)]
pub(super) struct Reading<T> {
    path: PathBuf,
    /// From the last read to the next one.
    cache: Cache,
    /// What was made from the files that it names.
    certificates: Certificates,
    running: Option<JoinHandle<(Loaded, Read)>>,
    /// Answered by the read that runs.
    served: Vec<T>,
    /// Whether another read must follow, and who waits for it.
    again: bool,
    waiting: Vec<T>,
}

impl<T> Reading<T> {
    /// `cache` and `certificates` are those of the first read.
    pub(super) fn new(path: PathBuf, cache: Cache, certificates: Certificates) -> Self {
        Self { path, cache, certificates, running: None, served: Vec::new(), again: false, waiting: Vec::new() }
    }

    /// Asks for a read that begins now or later.
    pub(super) fn ask(&mut self, who: Option<T>) {
        self.waiting.extend(who);
        self.again = true;
        self.start();
    }

    fn start(&mut self) {
        if self.running.is_none() && std::mem::take(&mut self.again) {
            self.served = std::mem::take(&mut self.waiting);
            let (path, cache) = (self.path.clone(), std::mem::take(&mut self.cache));
            let last = self.certificates.clone();
            self.running = Some(tokio::task::spawn_blocking(move || {
                let mut loaded = config::load_again(&path, cache);
                let read = certificates::read(&mut loaded, &last);
                (loaded, read)
            }));
        }
    }

    /// Waits for the read that runs, for ever if none does. Nothing is lost if the future is dropped.
    /// None instead of a result: the read itself broke down.
    pub(super) async fn done(&mut self) -> (Option<(Loaded, Read)>, Vec<T>) {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let mut loaded = running
            .await
            .inspect_err(|error| error!(%error, "reading the configuration broke down; what runs goes on"))
            .ok();
        self.running = None;
        if let Some((loaded, read)) = &mut loaded {
            self.cache = std::mem::take(&mut loaded.cache);
            self.certificates = read.certificates.clone();
        }
        let served = std::mem::take(&mut self.served);
        self.start();
        (loaded, served)
    }
}
