//! Tells a collector what requests came to, as spans of OpenTelemetry: OTLP over HTTP, as JSON.
//!
//! Workers write a span as a line of JSON and hand lines over in batches, like those of the access log. Here they are put into messages, twice a
//! second. A collector that is slow or gone costs spans, which are counted, and nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::endpoint::{Unanswered, ask, request};
use crate::config::{Endpoint, Export};
use crate::pool;
use crate::telemetry::lines::{Batch, Fate, Sink};

/// From one message to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// A message is closed when it has so many bytes. Collectors take some megabytes.
const MOST: usize = 512 * 1024;

/// How often a message is sent before it is given up, and the pause in between, which grows.
const TRIES: u32 = 3;

/// What is under way at the end of the process gets this long.
const FAREWELL: Duration = Duration::from_secs(2);

const HEAD: &str = concat!(
    r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"sluice"}},"#,
    r#"{"key":"service.version","value":{"stringValue":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}]},"scopeSpans":[{"scope":{"name":"sluice"},"spans":["#
);
const TAIL: &str = "]}]}]}";

/// The export, if there is one.
#[derive(Debug, Default)]
pub(super) struct Spans {
    settings: Option<Export>,
    /// What workers have.
    shared: Option<Arc<pool::Spans>>,
    /// Ends when nobody can hand anything over any more.
    task: Option<JoinHandle<()>>,
    /// Told when the process ends.
    ending: Rc<Notify>,
    /// What became of spans, by task; those of tasks that ended are in one.
    fates: Vec<Arc<Fate>>,
    before: (u64, u64),
}

impl Spans {
    /// Follows the settings. What was handed over before goes where it was to go.
    pub(super) fn follow(&mut self, wanted: Option<&Export>) {
        if self.settings.as_ref() == wanted {
            return;
        }
        self.settings = wanted.cloned();
        self.shared = None;
        // Only a task that has ended has let go of its counts.
        for fate in self.fates.extract_if(.., |fate| Arc::strong_count(fate) == 1) {
            let (told, lost) = fate.counts();
            self.before = (self.before.0 + told, self.before.1 + lost);
        }
        if let Some(wanted) = wanted {
            let (sink, received) = Sink::pair();
            let fate = sink.shared_fate();
            self.fates.push(Arc::clone(&fate));
            self.task =
                Some(tokio::task::spawn_local(tell(wanted.endpoint.clone(), received, fate, Rc::clone(&self.ending))));
            self.shared = Some(Arc::new(pool::Spans { sample: wanted.sample, sink }));
        }
    }

    /// What workers shall have.
    pub(super) fn shared(&self) -> Option<&Arc<pool::Spans>> {
        self.shared.as_ref()
    }

    /// Spans that were told, and that were lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.fates.iter().map(|fate| fate.counts()).fold(self.before, |sums, more| (sums.0 + more.0, sums.1 + more.1))
    }

    /// The process ends, and no worker hands anything over any more: tells what is left, if that is quick.
    pub(super) async fn finish(&mut self) {
        self.shared = None;
        self.ending.notify_one();
        if let Some(task) = self.task.take() {
            let _ = timeout(FAREWELL, task).await;
        }
    }
}

/// Tells what is handed over until nobody can hand anything over any more.
async fn tell(to: Endpoint, received: Receiver<Batch>, fate: Arc<Fate>, ending: Rc<Notify>) {
    let (mut failing, mut last) = (false, false);
    loop {
        let mut message = Message::default();
        let over = loop {
            match received.try_recv() {
                Ok(batch) => {
                    message.add(&batch);
                    if message.text.len() >= MOST {
                        break false;
                    }
                }
                Err(TryRecvError::Empty) => break last,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        let (spans, full) = (message.spans, message.text.len() >= MOST);
        if let Some(body) = message.close() {
            match send(&to, &body).await {
                Ok(()) => {
                    fate.pass(spans);
                    if std::mem::take(&mut failing) {
                        info!(to = to.host, "spans are taken again");
                    }
                }
                Err(error) => {
                    fate.lose(spans);
                    if !std::mem::replace(&mut failing, true) {
                        warn!(to = to.host, %error, "spans are lost; requests go on");
                    }
                }
            }
        }
        if over {
            return;
        }
        if !full {
            last = timeout(PAUSE, ending.notified()).await.is_ok();
        }
    }
}

async fn send(to: &Endpoint, body: &Bytes) -> Result<(), Unanswered> {
    let mut tries = 1;
    loop {
        let request = request(to, Method::POST, &to.path, body.clone())?;
        match ask(to, request).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_final() || tries == TRIES => return Err(error),
            Err(_) => sleep(PAUSE * tries).await,
        }
        tries += 1;
    }
}

/// An `ExportTraceServiceRequest` in the making.
#[derive(Default)]
struct Message {
    text: Vec<u8>,
    spans: u64,
}

impl Message {
    fn add(&mut self, batch: &Batch) {
        for line in batch.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.text.extend_from_slice(if self.text.is_empty() { HEAD.as_bytes() } else { b"," });
            self.text.extend_from_slice(line);
        }
        self.spans += batch.lines;
    }

    /// None if there is nothing in it.
    fn close(mut self) -> Option<Bytes> {
        if self.text.is_empty() {
            return None;
        }
        self.text.extend_from_slice(TAIL.as_bytes());
        Some(self.text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_json_however_many_batches_it_is_made_of() {
        assert!(Message::default().close().is_none());
        let mut message = Message::default();
        message.add(&Batch { bytes: b"{\"a\":1}\n{\"b\":2}\n".to_vec(), lines: 2 });
        message.add(&Batch { bytes: b"{\"c\":3}\n".to_vec(), lines: 1 });
        assert_eq!(message.spans, 3);
        let body = message.close().expect("a message");
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let spans = &json["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans.as_array().map(Vec::len), Some(3), "{json}");
    }
}
