//! Which HTTP a client speaks that could not say so in a TLS handshake: HTTP/2 begins with a fixed text (RFC 9113 §3.4).

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until};

use super::{Front, Order};
use crate::net::Stream;

/// No method of HTTP/1 begins like this, so the rest of the text need not have come.
const START: &[u8] = b"PRI";
/// Between two looks at a start that came in part, which real clients do not send.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether the client speaks HTTP/2; `None` if the connection is over, or its first bytes take longer than `limit`.
pub async fn speaks_http2(front: &Front, stream: &Stream, limit: Duration) -> Option<bool> {
    let mut deadline = None;
    loop {
        let mut space = [MaybeUninit::uninit(); START.len()];
        let mut seen = ReadBuf::uninit(&mut space);
        poll_fn(|cx| {
            front.keep_waker(cx.waker());
            if front.order.get() == Some(Order::Kill) {
                return Poll::Ready(None);
            }
            match stream.poll_peek(cx, &mut seen) {
                Poll::Ready(result) => Poll::Ready(result.ok()),
                // Nothing has come that could be lost.
                Poll::Pending if front.order.get().is_some() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        let seen = seen.filled();
        if !START.starts_with(seen) || seen.is_empty() {
            return Some(false);
        }
        if seen == START {
            return Some(true);
        }
        let now = Instant::now();
        if now >= *deadline.get_or_insert(now + limit) {
            return None;
        }
        let mut pause = pin!(sleep_until(now + PAUSE));
        poll_fn(|cx| pause.as_mut().poll(cx)).await;
    }
}
