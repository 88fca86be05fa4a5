//! Nodes that fail their users and not their probes, and nodes that are away for a moment: the whole proxy, from the request that
//! fails to the snapshot without the node.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sluicegate::model::NodeState;

use super::support::{LISTENER, Site, eventually, get};

/// A node whose probes always pass. While it is `broken`, it closes every other connection
/// without an answer.
struct Moody {
    address: SocketAddr,
    broken: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Moody {
    fn start(address: SocketAddr) -> Self {
        let socket = TcpListener::bind(address).expect("a port");
        let address = socket.local_addr().expect("an address");
        let (broken, asked, over) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let (is_broken, count, ends) = (Arc::clone(&broken), Arc::clone(&asked), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in socket.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let mut more = [0; 1024];
                    match stream.read(&mut more) {
                        Ok(read) if read > 0 => head.extend_from_slice(&more[..read]),
                        _ => break,
                    }
                }
                let probe = head.starts_with(b"GET /healthz");
                count.fetch_add(usize::from(!probe), Ordering::SeqCst);
                if probe || !is_broken.load(Ordering::SeqCst) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                }
            }
        });
        Self { address, broken, asked, over, thread: Some(thread) }
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // It waits for a connection.
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn service(nodes: &[&Moody], more: &str) -> String {
    let nodes: Vec<_> = nodes.iter().map(|node| format!("\"{}\"", node.address)).collect();
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = [{}]\n\
         health = {{ path = \"/healthz\", interval = \"50ms\", rise = 1 }}\n{more}\n",
        nodes.join(", ")
    )
}

#[test]
fn a_node_that_breaks_is_left_out_within_a_moment_and_comes_back_when_it_is_well() {
    let (good, bad) = (Moody::start(any()), Moody::start(any()));
    let site = Site::new(&service(&[&good, &bad], "eject = { failures = 3, time = \"2s\" }"));
    let proxy = site.start();
    proxy.settled("shop");
    eventually("both serve", || {
        let nodes = proxy.service("shop")?.nodes;
        nodes.iter().all(|node| node.state == NodeState::Serving).then_some(())
    });
    let address = proxy.address();
    bad.broken.store(true, Ordering::SeqCst);
    let out = || {
        let nodes = proxy.service("shop")?.nodes;
        nodes.into_iter().find(|node| node.state == NodeState::Ejected)
    };
    let out = eventually("it is left out", || {
        // Every one is answered: what the bad node drops is asked of the good one.
        assert_eq!(get(address, "shop.test", "/").expect("an answer").status, 200);
        out()
    });
    assert_eq!((out.address.as_str(), out.reason.as_str()), (&*bad.address.to_string(), "3 requests in a row failed"));
    assert!(out.probe.is_some_and(|probe| probe.passed));
    assert!(out.until.is_some_and(|until| until > out.since));
    let shown = String::from_utf8_lossy(&site.verb(&["status"]).stdout).into_owned();
    assert!(shown.contains("ejected") && shown.contains("; back in "), "{shown}");
    bad.broken.store(false, Ordering::SeqCst);
    let before = bad.asked.load(Ordering::SeqCst);
    eventually("it is asked again", || {
        assert_eq!(get(address, "shop.test", "/").expect("an answer").status, 200);
        (bad.asked.load(Ordering::SeqCst) > before + 3).then_some(())
    });
    let nodes = proxy.service("shop").expect("a service").nodes;
    assert!(nodes.iter().all(|node| node.state == NodeState::Serving), "{nodes:?}");
}

#[test]
fn requests_wait_while_the_only_node_is_restarted() {
    let node = Moody::start(any());
    let address = node.address;
    let site = Site::new(&service(&[&node], "hold = { wait = \"30s\", unreachable = true }"));
    let proxy = site.start();
    eventually("it serves", || (proxy.service("shop")?.nodes.first()?.state == NodeState::Serving).then_some(()));
    drop(node);
    let to = proxy.address();
    let clients: Vec<_> =
        (0..10).map(|_| std::thread::spawn(move || get(to, "shop.test", "/").expect("an answer").status)).collect();
    eventually("they wait", || (proxy.service("shop")?.waiting == 10).then_some(()));
    let shown = String::from_utf8_lossy(&site.verb(&["status"]).stdout).into_owned();
    assert!(shown.contains("requests that wait because no node is ready: 10"), "{shown}");
    let _back = Moody::start(address);
    for client in clients {
        assert_eq!(client.join().expect("a client"), 200);
    }
    let status = proxy.service("shop").expect("a service");
    assert_eq!((status.waiting, status.held, status.held_in_vain), (0, 10, 0));
}
