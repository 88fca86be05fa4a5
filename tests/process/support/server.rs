//! A small server on a thread: somebody outside that the proxy asks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Answers every request with what it was told last, and remembers the requests.
pub struct Server {
    pub address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let answer = Arc::new(Mutex::new((200, answer.to_owned())));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (says, hears) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
                while !whole(&bytes) {
                    match stream.read(&mut buffer) {
                        Ok(got) if got > 0 => bytes.extend_from_slice(&buffer[..got]),
                        _ => break,
                    }
                }
                hears.lock().expect("a lock").push(String::from_utf8_lossy(&bytes).into_owned());
                let (status, body) = says.lock().expect("a lock").clone();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { address, answer, asked }
    }

    pub fn says(&self, status: u16, answer: &str) {
        *self.answer.lock().expect("a lock") = (status, answer.to_owned());
    }

    pub fn asked(&self) -> String {
        self.asked.lock().expect("a lock").last().cloned().unwrap_or_default()
    }

    /// All requests, as they came.
    pub fn requests(&self) -> Vec<String> {
        self.asked.lock().expect("a lock").clone()
    }

    /// The bodies of all requests.
    pub fn told(&self) -> Vec<Value> {
        let asked = self.asked.lock().expect("a lock");
        let body = |request: &String| serde_json::from_str(request.split_once("\r\n\r\n")?.1).ok();
        asked.iter().filter_map(body).collect()
    }
}

/// Whether a request is there with its body.
fn whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}
