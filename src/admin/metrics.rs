//! `GET /metrics`: OpenMetrics text, which Prometheus and its heirs read.
//!
//! `control` gathers plain sums a few services at a time; they are written down here on a thread that does nothing else, in
//! pieces, so that the text of ten thousand services is never whole in memory.

mod collector;
mod families;
mod process;

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use self::collector::Scrape;
pub use self::families::{ALL, Family, Kind};
use self::process::Process;
use super::answer::{self, Body, Fault};
use crate::api::Measures;

/// OpenMetrics 1.0, which all of them read: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bytes of a piece. What is shorter is sent whole, with its length.
const PIECE: usize = 256 * 1024;

/// A reader that takes nothing for this long is dropped.
const STUCK: Duration = Duration::from_secs(10);

/// Scrapes that are written down at once: two Prometheus and a person; more are told to come back.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(4)));

/// Answers with everything that was gathered.
pub(super) async fn respond(measures: Arc<Measures>) -> Result<Response<Body>, Fault> {
    let Ok(place) = Arc::clone(&PLACES).try_acquire_owned() else {
        return Err(Fault::unavailable("four scrapes are under way already; one a few seconds is enough".to_owned()));
    };
    // The first piece tells whether there are more.
    let (pieces, mut written) = mpsc::channel(1);
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = Out { piece: Vec::new(), pieces, handle };
        let done = write(&mut out, measures).is_ok();
        out.end(done);
        drop(place);
    });
    let broke = || Fault::unavailable("the measures could not be written down".to_owned());
    let mut response = match written.recv().await.ok_or_else(broke)? {
        Piece::Last(bytes) => answer::with_type(StatusCode::OK, KIND, bytes),
        Piece::More(bytes) => {
            let (sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(feed(bytes, written, sender));
            answer::typed(Response::new(body.boxed()), KIND)
        }
    };
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

enum Piece {
    More(Bytes),
    Last(Bytes),
}

async fn feed(first: Bytes, mut written: mpsc::Receiver<Piece>, mut sender: Sender<Bytes>) {
    let mut next = Some(Piece::More(first));
    while let Some(Piece::More(bytes) | Piece::Last(bytes)) = next {
        // What breaks off has no `# EOF`, so nobody takes it for the whole.
        if !matches!(timeout(STUCK, sender.send_data(bytes)).await, Ok(Ok(()))) {
            return;
        }
        next = written.recv().await;
    }
}

fn write(out: &mut Out, measures: Arc<Measures>) -> fmt::Result {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { measures, process: Process::now() }));
    text::encode(out, &registry)
}

/// Where the text goes, piece by piece.
struct Out {
    piece: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
    handle: Handle,
}

impl Out {
    fn send(&self, piece: Piece) -> fmt::Result {
        let sent = self.handle.block_on(timeout(2 * STUCK, self.pieces.send(piece)));
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(fmt::Error) }
    }

    fn end(mut self, done: bool) {
        if done {
            let last = std::mem::take(&mut self.piece);
            // Nobody waits for it any more, then.
            let _ = self.send(Piece::Last(last.into()));
        }
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.piece.extend_from_slice(text.as_bytes());
        if self.piece.len() < PIECE {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE + 1024));
        self.send(Piece::More(full.into()))
    }
}
