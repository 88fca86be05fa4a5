//! What one HTTP/1 connection says and hears: a request on its way out, and its response on its way in, at the same time.
//!
//! Nothing here is a task. Whoever polls moves both directions as far as they go.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request;
use http::{Method, Response, StatusCode};
use hyper::body::{Body, Frame};

use crate::config;
use crate::net::Stream;
use crate::net::http1::body::Decoder;
use crate::net::http1::request as outgoing;
use crate::net::http1::response::{self as incoming, Head};
use crate::net::http1::{Coding, Error, Inbox, Outbox};
use crate::proxy::body::ReqBody;
use crate::proxy::call::Call;
use crate::proxy::forwarded::Told;

/// Bytes of a response head. A node is ours, but a broken one must not fill the memory.
const HEAD_SIZE: usize = 128 * 1024;

/// Responses that may come before the one that counts. Some send one for each step of a long work.
const INTERIM: usize = 4096;

/// Bytes that are read at once, at most. Of an answer that its client does not take, two of these are held. Twice as much costs more
/// than it saves: a body that was read is copied out of a nearer cache.
const MOST_ROOM: usize = 128 * 1024;

/// One connection's two directions.
pub(super) struct Wire {
    pub(super) stream: Stream,
    inbox: Inbox,
    outbox: Outbox,
    sending: Sending,
    receiving: Receiving,
    /// Responses of this exchange that came before the one that counts.
    interims: usize,
    /// It can carry another exchange.
    keep_alive: bool,
}

enum Sending {
    /// All of the request is written, or on its way.
    Done,
    Body(ReqBody, Coding),
    /// The request can never be whole.
    Failed,
}

enum Receiving {
    /// Between two exchanges, or behind the whole of a response.
    Nothing,
    Body(Decoder),
    Failed,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbox: Inbox::new(MOST_ROOM),
            outbox: Outbox::default(),
            sending: Sending::Done,
            receiving: Receiving::Nothing,
            interims: 0,
            keep_alive: true,
        }
    }

    /// Begins an exchange. Nothing is written before it is polled.
    pub(super) fn begin(&mut self, head: &request::Parts, told: Option<&Told>, body: ReqBody) {
        let coding = (!body.is_end_stream()).then(|| outgoing::coding(head));
        outgoing::write_head(self.outbox.back(), head, told.map_or(&[], Told::lines), coding);
        // All of such a body is there, whatever its sender has yet to say of its end.
        let coding = coding.filter(|coding| *coding != Coding::Length(0));
        self.interims = 0;
        self.sending = coding.map_or(Sending::Done, |coding| Sending::Body(body, coding));
    }

    /// Whether the node has said nothing and not hung up, as far as the event loop knows. Nobody is woken by an earlier waker
    /// after this.
    pub(super) fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        self.inbox.is_empty() && self.inbox.poll_more(cx, &mut self.stream).is_pending()
    }

    /// Whether another exchange can begin on it.
    pub(super) fn is_idle(&self) -> bool {
        self.keep_alive
            && self.inbox.is_empty()
            && self.outbox.is_empty()
            && matches!((&self.sending, &self.receiving), (Sending::Done, Receiving::Nothing))
    }

    /// Gives back memory that an idle connection does not need.
    pub(super) fn rest(&mut self) {
        self.inbox.rest();
        self.outbox.rest();
    }

    /// Sends what can be sent, and reads on until the head of the response is there, in `response`. `silent`: nothing was, a moment
    /// ago.
    pub(super) fn poll_head<B>(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        (call, service): (&Call, &config::Service),
        silent: bool,
        response: &mut Response<B>,
    ) -> Poll<Result<Head, Error>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if silent {
                // Whoever polls is woken already when something comes.
                return Poll::Pending;
            }
            let came = !self.inbox.is_empty();
            let head = match came.then(|| incoming::read_head(&mut self.inbox, method, response)).transpose()?.flatten()
            {
                Some(head) => head,
                None if self.inbox.len() >= HEAD_SIZE => {
                    return Poll::Ready(Err(Error::HeadTooLarge));
                }
                None => match ready!(self.inbox.poll_read(cx, &mut self.stream))? {
                    0 => return Poll::Ready(Err(Error::Ended)),
                    _ => continue,
                },
            };
            let status = response.status();
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                self.interims += 1;
                if self.interims > INTERIM {
                    return Poll::Ready(Err(Error::Malformed("interim responses without end")));
                }
                if status == StatusCode::CONTINUE {
                    call.release_body();
                }
                call.hint(status, response.headers(), service);
                continue;
            }
            self.keep_alive = head.keep_alive;
            return Poll::Ready(Ok(head));
        }
    }

    /// The body of the response whose head has come.
    pub(super) fn receive(&mut self, body: Option<Decoder>) {
        self.receiving = body.map_or(Receiving::Nothing, Receiving::Body);
    }

    /// Whether all of the response came.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.receiving, Receiving::Body(_))
    }

    /// The bytes of the body that are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.receiving {
            Receiving::Nothing => Some(0),
            Receiving::Body(body) => body.left(),
            Receiving::Failed => None,
        }
    }

    /// The next piece of the response's body, or its trailers. What is left of the request goes on its way too.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // A node that wants no more of the request has answered it all the same.
        let _ = self.poll_send(cx);
        let Receiving::Body(body) = &mut self.receiving else { return Poll::Ready(None) };
        let frame = ready!(body.poll_frame(cx, &mut self.inbox, &mut self.stream));
        if matches!(frame, Some(Err(_))) {
            self.receiving = Receiving::Failed;
        } else if body.has_ended() {
            self.receiving = Receiving::Nothing;
        }
        Poll::Ready(frame)
    }

    /// Writes what can be written. `Ready` when that was all of the request, or nothing more can be.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Sending::Body(body, coding) = &mut self.sending {
                match self.outbox.poll_fill(cx, body, coding) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => self.sending = Sending::Done,
                    Poll::Ready(Err(_)) => {
                        self.sending = Sending::Failed;
                        return Poll::Ready(Err(Error::Body));
                    }
                }
            }
            let written = !self.outbox.is_empty();
            ready!(self.outbox.poll_write(cx, &mut self.stream))?;
            match self.sending {
                // There may be more of the body, now that there is room.
                Sending::Body(..) if written => {}
                Sending::Body(..) => return Poll::Pending,
                Sending::Done | Sending::Failed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// The bare stream, and what was read of it beyond the head.
    pub(super) fn into_stream(self) -> (Stream, Bytes) {
        (self.stream, self.inbox.into_bytes())
    }
}
