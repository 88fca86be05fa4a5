//! From one version to the next, and what those who wait are told.

use std::sync::Arc;

use super::support::{Bench, Origin, Outcome, end_of, eventually, nobody, service, within};
use crate::api::{self, RefusalKind, Reply, Request};
use crate::model::NodeState;

#[test]
fn a_new_version_takes_over_and_wait_says_what_may_be_stopped() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address]), ("v2", &[b.address])];
        let bench = Bench::start(&service("shop", "v1", versions, ""))?;
        let first = bench.wait("shop").await?;
        assert_eq!(first.message, "shop: v1 serves on 1 node");
        assert!(*bench.ready.borrow());
        let old = bench.nodes("shop");
        bench.claim(&old[0])?;
        bench.write("sluice.toml", &service("shop", "v2", versions, ""))?;
        let progress = bench.follow("shop").await?;
        eventually("v2 serves", || {
            let nodes = bench.nodes("shop");
            (nodes.len() == 1 && nodes[0].id.version.as_str() == "v2").then_some(())
        })
        .await?;
        assert!(old[0].is_closed());
        eventually("the drain is told", || {
            let nodes = &progress.borrow().service.nodes;
            nodes.iter().any(|node| node.holders.len() == 1).then_some(())
        })
        .await?;
        let status = bench.service("shop").await?;
        assert_eq!(status.phase, "draining");
        let draining: Vec<_> = status.nodes.iter().filter(|node| node.state == NodeState::Draining).collect();
        assert_eq!((draining[0].in_flight, draining[0].holders.len()), (1, 1));
        assert!(progress.borrow().ended.is_none(), "its request is not over");
        bench.claimed.borrow_mut().clear();
        old[0].release(0);
        let ended = end_of(progress).await?;
        assert_eq!(ended.outcome, api::Outcome::Done);
        assert_eq!(ended.message, format!("shop: v2 serves on 1 node; the old nodes may be stopped: {}", a.address));
        let entry = ended.entry.ok_or("no entry")?;
        assert_eq!((entry.from, entry.to, entry.change), (Some("v1".into()), "v2".into(), 2));
        assert_eq!(bench.wait("shop").await?.message, ended.message, "it is remembered");
        match bench.port.ask(Request::History { service: "shop".into() }).await {
            Reply::History(entries) => {
                let changes: Vec<_> = entries.iter().map(|entry| entry.change).collect();
                assert_eq!(changes, [2, 1]);
            }
            other => return Err(format!("{other:?}").into()),
        }
        Ok(())
    })
}

#[test]
fn what_outlives_its_deadline_is_cut_and_listed() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address]), ("v2", &[b.address])];
        let drain = "drain = { requests = \"100ms\" }";
        let bench = Bench::start(&service("shop", "v1", versions, drain))?;
        bench.wait("shop").await?;
        bench.claim(&bench.nodes("shop")[0])?;
        bench.write("sluice.toml", &service("shop", "v2", versions, drain))?;
        let ended = bench.wait("shop").await?;
        assert_eq!(ended.outcome, api::Outcome::DoneWithCuts);
        assert!(ended.message.contains("1 piece of work cut when the drain deadline came"), "{}", ended.message);
        assert!(ended.message.contains("request GET /slow from 127.0.0.1:9"), "{}", ended.message);
        let cut = ended.entry.ok_or("no entry")?.cut;
        assert_eq!((cut.len(), cut[0].work.len()), (1, 1));
        Ok(())
    })
}

#[test]
fn a_version_that_is_never_healthy_is_refused_with_its_last_probe() -> Outcome {
    within(async {
        let (a, gone) = (Origin::start()?, nobody()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address]), ("v2", &[gone])];
        let deadline = "rollout = { deadline = \"300ms\" }";
        let bench = Bench::start(&service("shop", "v1", versions, deadline))?;
        bench.wait("shop").await?;
        bench.write("sluice.toml", &service("shop", "v2", versions, deadline))?;
        let ended = bench.wait("shop").await?;
        assert_eq!(ended.outcome, api::Outcome::Unhealthy);
        println!("{}", ended.message);
        assert!(ended.message.contains("v1 goes on serving"), "{}", ended.message);
        assert!(ended.message.contains(&format!("last probe: connect {gone}: ")), "{}", ended.message);
        assert!(ended.message.contains("\nNext: "), "{}", ended.message);
        let status = bench.service("shop").await?;
        assert_eq!((status.refused.len(), status.phase.as_str()), (1, "failed"));
        assert_eq!(bench.nodes("shop")[0].id.version.as_str(), "v1");
        Ok(())
    })
}

#[test]
fn a_newer_change_ends_the_wait_for_the_older_one() -> Outcome {
    within(async {
        let (a, gone) = (Origin::start()?, nobody()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address]), ("v2", &[gone])];
        let bench = Bench::start(&service("shop", "v1", versions, ""))?;
        bench.wait("shop").await?;
        bench.write("sluice.toml", &service("shop", "v2", versions, ""))?;
        let older = bench.follow("shop").await?;
        match bench.port.ask(Request::Wait { service: "shop".into(), version: Some("v1".into()) }).await {
            Reply::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::Superseded),
            other => return Err(format!("{other:?}").into()),
        }
        bench.write("sluice.toml", &service("shop", "v1", versions, ""))?;
        assert_eq!(bench.wait("shop").await?.outcome, api::Outcome::Done);
        assert_eq!(end_of(older).await?.outcome, api::Outcome::Superseded);
        assert_eq!(bench.service("shop").await?.change, 3);
        Ok(())
    })
}

#[test]
fn a_node_is_taken_out_by_hand_and_put_back() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address, b.address])];
        let bench = Bench::start(&service("shop", "v1", versions, ""))?;
        bench.wait("shop").await?;
        let first = bench.nodes("shop").into_iter().find(|node| node.literal == Some(a.address)).ok_or("no node")?;
        bench.claim(&first)?;
        let drain = |address: std::net::SocketAddr, undo| Request::Drain {
            service: "shop".into(),
            node: address.to_string().as_str().into(),
            undo,
        };
        let Reply::Progress(progress) = bench.port.ask(drain(a.address, false)).await else {
            return Err("refused".into());
        };
        assert!(first.is_closed());
        assert!(progress.borrow().ended.is_none());
        match bench.port.ask(drain(b.address, false)).await {
            Reply::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::Conflict),
            other => return Err(format!("the last one: {other:?}").into()),
        }
        bench.claimed.borrow_mut().clear();
        first.release(0);
        let ended = end_of(progress).await?;
        assert_eq!(ended.outcome, api::Outcome::Done);
        assert!(ended.message.contains("may be stopped"), "{}", ended.message);
        let Reply::Progress(progress) = bench.port.ask(drain(a.address, true)).await else {
            return Err("refused".into());
        };
        assert_eq!(end_of(progress).await?.outcome, api::Outcome::Done);
        eventually("it serves again", || (bench.nodes("shop").len() == 2).then_some(())).await?;
        assert!(!bench.nodes("shop").iter().any(|node| Arc::ptr_eq(node, &first)), "a closed gate never reopens");
        Ok(())
    })
}

#[test]
fn a_sick_node_leaves_and_comes_back_when_it_is_well() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address, b.address])];
        let bench = Bench::start(&service("shop", "v1", versions, ""))?;
        bench.wait("shop").await?;
        let address = a.address;
        drop(a);
        eventually("it is ejected", || (bench.nodes("shop").len() == 1).then_some(())).await?;
        let again = Origin::on(address)?;
        eventually("it is back", || (bench.nodes("shop").len() == 2).then_some(())).await?;
        let address = b.address;
        drop(b);
        eventually("the other is ejected", || (bench.nodes("shop").len() == 1).then_some(())).await?;
        drop(again);
        eventually("all are down and serve", || bench.view("shop").filter(|view| view.all_down)).await?;
        assert!(bench.service("shop").await?.all_down);
        let _b = Origin::on(address)?;
        eventually("not all are down", || bench.view("shop").filter(|view| !view.all_down)).await?;
        Ok(())
    })
}
