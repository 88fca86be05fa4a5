//! Where the demo meets the rest of Sluice: the proxy it starts, the file it edits, the admin API it asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::io::Io;
use crate::api::{Progress, Status};
use crate::app;
use crate::cli::{edit, file};

/// The proxy answers a question about its state within this.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Ends the proxy; returns when it has ended.
pub(super) type Stop = Box<dyn FnOnce() + Send>;

/// Starts a proxy with this configuration file.
pub(super) type Launch = fn(&Path) -> Result<Stop, String>;

/// Starts the real proxy in this process.
pub(super) fn start_proxy(config: &Path) -> Result<Stop, String> {
    // The admin socket and the state folder stand in the file.
    let options = app::Options { config: config.to_owned(), socket: None, state_dir: None };
    let running = app::start(&options).map_err(|error| error.to_string())?;
    Ok(Box::new(move || drop(running.stop())))
}

/// Makes `version` the release of `service`, with these nodes, in the file: as `sluice deploy` does.
pub(super) fn set_release(config: &Path, service: &str, version: &str, nodes: &[String]) -> Result<(), String> {
    let change = |text: &str| edit::set_release(text, service, Some(version), nodes);
    file::edit(config, file::TURN, change).map(drop).map_err(|error| error.to_string())
}

/// Writes a file the way a careful operator does: beside the old one, then in its place.
pub(super) fn replace_file(path: &Path, text: &str) -> Result<(), String> {
    let told = |error| format!("{}: {error}", path.display());
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).map_err(told)?;
    std::fs::rename(&beside, path).map_err(told)
}

/// The admin API over its socket.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) socket: PathBuf,
}

impl Admin {
    /// The state of everything.
    pub(super) async fn status(&self) -> Result<Status, String> {
        let ask = async {
            let response = self.ask("GET", "/v1/status").await?;
            let body = http_body_util::Limited::new(response.into_body(), ANSWER_LIMIT);
            let bytes = body.collect().await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&bytes.to_bytes()).map_err(|error| error.to_string())
        };
        timeout(ANSWER, ask).await.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))
    }

    /// Follows the change to `version` as `sluice wait` does; the last line that comes has `ended`. An error is a last
    /// line as well.
    pub(super) async fn wait(
        &self,
        service: &str,
        version: &str,
    ) -> Result<mpsc::Receiver<Result<Progress, String>>, String> {
        let path = format!("/v1/services/{service}/wait?version={version}");
        let response = timeout(ANSWER, self.ask("POST", &path))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))?;
        let (sender, lines) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut body = response.into_body();
            let mut text = Vec::new();
            let problem = loop {
                match body.frame().await {
                    None => break "the proxy ended its answer".to_owned(),
                    Some(Err(error)) => break error.to_string(),
                    Some(Ok(frame)) => {
                        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                    }
                }
                if text.len() > ANSWER_LIMIT {
                    break "an answer without an end".to_owned();
                }
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    // Blank lines only say that the connection lives.
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    let progress = serde_json::from_slice::<Progress>(&line);
                    let last = !matches!(&progress, Ok(progress) if progress.ended.is_none());
                    let progress = progress.map_err(|error| error.to_string());
                    if sender.send(progress).await.is_err() || last {
                        return;
                    }
                }
            };
            let _ = sender.send(Err(problem)).await;
        });
        Ok(lines)
    }

    async fn ask(&self, method: &str, path: &str) -> Result<Response<Incoming>, String> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| format!("{}: {error}", self.socket.display()))?;
        let (mut sender, connection) = http1::handshake(Io::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sluice")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        Err(format!("{status}: {}", text.trim()))
    }
}
