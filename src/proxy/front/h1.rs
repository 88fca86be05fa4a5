//! An HTTP/1 connection: its hyper server, and what becomes of it after an upgrade.
//!
//! Everything happens in the connection's own task: the handler, the response's body, the connection to the node.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::body::{ClientBody, RespBody};
use super::super::call::Registered;
use super::super::handler;
use super::super::worker::Worker;
use super::{Front, Order};
use crate::net::Stream;

/// How long a client may go on sending a request that has been answered.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Fields of a head that hyper has room for without an allocation.
const HEADERS: usize = 100;

enum End {
    /// hyper is done with it; after a 101 the tunnel's turn has come.
    Done,
    HeadTimeout,
    /// Broken, or dropped on order.
    Dropped,
}

async fn serve(
    worker: Rc<Worker>,
    front: Rc<Front>,
    request: Request<Incoming>,
) -> Result<Response<RespBody>, Infallible> {
    let call = Registered::new(&worker, &front, None, request.method().clone(), request.uri().clone());
    let mut response = handler::handle(worker, call, request.map(ClientBody::Http1)).await;
    if matches!(response.body(), RespBody::Tunnel(_))
        && let RespBody::Tunnel(tunnel) = std::mem::replace(response.body_mut(), RespBody::Empty)
    {
        *front.tunnel.borrow_mut() = Some(tunnel);
    }
    Ok(response)
}

/// Serves an HTTP/1 connection to its end.
pub async fn run(worker: Rc<Worker>, front: Rc<Front>, stream: Stream) {
    let limits = worker.view().edge().limits.clone();
    let service = service_fn({
        let (worker, front) = (Rc::clone(&worker), Rc::clone(&front));
        move |request| serve(Rc::clone(&worker), Rc::clone(&front), request)
    });
    let mut builder = http1::Builder::new();
    if limits.headers > HEADERS {
        // Costs an allocation for each head.
        builder.max_headers(limits.headers);
    }
    let mut connection = builder
        // The watchdog keeps these limits: hyper's one timer cannot tell a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(limits.head_size)
        .max_buf_size(limits.head_size.max(64 * 1024))
        .serve_connection(TokioIo::new(stream), service);
    let end = poll_fn(|cx| {
        front.keep_waker(cx.waker());
        match front.order.take() {
            Some(Order::Kill) => return Poll::Ready(End::Dropped),
            Some(Order::HeadTimeout) if !front.is_busy() => return Poll::Ready(End::HeadTimeout),
            Some(Order::Close) => Pin::new(&mut connection).graceful_shutdown(),
            Some(Order::HeadTimeout | Order::Ping) | None => {}
        }
        Pin::new(&mut connection).poll(cx).map(|result| match result {
            Ok(()) => End::Done,
            Err(error) => {
                tracing::debug!(client = %front.remote(), %error, "client connection broke");
                End::Dropped
            }
        })
    })
    .await;
    // Taken in any case: a tunnel that waits for a client that has gone would hold its node for ever.
    let tunnel = front.tunnel.borrow_mut().take();
    match end {
        End::Dropped => {}
        End::HeadTimeout => {
            let mut stream = connection.into_parts().io.into_inner();
            if front.pulse.is_blocked() {
                // A part of the last response is still in hyper's hands: whatever came now would be taken for the rest.
                return;
            }
            let answer = b"HTTP/1.1 408 Request Timeout\r\nx-sluice-error: head-timeout\r\n\
                content-length: 0\r\nconnection: close\r\n\r\n";
            let said = async {
                stream.write_all(answer).await?;
                // Over TLS, an end without a word would look like an attack.
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(Duration::from_secs(1), said).await;
        }
        End::Done => {
            if let Some(tunnel) = tunnel {
                let parts = connection.into_parts();
                tunnel.run(parts.io.into_inner(), parts.read_buf).await;
            } else if front.unread.get() {
                linger(&front, connection.into_parts().io.into_inner()).await;
            }
        }
    }
}

/// Reads and drops what a client still sends that has its answer and our end of the connection (RFC 9112 §9.6). To close
/// on unread bytes is to reset the connection, which can destroy the answer before the client reads it.
async fn linger(front: &Front, mut stream: Stream) {
    let mut space = vec![0; 16 * 1024];
    let mut rest = pin!(async { while stream.read(&mut space).await.is_ok_and(|read| read > 0) {} });
    let ended = poll_fn(|cx| {
        let killed = front.poll_killed(cx.waker());
        if killed.is_ready() { killed } else { rest.as_mut().poll(cx) }
    });
    let _ = tokio::time::timeout(LINGER_TIME, ended).await;
}
