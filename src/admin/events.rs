//! Events as a stream of server-sent events, which a browser's `EventSource` takes up again where it broke off.

use std::convert::Infallible;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::answer::{Body, Fault, typed};
use super::patient::STUCK;
use super::stream::KEEP_ALIVE;
use crate::api::{Event, Feed};
use crate::model::ServiceName;

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
pub(super) fn respond(feed: Feed, service: Option<ServiceName>, place: OwnedSemaphorePermit) -> Response<Body> {
    let (sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        tell(feed, service, sender).await;
        drop(place);
    });
    typed(Response::new(body.boxed()), "text/event-stream")
}

async fn tell(feed: Feed, service: Option<ServiceName>, mut sender: Sender<Bytes>) {
    let Feed { past, mut live } = feed;
    let wanted = |event: &Event| match (&service, &event.service) {
        (Some(wanted), Some(service)) => wanted == service,
        _ => true,
    };
    // Told with the next event, whose number says where the gap ends.
    let mut lost = false;
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
                if std::mem::take(&mut lost) {
                    written(&Event::gap(event.id.saturating_sub(1), event.at), &mut text);
                }
                if wanted(&event) {
                    written(&event, &mut text);
                }
            }
            // Behind by more than is kept for it.
            Ok(Err(RecvError::Lagged(_))) => lost = true,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::EventKind;
    use crate::model::Timestamp;

    #[tokio::test]
    async fn a_reader_who_falls_behind_is_told_what_was_lost() {
        let (sender, live) = tokio::sync::broadcast::channel(4);
        let event = |id| {
            let kind = EventKind::Configured;
            let (at, message) = (Timestamp(1), "m".into());
            Arc::new(Event { id, at, kind, service: None, version: None, node: None, message })
        };
        let place = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut body = respond(Feed { past: vec![event(1)], live }, None, place).into_body();
        // Nothing is read meanwhile.
        for id in 2..=20 {
            sender.send(event(id)).unwrap();
        }
        drop(sender);
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            text += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
        }
        let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids, ["1", "16", "17", "18", "19", "20"]);
        assert!(text.contains("id: 16\nevent: gap\n"), "{text}");
    }
}
