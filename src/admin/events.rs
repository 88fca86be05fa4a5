//! Events as a stream of server-sent events, which a browser's `EventSource` takes up again where it broke off.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::answer::{Body, Fault, typed};
use super::stream::KEEP_ALIVE;
use crate::api::{Event, EventKind, Feed};
use crate::model::ServiceName;

/// A reader that takes nothing for this long is dropped; it comes back and gets what it missed.
const STUCK: Duration = Duration::from_mins(1);

/// The last event that a browser saw, which it tells by itself when it comes back.
pub(super) fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .map(Some)
        .ok_or_else(|| Fault::bad_request("Last-Event-ID is not the number of an event"))
}

/// Starts the stream. It ends with its reader, or with the proxy.
pub(super) fn respond(feed: Feed, service: Option<ServiceName>) -> Response<Body> {
    let (sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(tell(feed, service, sender));
    typed(Response::new(body.boxed()), "text/event-stream")
}

async fn tell(feed: Feed, service: Option<ServiceName>, mut sender: Sender<Bytes>) {
    let Feed { past, mut live } = feed;
    let wanted = |event: &Event| match (&service, &event.service) {
        (Some(wanted), Some(service)) => wanted == service,
        _ => true,
    };
    // At once, so that the reader knows that it is connected.
    let mut text = String::from(": events\n\n");
    for event in past.iter().filter(|event| wanted(event)) {
        written(event, &mut text);
    }
    loop {
        if !text.is_empty() && !send(&mut sender, std::mem::take(&mut text)).await {
            return;
        }
        match timeout(KEEP_ALIVE, live.recv()).await {
            Ok(Ok(event)) => {
                if wanted(&event) {
                    written(&event, &mut text);
                }
            }
            // Behind by more than is kept for it: told as an event without a number, so that coming back asks from the last one seen.
            Ok(Err(RecvError::Lagged(_))) => {
                let _ = write!(text, "event: {}\ndata: {{\"kind\":\"gap\"}}\n\n", EventKind::Gap.as_str());
            }
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => text.push_str(":\n\n"),
        }
    }
}

fn written(event: &Event, text: &mut String) {
    // JSON holds no line end, so that it is one line of data.
    if let Ok(data) = serde_json::to_string(event) {
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.as_str());
    }
}

async fn send(sender: &mut Sender<Bytes>, text: String) -> bool {
    matches!(timeout(STUCK, sender.send_data(Bytes::from(text))).await, Ok(Ok(())))
}
