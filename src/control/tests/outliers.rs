//! Weights, slow start, and nodes that fail: as the workers see it and as status tells it.

use std::sync::Arc;
use std::time::Duration;

use super::support::{Bench, Failure, Origin, Outcome, eventually, plain, within};
use crate::model::NodeState;
use crate::pool::{Node, ServiceView, Turn};

/// How often each node is chosen in a thousand.
fn chosen(view: &ServiceView) -> Vec<(String, usize)> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = std::collections::BTreeMap::new();
    for turn in 0..1000 {
        let how = Turn::new(turn, random.u64(..), None);
        let node = view.choose(how, |_| turn, |_| 0, |_| false, |_| false);
        *counts.entry(node.map(|node| node.id.address.to_string()).unwrap_or_default()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

fn part(view: &ServiceView, node: &Origin) -> usize {
    chosen(view).iter().find(|(address, _)| *address == node.address.to_string()).map_or(0, |(_, count)| *count)
}

async fn serving(bench: &Bench, count: usize) -> Result<Vec<Arc<Node>>, Failure> {
    eventually("the nodes serve", || Some(bench.nodes("shop")).filter(|nodes| nodes.len() == count)).await
}

/// Waits until every node serves in full.
async fn warm(bench: &Bench) -> Outcome {
    while bench.service("shop").await?.nodes.iter().any(|node| node.state != NodeState::Serving) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[test]
fn a_weight_counts_at_once_also_between_versions_and_for_a_node_that_leaves() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let file = |weight: u32| {
            format!(
                "[service.shop]\nmatch = \"shop.test\"\n{}nodes = [\"{}\", {{ address = \"{}\", weight = {weight} }}]\n",
                super::support::QUICK,
                a.address,
                b.address
            )
        };
        let bench = Bench::start(&file(3))?;
        serving(&bench, 2).await?;
        let share = |bench: &Bench| bench.view("shop").map_or(0, |view| part(&view, &b));
        assert!((700..800).contains(&share(&bench)), "{}", share(&bench));
        bench.edit(&file(9)).await?;
        assert!((860..940).contains(&share(&bench)), "{}", share(&bench));
        let status = bench.service("shop").await?;
        assert_eq!(status.nodes.iter().map(|node| node.weight).collect::<Vec<_>>(), [1, 9]);
        assert_eq!(status.change, 1, "a weight is a setting, and no change to wait for");

        // Three of four parts go to v1 while both versions serve: its node has three times the weight.
        let c = Origin::start()?;
        let file = |release: &str| {
            format!(
                "[service.mix]\nmatch = \"mix.test\"\nrelease = \"{release}\"\nrollout.strategy = \"rolling\"\n{}\
                 balance.slow_start = \"1h\"\n[service.mix.versions]\nv1 = [{{ address = \"{}\", weight = 3 }}]\nv2 = [\"{}\"]\n",
                super::support::QUICK,
                a.address,
                c.address
            )
        };
        bench.edit(&file("v1")).await?;
        eventually("v1 serves", || bench.view("mix").filter(|view| !view.slices.is_empty())).await?;
        bench.edit(&file("v2")).await?;
        let view = eventually("both serve", || bench.view("mix").filter(|view| view.slices.len() == 2)).await?;
        assert_eq!((view.slices[0].version.as_str(), view.slices[0].share.0), ("v1", 7500));
        let status = bench.service("mix").await?;
        assert_eq!(status.versions.iter().map(|version| version.share).collect::<Vec<_>>(), [75.0, 25.0]);
        Ok(())
    })
}

#[test]
fn a_joining_node_warms_up_and_its_part_grows() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let slow = |time: &str| format!("balance.slow_start = \"{time}\"");
        let bench = Bench::start(&plain("shop", &[a.address], &slow("2s")))?;
        serving(&bench, 1).await?;
        warm(&bench).await?;
        let generation = || bench.pool.generation();
        bench.edit(&plain("shop", &[a.address, b.address], &slow("2s"))).await?;
        serving(&bench, 2).await?;
        let status = bench.service("shop").await?;
        let node = status.nodes.iter().find(|node| node.address.as_str() == b.address.to_string()).ok_or("no node")?;
        assert_eq!(node.state, NodeState::Warming);
        assert!(node.until.is_some_and(|until| until > node.since), "{node:?}");
        let mut last = 0;
        let mut grown = 0;
        eventually("it is warm", || {
            let now = bench.view("shop").map_or(0, |view| part(&view, &b));
            grown += usize::from(now > last);
            last = last.max(now);
            (460..540).contains(&now).then_some(())
        })
        .await?;
        assert!(grown >= 4, "it grew in {grown} steps");
        warm(&bench).await?;
        // One last publication with full weights, and then silence.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = generation();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(generation(), before, "nothing warms up, so nothing is published");
        Ok(())
    })
}

#[test]
fn a_node_that_a_worker_reports_is_out_at_once_and_comes_back() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let bench = Bench::start(&plain("shop", &[a.address, b.address], "eject.time = \"500ms\""))?;
        let nodes = serving(&bench, 2).await?;
        bench.suspects.try_send(Arc::clone(&nodes[0]))?;
        let left = serving(&bench, 1).await?;
        assert_eq!(left[0].key, nodes[1].key);
        assert!(!nodes[0].is_closed(), "its gate has nothing to do with it");
        let status = bench.service("shop").await?;
        let out = status.nodes.iter().find(|node| node.state == NodeState::Ejected).ok_or("nobody is out")?;
        assert_eq!((out.reason.as_str(), out.until.is_some()), ("5 requests in a row failed", true));
        bench.suspects.try_send(Arc::clone(&nodes[1]))?;
        let back = serving(&bench, 2).await?;
        assert_eq!(
            back.iter().map(|node| node.key).collect::<Vec<_>>(),
            nodes.iter().map(|node| node.key).collect::<Vec<_>>()
        );
        Ok(())
    })
}

#[test]
fn a_node_that_fails_more_than_the_others_is_found_by_its_counters() -> Outcome {
    within(async {
        let origins = [Origin::start()?, Origin::start()?, Origin::start()?];
        let addresses = origins.each_ref().map(|origin| origin.address);
        let settings = "eject = { failures = 0, window = \"100ms\", volume = 50, time = \"1h\", max_time = \"1h\" }";
        let bench = Bench::start(&plain("shop", &addresses, settings))?;
        let nodes = serving(&bench, 3).await?;
        // Half of everything fails: that is the service.
        let work = |bad: usize| {
            for (index, node) in nodes.iter().enumerate() {
                for number in 0..100 {
                    let stats = node.stats(0);
                    if number % 2 == 0 || index == bad { stats.blamed.add_one() } else { stats.successes.add_one() }
                }
            }
        };
        work(usize::MAX);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(bench.nodes("shop").len(), 3);
        work(1);
        let left = serving(&bench, 2).await?;
        assert!(left.iter().all(|node| node.key != nodes[1].key));
        let status = bench.service("shop").await?;
        let reason = status.nodes.iter().find(|node| node.state == NodeState::Ejected).map(|node| node.reason.clone());
        assert_eq!(reason.as_deref(), Some("100% of its requests failed in 100ms, 50% of the others'"));
        // An edit of something else keeps it out.
        bench.edit(&plain("shop", &addresses, &format!("{settings}\nretry.attempts = 2"))).await?;
        assert_eq!(bench.nodes("shop").len(), 2);
        Ok(())
    })
}

#[test]
fn status_tells_who_waits() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&plain("shop", &[a.address], ""))?;
        serving(&bench, 1).await?;
        let view = bench.view("shop").ok_or("no view")?;
        let place = view.hold.enter(10).ok_or("no place")?;
        assert_eq!(bench.service("shop").await?.waiting, 1);
        bench.edit(&plain("shop", &[a.address], "retry.attempts = 2")).await?;
        let after = bench.view("shop").ok_or("no view")?;
        assert!(Arc::ptr_eq(&view.hold, &after.hold), "an edit keeps who waits");
        drop(place);
        let status = bench.service("shop").await?;
        assert_eq!((status.waiting, status.held), (0, 1));
        Ok(())
    })
}
