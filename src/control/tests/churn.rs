//! Edit after edit, one in three invalid: level-triggered means that only the last valid one counts.

use std::net::SocketAddr;
use std::time::Duration;

use super::support::{Bench, Failure, Origin, Outcome, eventually, plain, service, within};

const EDITS: usize = 150;

fn some(random: &mut fastrand::Rng, origins: &[Origin]) -> Vec<SocketAddr> {
    let mut nodes: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    random.shuffle(&mut nodes);
    nodes.truncate(random.usize(1..=nodes.len()));
    nodes
}

/// CHURN_SEED replays a run.
#[test]
fn after_many_edits_the_last_valid_one_serves_and_no_service_was_ever_without_a_node() -> Outcome {
    within(async {
        let seed = std::env::var("CHURN_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("CHURN_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let origins = (0..4).map(|_| Origin::start()).collect::<Result<Vec<_>, _>>()?;
        let bench = Bench::start(&plain("shop", &some(&mut random, &origins), ""))?;
        bench.wait("shop").await?;
        bench.dark.borrow_mut().clear();
        let mut last = None;
        for _ in 0..EDITS {
            let (v1, v2) = (some(&mut random, &origins), some(&mut random, &origins));
            let (release, nodes) = if random.bool() { ("v1", &v1) } else { ("v2", &v2) };
            let versions: &[(&str, &[_])] = &[("v1", &v1), ("v2", &v2)];
            let strategy = ["rolling", "blue-green"][random.usize(..2)];
            let text = service(
                "shop",
                release,
                versions,
                &format!("rollout = {{ strategy = \"{strategy}\", keep = \"0s\" }}"),
            );
            if random.usize(..3) == 0 {
                bench.write("sluice.toml", &text.replace("release", "releese"))?;
            } else {
                bench.write("sluice.toml", &text)?;
                last = Some((release, nodes.clone(), text));
            }
            match random.usize(..4) {
                0 => bench.reload().await?,
                1 => tokio::time::sleep(Duration::from_millis(random.u64(..120))).await,
                _ => tokio::task::yield_now().await,
            }
        }
        let (release, mut nodes, text) = last.ok_or("no valid edit")?;
        // An invalid one may be the last; then this one may never have been read, and is now.
        bench.edit(&text).await?;
        let ended = bench.wait("shop").await?;
        assert_eq!(ended.outcome.exit_code(), 0, "{}", ended.message);
        let mut serving: Vec<_> = bench.nodes("shop").iter().filter_map(|node| node.literal).collect();
        serving.sort_unstable();
        nodes.sort_unstable();
        assert_eq!(serving, nodes);
        assert!(bench.nodes("shop").iter().all(|node| node.id.version.as_str() == release));
        assert!(bench.dark.borrow().is_empty(), "a moment without a node");
        let told = bench.told.borrow().clone();
        assert_eq!(told, ["listen 1"], "a closed node was published");
        eventually("old nodes are forgotten", || {
            let status = bench.pool.snapshot();
            status.services[0].slices.iter().all(|slice| slice.nodes.iter().all(|node| !node.is_closed())).then_some(())
        })
        .await?;
        assert_eq!(bench.service("shop").await?.nodes.len(), nodes.len());
        Ok::<(), Failure>(())
    })
}
