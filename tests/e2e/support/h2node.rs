//! Nodes that speak HTTP/2 without TLS: each request is given to a script together with the means to answer frame by frame.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A node of a test. Dropped, it stops accepting and drops its connections.
pub struct H2Node {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<Request<()>>>>,
    /// Counted up to have every connection say goodbye.
    goodbye: watch::Sender<usize>,
    task: JoinHandle<()>,
}

/// One request at a node.
pub struct Exchange {
    pub head: Request<()>,
    pub body: RecvStream,
    pub answer: SendResponse<Bytes>,
    /// Which connection of the node it came on, from 0.
    pub connection: usize,
}

impl H2Node {
    /// Runs `script` for each request.
    pub async fn start<F>(script: impl Fn(Exchange) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(Builder::new(), script).await
    }

    /// The same with these settings.
    pub async fn with<F>(settings: Builder, script: impl Fn(Exchange) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (connections, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (goodbye, _) = watch::channel(0);
        let (count, seen, told) = (Arc::clone(&connections), Arc::clone(&heads), goodbye.clone());
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let run =
                    connection(stream, number, settings.clone(), script.clone(), Arc::clone(&seen), told.subscribe());
                tasks.spawn(run);
            }
        });
        Self { address, connections, heads, goodbye, task }
    }

    /// Answers every request with 200 and this body.
    pub async fn answering(body: &'static str) -> Self {
        Self::start(move |mut exchange| async move { exchange.respond(200, body) }).await
    }

    /// Answers with the body of the request and its trailers, piece by piece.
    pub async fn echoing() -> Self {
        Self::start(|mut exchange| async move {
            let mut out = exchange.begin(200);
            while let Some(Ok(data)) = exchange.body.data().await {
                let _ = exchange.body.flow_control().release_capacity(data.len());
                if write(&mut out, data).await.is_err() {
                    return;
                }
            }
            match exchange.body.trailers().await {
                Ok(Some(trailers)) => drop(out.send_trailers(trailers)),
                _ => drop(out.send_data(Bytes::new(), true)),
            }
        })
        .await
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads that arrived so far.
    pub fn heads(&self) -> Vec<Request<()>> {
        self.heads.lock().expect("no panic while locked").clone()
    }

    /// Has every connection end as HTTP/2 asks for: GOAWAY, and the streams finish.
    pub fn say_goodbye(&self) {
        self.goodbye.send_modify(|count| *count += 1);
    }
}

impl Drop for H2Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection<F>(
    stream: TcpStream,
    number: usize,
    settings: Builder,
    script: impl Fn(Exchange) -> F,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    mut goodbye: watch::Receiver<usize>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let mut scripts = tokio::task::JoinSet::new();
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, answer))) = accepted else { return };
                let (parts, body) = request.into_parts();
                let head = Request::from_parts(parts, ());
                seen.lock().expect("no panic while locked").push(head.clone());
                scripts.spawn(script(Exchange { head, body, answer, connection: number }));
            }
            Ok(()) = goodbye.changed() => connection.graceful_shutdown(),
            Some(_) = scripts.join_next() => {}
        }
    }
}

/// Sends a piece when the proxy has room for it.
pub async fn write(out: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        out.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await.ok_or(Reason::CANCEL)??;
        let piece = data.split_to(room.min(data.len()));
        out.send_data(piece, false)?;
    }
    Ok(())
}

impl Exchange {
    /// The path that was asked for.
    pub fn path(&self) -> &str {
        self.head.uri().path()
    }

    /// Sends the head of a response with a body.
    pub fn begin(&mut self, status: u16) -> SendStream<Bytes> {
        let head = Response::builder().status(status).body(()).expect("a head");
        self.answer.send_response(head, false).expect("a stream")
    }

    /// A small response.
    pub fn respond(&mut self, status: u16, body: &'static str) {
        // The proxy may have gone; the test sees that on its own side.
        let head = Response::builder().status(status).body(()).expect("a head");
        if let Ok(mut out) = self.answer.send_response(head, body.is_empty())
            && !body.is_empty()
        {
            let _ = out.send_data(Bytes::from_static(body.as_bytes()), true);
        }
    }

    /// Reads all of the body, and the trailers.
    pub async fn whole(&mut self) -> Option<(Vec<u8>, Option<HeaderMap>)> {
        let mut all = Vec::new();
        while let Some(data) = self.body.data().await {
            let data = data.ok()?;
            let _ = self.body.flow_control().release_capacity(data.len());
            all.extend(&data);
        }
        Some((all, self.body.trailers().await.ok()?))
    }
}
