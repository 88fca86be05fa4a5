//! What HTTP/2 asks of a server, frame by frame (RFC 9113, RFC 7541), at a connection's end: every case has one of its own, and
//! says by what it must be answered.

mod compression;
mod connection;
mod messages;
mod pieces;
mod random;
mod streams;
mod uploads;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::control::single;
use crate::support::frames::{PING, PROTOCOL_ERROR};
use crate::support::http2::{frame, get};
use crate::support::node::TestNode;
use crate::support::strict::{Heard, Strict};
use crate::support::tls::{self, Authority, TlsClient, listener};
use crate::support::{PATIENCE, Proxy, app};

/// What has to come of it.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// GOAWAY with one of these codes, and the end of the connection.
    Goodbye(&'static [u32]),
    /// The stream is reset with one of these codes, and the connection serves on. A server may always end the connection instead
    /// (§5.4.1), with the same code.
    Reset(u32, &'static [u32]),
    /// The request on this stream is malformed: 400, or a reset (§8.1.1), and no node sees it.
    Malformed(u32),
    /// The request on this stream is answered with this status, and the connection serves on.
    Answer(u32, u16),
    /// Nothing, and the connection serves on.
    Nothing,
    /// Nothing, or an error of one of these codes: the standard leaves it open. No node sees it.
    Whatever(u32, &'static [u32]),
}

use Want::{Answer, Goodbye, Malformed, Nothing, Reset, Whatever};

/// One thing that a client does on a fresh connection.
struct Case {
    /// The section, and what is done.
    what: String,
    sends: Vec<u8>,
    want: Want,
}

fn case(what: &str, sends: impl Into<Vec<u8>>, want: Want) -> Case {
    Case { what: what.to_owned(), sends: sends.into(), want }
}

/// `/fine` and `/next` are answered at once, `/echo` with its body, `/slow` never. Nothing else may come to a node.
async fn node() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            match request.line.split(' ').nth(1) {
                Some("/fine" | "/next" | "*") => peer.respond(200, "fine").await,
                Some("/slow") => return peer.closed().await,
                Some("/echo") => peer.respond(200, &String::from_utf8_lossy(&request.body)).await,
                _ => panic!("this came through: {}", request.line),
            }
        }
    })
    .await
}

/// A proxy that speaks TLS, and a client that speaks HTTP/2 in it.
struct Secure {
    proxy: Proxy,
    client: Arc<ClientConfig>,
    /// Its folder holds the proxy's certificate.
    _authority: Authority,
}

impl Secure {
    fn new(node: &TestNode, more: &str) -> Self {
        let mut authority = Authority::new();
        let files = authority.issue("app", &["app.test"]);
        let proxy = Proxy::listening(&app(&[node.address], more), &listener(&[&files], ""), 1);
        let mut client = authority.client();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Self { proxy, client: Arc::new(client), _authority: authority }
    }

    /// A connection on which nothing was said but the handshake.
    async fn silent(&self) -> Strict<TlsClient> {
        Strict::over(tls::connect(&self.client, self.proxy.address, "app.test").await.expect("a handshake"))
    }
}

/// The stream of the request that shows whether a connection goes on.
const NEXT: u32 = 9_001;

/// Tries every case, in the clear and over TLS, all at once, and panics with the list of those that came out differently.
async fn check(node: &TestNode, cases: Vec<Case>) {
    let (clear, secure) = (single(&[node.address], ""), Secure::new(node, ""));
    let in_clear = join_all(cases.iter().map(async |case| {
        let client = Strict::connect(clear.address, &[]).await;
        try_one(client, case).await
    }));
    let over_tls = join_all(cases.iter().map(async |case| {
        let client = secure.silent().await.greeted(&[]).await;
        try_one(client, case).await
    }));
    let (in_clear, over_tls) = join(in_clear, over_tls).await;
    let mut failures = Vec::new();
    for (how, outcomes) in [("in the clear", in_clear), ("over TLS", over_tls)] {
        for (case, (came, fine)) in cases.iter().zip(outcomes) {
            // The table of what was seen: `--nocapture`.
            println!("{} {}, {how}: {came}", if fine { "ok    " } else { "FAILED" }, case.what);
            if !fine {
                failures.push(format!("{}, {how}: wanted {:?}, and what came was {came}", case.what, case.want));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // It was asked for nothing but what is fine.
    node.requests();
}

/// What came of a case, and whether that is fine.
async fn try_one<S: AsyncRead + AsyncWrite + Unpin>(mut client: Strict<S>, case: &Case) -> (String, bool) {
    client.send(&case.sends).await;
    let came = match case.want {
        Goodbye(_) => {
            // Whoever does not mind answers a PING meanwhile; asked at once, it might cost us the GOAWAY.
            if !client.run_for(Duration::from_secs(1), |client| client.is_over).await {
                client.send(frame(PING, 0, 0, &[1; 8])).await;
            }
            client.run_for(PATIENCE, |client| client.is_over || !client.pongs.is_empty()).await;
            Outcome::Open
        }
        Nothing => Outcome::Open,
        Reset(id, _) | Malformed(id) | Answer(id, _) => {
            client.run_for(PATIENCE / 4, |client| client.ended(id) || client.goodbye.is_some()).await;
            Outcome::of(&client.heard(id))
        }
        Whatever(id, _) => {
            client.send(frame(PING, 0, 0, &[1; 8])).await;
            client.run_for(PATIENCE, |client| client.is_over || !client.pongs.is_empty()).await;
            Outcome::of(&client.heard(id))
        }
    };
    let serves = !matches!(case.want, Goodbye(_)) && serves_on(&mut client).await;
    if !serves && client.goodbye.is_some() {
        client.run_for(PATIENCE, |client| client.is_over).await;
    }
    let code = client.goodbye.filter(|_| client.is_over).map(|(_, code)| code);
    let fine = match (case.want, code) {
        (Goodbye(codes) | Reset(_, codes) | Whatever(_, codes), Some(code)) => codes.contains(&code),
        (Malformed(_), Some(code)) => code == PROTOCOL_ERROR,
        (Goodbye(_), None) | (Answer(..) | Nothing, Some(_)) => false,
        (_, None) if !serves => false,
        (Nothing, None) => true,
        (Reset(_, codes), None) => matches!(came, Outcome::Reset(code) if codes.contains(&code)),
        (Whatever(_, codes), None) => !matches!(came, Outcome::Reset(code) if !codes.contains(&code)),
        // No CONNECT is served, well formed or not.
        (Malformed(_), None) => matches!(came, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Status(400 | 405)),
        (Answer(_, status), None) => matches!(came, Outcome::Status(seen) if seen == status),
    };
    let end = match client.goodbye {
        Some((_, code)) if client.is_over => format!("GOAWAY {code}"),
        Some((_, code)) => format!("GOAWAY {code} and no end"),
        None if client.is_over => "the end without a word".into(),
        None if serves => "served on".into(),
        None => "ignored".into(),
    };
    (format!("{came}{end}"), fine)
}

/// Whether a connection answers one more request.
async fn serves_on<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Strict<S>) -> bool {
    if client.goodbye.is_none() && !client.is_over {
        client.send(get(NEXT, "/next")).await;
        client.run_for(PATIENCE, |client| client.ended(NEXT) || client.goodbye.is_some()).await;
    }
    client.heard(NEXT).text() == "fine"
}

/// What became of a stream.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Status(u16),
    Reset(u32),
    Open,
}

impl Outcome {
    fn of(heard: &Heard) -> Self {
        match heard.reset {
            // An answer that is whole counts, whatever comes behind it.
            Some(code) if !heard.ended => Self::Reset(code),
            _ if heard.ended => Self::Status(heard.status()),
            _ => Self::Open,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}, "),
            Self::Reset(code) => write!(f, "RST_STREAM {code}, "),
            Self::Open => Ok(()),
        }
    }
}
