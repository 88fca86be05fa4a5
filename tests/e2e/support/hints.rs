//! Nodes that say something before their answers, and clients that listen to it, whichever HTTP they speak.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Response;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::any::Http;
use super::client::Client;
use super::control::single;
use super::h2node::H2Node;
use super::http2::{Http2, answer, request};
use super::node::TestNode;
use super::{PATIENCE, Proxy};

/// What goes ahead of an answer: a status, and fields.
pub type Hint = (u16, Vec<(&'static str, String)>);

/// `103 Early Hints` with such a link.
pub fn early(value: impl Into<String>) -> Hint {
    (103, vec![("link", value.into())])
}

/// So many of them, numbered.
pub fn many(count: usize) -> Vec<Hint> {
    (0..count).map(|number| early(format!("</{number}>"))).collect()
}

/// A node.
pub enum Node {
    One(TestNode),
    Two(H2Node),
}

impl Node {
    /// Hints each request at once, and answers it when `gate` has a permit for that.
    pub async fn hinting(speaks: Http, hints: Vec<Hint>, gate: Arc<Semaphore>) -> Self {
        let hints = Arc::new(hints);
        match speaks {
            Http::One => Self::One(
                TestNode::start(move |mut peer| {
                    let (hints, gate) = (Arc::clone(&hints), Arc::clone(&gate));
                    async move {
                        while peer.request().await.is_some() {
                            peer.send(hints.iter().map(said).collect::<String>()).await;
                            gate.acquire().await.expect("a gate").forget();
                            peer.respond(200, "done").await;
                        }
                    }
                })
                .await,
            ),
            Http::Two => Self::Two(
                H2Node::start(move |mut exchange| {
                    let (hints, gate) = (Arc::clone(&hints), Arc::clone(&gate));
                    async move {
                        for (status, fields) in hints.iter() {
                            let mut hint = Response::builder().status(*status);
                            for (name, value) in fields {
                                hint = hint.header(*name, value);
                            }
                            let _ = exchange.answer.send_informational(hint.body(()).expect("a head"));
                        }
                        gate.acquire().await.expect("a gate").forget();
                        exchange.respond(200, "done");
                    }
                })
                .await,
            ),
        }
    }

    /// One worker before it.
    pub fn behind(&self, more: &str) -> Proxy {
        match self {
            Self::One(node) => single(&[node.address], more),
            Self::Two(node) => single(&[node.address], &format!("connections.protocol = \"h2c\"\n{more}")),
        }
    }
}

/// A head as HTTP/1 writes it.
pub fn said((status, fields): &Hint) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Hint\r\n{}\r\n", fields.concat())
}

/// A gate that is open.
pub fn open() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(100))
}

/// A client with a request under way.
pub enum Asker {
    One(Client),
    Two(Http2, Option<(ResponseFuture, SendStream<Bytes>)>),
}

/// What a client hears.
#[derive(Debug, PartialEq)]
pub struct Heard {
    pub status: u16,
    pub fields: Vec<(String, String)>,
}

impl Heard {
    pub fn link(&self) -> &str {
        self.fields.iter().find(|(name, _)| name == "link").map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

impl Asker {
    pub async fn connect(speaks: Http, address: SocketAddr) -> Self {
        match speaks {
            Http::One => Self::One(Client::connect(address).await),
            Http::Two => Self::Two(Http2::connect(address).await, None),
        }
    }

    /// Begins a GET.
    pub async fn ask(&mut self) {
        match self {
            Self::One(client) => client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await,
            Self::Two(client, under_way) => *under_way = Some(client.begin(request("GET", "/"), true).await),
        }
    }

    /// Begins a POST of four bytes and waits to be asked for them.
    pub async fn offer(&mut self) {
        match self {
            Self::One(client) => {
                let head = "POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
                client.send(head).await;
            }
            Self::Two(client, under_way) => {
                let mut head = request("POST", "/");
                for (name, value) in [("expect", "100-continue"), ("content-length", "4")] {
                    head.headers_mut().insert(name, http::HeaderValue::from_static(value));
                }
                *under_way = Some(client.begin(head, false).await);
            }
        }
    }

    /// Sends them.
    pub async fn give(&mut self) {
        match self {
            Self::One(client) => client.send("data").await,
            Self::Two(_, under_way) => {
                let (_, stream) = under_way.as_mut().expect("a request under way");
                stream.send_data(Bytes::from_static(b"data"), true).expect("an open stream");
            }
        }
    }

    /// The next head. None in HTTP/2 for that of the answer.
    async fn next(&mut self) -> Option<Heard> {
        match self {
            Self::One(client) => {
                let head = timeout(PATIENCE, client.head()).await.expect("a head in time").expect("a head");
                Some(Heard { status: head.status, fields: head.headers })
            }
            Self::Two(_, under_way) => {
                let (response, _) = under_way.as_mut().expect("a request under way");
                let hint = timeout(PATIENCE, poll_fn(|cx| response.poll_informational(cx))).await;
                let hint = hint.expect("a head in time")?.expect("a hint");
                let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
                let fields = hint.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
                Some(Heard { status: hint.status().as_u16(), fields: fields.collect() })
            }
        }
    }

    /// The next head, which is no answer's.
    pub async fn hint(&mut self) -> Heard {
        let hint = self.next().await.expect("a hint and not the answer");
        assert!(hint.status < 200, "{hint:?}");
        hint
    }

    /// All that is still said before the answer, and the answer.
    pub async fn rest(&mut self) -> (Vec<Heard>, u16, String) {
        let mut hints = Vec::new();
        loop {
            match self.next().await {
                Some(hint) if hint.status < 200 => hints.push(hint),
                Some(head) => {
                    let Self::One(client) = self else { unreachable!("HTTP/2 keeps it for below") };
                    let length = head.fields.iter().find(|(name, _)| name == "content-length");
                    let length = length.expect("a length").1.parse().expect("a number");
                    let body = timeout(PATIENCE, client.bytes(length)).await.expect("in time").expect("a body");
                    return (hints, head.status, String::from_utf8(body).expect("text"));
                }
                None => {
                    let Self::Two(_, under_way) = self else { unreachable!("HTTP/1 tells it all") };
                    let whole = answer(under_way.take().expect("a request under way").0).await;
                    return (hints, whole.status.as_u16(), whole.text());
                }
            }
        }
    }
}
