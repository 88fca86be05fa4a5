//! A followed change as lines of JSON: one for each change of what is followed, until one that has `ended`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::answer::{Body, Fault, typed};
use super::patient::STUCK;
use crate::api::Progress;

/// A blank line is sent after this long without another, so that both ends notice when the other one is gone.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Starts the stream. It ends with its reader: a dropped connection closes the channel.
pub(super) fn respond(progress: watch::Receiver<Progress>, place: OwnedSemaphorePermit) -> Response<Body> {
    let (sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        feed(progress, sender).await;
        drop(place);
    });
    typed(Response::new(body.boxed()), "application/x-ndjson")
}

async fn feed(mut progress: watch::Receiver<Progress>, mut sender: Sender<Bytes>) {
    loop {
        let (line, ended) = {
            let now = progress.borrow_and_update();
            (serde_json::to_vec(&*now), now.ended.is_some())
        };
        let line = match line {
            Ok(mut line) => {
                line.push(b'\n');
                Bytes::from(line)
            }
            Err(error) => Fault::unavailable(error.to_string()).json(),
        };
        if !send(&mut sender, line).await || ended {
            return;
        }
        loop {
            match timeout(KEEP_ALIVE, progress.changed()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => {
                    let end = Fault::unavailable(
                        "the proxy stopped before this ended; what it had decided is kept, look at `sluice status` when it runs again",
                    );
                    send(&mut sender, end.json()).await;
                    return;
                }
                Err(_) => {
                    if !send(&mut sender, Bytes::from_static(b"\n")).await {
                        return;
                    }
                }
            }
        }
    }
}

async fn send(sender: &mut Sender<Bytes>, line: Bytes) -> bool {
    matches!(timeout(STUCK, sender.send_data(line)).await, Ok(Ok(())))
}
