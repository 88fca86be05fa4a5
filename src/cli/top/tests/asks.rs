//! What the proxy is asked, behind a real socket.

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::app::Question;
use super::super::deeds::Deed;
use super::super::poll::{Answer, Wish, act, look};
use super::*;
use crate::admin::fake::{Fake, refused};
use crate::api::{Halting, RefusalKind, Reply, Request, Steering};
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
        Request::Steer { .. } | Request::Halt { .. } => Reply::Service(Box::new(canary())),
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
fn what_came_of_a_deed_is_said_as_the_verb_says_it() {
    let (_folder, fake) = proxy(0);
    block_on(async {
        let (sender, mut answers) = mpsc::channel(4);
        for (deed, said) in [
            (Deed::Steer(Steering::Promote), "shop: v2 has 25% (step 2 of 3)"),
            (Deed::Steer(Steering::PromoteFull), "every further step without a hold"),
            (Deed::Steer(Steering::Abort), "what served before serves again"),
            (Deed::Hold, "new requests wait, for 30s at most"),
            (Deed::Release, "requests go on"),
            (Deed::Close, "answered 503, to come back after 1m"),
            (Deed::Open, "answered again"),
        ] {
            let question = Question { service: "shop".into(), deed, tag: String::new() };
            act(Client::new(fake.socket.clone()), question, sender.clone()).await;
            let Some(Answer::Done(result)) = answers.recv().await else { panic!("no answer") };
            assert!(result.as_ref().is_ok_and(|text| text.contains(said)), "{deed:?}: {result:?}");
        }
        let halts = fake.asked().into_iter().filter_map(|request| match request {
            Request::Halt { halting, .. } => Some(halting),
            _ => None,
        });
        let closed = Halting::MaintenanceOn { message: None, retry_after: 60 };
        let expected = [Halting::Hold { for_ms: 30_000 }, Halting::Release, closed, Halting::MaintenanceOff];
        assert_eq!(halts.collect::<Vec<_>>(), expected);
        let nobody = Client::new("/nowhere/s.sock".into());
        let question = Question { service: "shop".into(), deed: Deed::Hold, tag: String::new() };
        act(nobody, question, sender).await;
        assert!(matches!(answers.recv().await, Some(Answer::Done(Err(why))) if why.contains("cannot reach the proxy")));
    });
}
