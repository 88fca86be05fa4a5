//! A node dies under load: whatever may be replayed is, and nothing runs twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::sleep;

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{Proxy, app, until};

/// Answers after a moment, so that the death finds requests under way.
async fn working() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            sleep(Duration::from_millis(2)).await;
            peer.respond(200, request.line.split(' ').nth(1).expect("a target")).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_node_that_dies_fails_no_get_and_runs_no_post_twice() {
    for round in 0..10 {
        let (stays, dies) = (working().await, working().await);
        let proxy = Proxy::with(&app(&[stays.address, dies.address], ""));
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = tokio::task::JoinSet::new();
        for name in 0..16 {
            let (address, stop, sent) = (proxy.address, Arc::clone(&stop), Arc::clone(&sent));
            clients.spawn(async move {
                let mut client = Client::connect(address).await;
                let mut failed = Vec::new();
                for turn in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let path = format!("/{name}/{turn}");
                    if turn % 3 == 0 {
                        let response = client.post(&path, "body").await;
                        if response.status != 200 {
                            assert_eq!((response.status, response.header("x-sluice-error")), (502, Some("reset")));
                            failed.push(path);
                        }
                    } else {
                        let response = client.get(&path).await;
                        assert_eq!((response.status, response.text()), (200, path));
                    }
                    sent.fetch_add(1, SeqCst);
                }
                failed
            });
        }
        until("load", || sent.load(SeqCst) > 100).await;
        let seen = Arc::clone(&dies.seen);
        drop(dies);
        let before = sent.load(SeqCst);
        until("load on what is left", || sent.load(SeqCst) > before + 200 || clients.is_empty()).await;
        stop.store(true, SeqCst);
        let mut failed = Vec::new();
        while let Some(done) = clients.join_next().await {
            failed.extend(done.expect("no GET fails"));
        }
        let mut runs: HashMap<String, usize> = HashMap::new();
        for request in stays.requests().iter().chain(seen.lock().expect("no panic while locked").iter()) {
            if request.line.starts_with("POST") {
                *runs.entry(request.line.clone()).or_default() += 1;
            }
        }
        let twice: Vec<_> = runs.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "round {round}: {twice:?}");
        assert!(failed.len() <= 16, "round {round}: more POSTs failed than could be under way: {failed:?}");
    }
}
