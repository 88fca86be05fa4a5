//! What the proxy is asked, behind a real socket.

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::app::Question;
use super::super::poll::{Answer, Wish, look, steer};
use super::*;
use crate::admin::fake::{Fake, refused};
use crate::api::{RefusalKind, Reply, Request, Steering};
use crate::cli::client::Client;

/// A proxy with so many services beside `shop`.
fn proxy(more: usize) -> (TempDir, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), move |request| match request {
        Request::Status { service: Some(name) } if name.as_str() != "shop" => refused(RefusalKind::NotFound, "no such"),
        Request::Status { service: Some(_) } => Reply::Status(Box::new(status(vec![canary()]))),
        Request::Status { service: None } => {
            let others = (0..more).map(|number| plain(&format!("a-{number:04}"), "settled"));
            Reply::Status(Box::new(status(others.chain([canary()]).collect())))
        }
        Request::History { .. } => Reply::History(vec![entry("v0", "v1", &[], Outcome::Done)]),
        Request::Steer { .. } => Reply::Service(Box::new(canary())),
        _ => refused(RefusalKind::Unavailable, "not asked for"),
    });
    (folder, fake)
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_mins(1), test).await.expect("in time") });
}

#[test]
fn with_many_services_the_one_that_is_open_is_asked_for_alone() {
    for (more, alone) in [(3, false), (500, true)] {
        let (_folder, fake) = proxy(more);
        block_on(async {
            let (wish, wished) = watch::channel(Wish::default());
            let (sender, mut answers) = mpsc::channel(4);
            tokio::spawn(look(Client::new(fake.socket.clone()), wished, sender));
            let first = answers.recv().await;
            assert!(matches!(&first, Some(Answer::Status(status, None)) if status.services.len() == more + 1));
            wish.send_modify(|wish| wish.open = Some("shop".into()));
            let second = answers.recv().await;
            let Some(Answer::Status(_, only)) = second else { panic!("{second:?}") };
            assert_eq!(only.is_some(), alone, "{more}");
            let third = answers.recv().await;
            assert!(matches!(&third, Some(Answer::History(name, list)) if name.as_str() == "shop" && list.len() == 1));
            // One that is gone: all are asked for, so that its page can say so.
            wish.send_modify(|wish| wish.open = Some("gone".into()));
            while !matches!(answers.recv().await, Some(Answer::Status(status, _)) if status.services.len() == more + 1)
            {
            }
        });
    }
}

#[test]
fn a_proxy_that_is_not_there_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (_wish, wished) = watch::channel(Wish::default());
        let (sender, mut answers) = mpsc::channel(4);
        tokio::spawn(look(Client::new(folder.path().join("sluice.sock")), wished, sender));
        let first = answers.recv().await;
        assert!(matches!(&first, Some(Answer::Failed(why)) if why.contains("is `sluice run` running?")), "{first:?}");
        let _fake = Fake::start(folder.path(), |_| Reply::Status(Box::new(status(Vec::new()))));
        while !matches!(answers.recv().await, Some(Answer::Status(..))) {}
    });
}

#[test]
fn what_came_of_steering_is_said_as_the_verb_says_it() {
    let (_folder, fake) = proxy(0);
    block_on(async {
        let (sender, mut answers) = mpsc::channel(4);
        for (steering, said) in [
            (Steering::Promote, "shop: v2 has 25% (step 2 of 3)"),
            (Steering::PromoteFull, "every further step without a hold"),
            (Steering::Abort, "what served before serves again"),
        ] {
            let question = Question { service: "shop".into(), steering, tag: String::new() };
            steer(Client::new(fake.socket.clone()), question, sender.clone()).await;
            let Some(Answer::Steered(result)) = answers.recv().await else { panic!("no answer") };
            assert!(result.as_ref().is_ok_and(|text| text.contains(said)), "{steering:?}: {result:?}");
        }
        let nobody = Client::new("/nowhere/s.sock".into());
        let question = Question { service: "shop".into(), steering: Steering::Abort, tag: String::new() };
        steer(nobody, question, sender).await;
        assert!(
            matches!(answers.recv().await, Some(Answer::Steered(Err(why))) if why.contains("cannot reach the proxy"))
        );
    });
}
