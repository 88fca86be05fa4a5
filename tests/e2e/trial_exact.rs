//! Shares are met exactly, and a version without one is asked last.

use crate::support::client::Client;
use crate::support::control::refused;
use crate::support::node::TestNode;
use crate::support::trial::on_trial;

#[tokio::test]
async fn a_share_is_met_within_two_requests_of_any_three_hundred() {
    let (old, new) = (TestNode::answering("old").await, TestNode::answering("new").await);
    let proxy = on_trial(&[old.address], &[new.address], 500, "");
    let mut client = Client::connect(proxy.address).await;
    let mut answers = Vec::new();
    for _ in 0..900 {
        answers.push(client.get("/").await.text() == "new");
    }
    for window in answers.windows(300) {
        let hits = window.iter().filter(|new| **new).count();
        assert!(hits.abs_diff(15) <= 2, "{hits} of 300");
    }
}

#[tokio::test]
async fn a_version_without_a_share_is_asked_only_when_nothing_else_is_left() {
    let (old, new) = (TestNode::answering("old").await, TestNode::answering("new").await);
    let dead = refused();
    let proxy = on_trial(&[old.address, dead], &[new.address], 0, "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text(), "old");
    }
    assert!(new.requests().is_empty());
    let proxy = on_trial(&[dead], &[new.address], 0, "");
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.text(), "new", "better than no answer");
}
