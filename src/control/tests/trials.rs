//! Versions on trial, as the workers count them: judged, sent back, remembered over a crash.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::support::{Bench, Failure, Origin, Outcome, eventually, service, within};
use crate::api::{self, Reply, Request, Steering};
use crate::model::FailureKind;
use crate::pool::{Node, ServiceView};

/// Two steps that only end by hand.
const HELD: &str = "[service.shop.rollout]\nstrategy = \"canary\"\nkeep = \"0s\"\n\
                    steps = [{ share = \"10%\", hold = \"manual\" }, { share = \"50%\", hold = \"manual\" }]\n";

struct Stage {
    bench: Bench,
    nodes: [Origin; 2],
}

impl Stage {
    fn file(nodes: &[Origin; 2], release: &str) -> String {
        let (v1, v2): ([SocketAddr; 1], [SocketAddr; 1]) = ([nodes[0].address], [nodes[1].address]);
        service("shop", release, &[("v1", &v1), ("v2", &v2)], HELD)
    }

    /// v2 at its first step.
    async fn start() -> Result<Self, Failure> {
        let nodes = [Origin::start()?, Origin::start()?];
        let bench = Bench::start(&Self::file(&nodes, "v1"))?;
        eventually("v1 serves", || Some(()).filter(|()| bench.nodes("shop").len() == 1)).await?;
        bench.edit(&Self::file(&nodes, "v2")).await?;
        let stage = Self { bench, nodes };
        stage.at(10.0).await?;
        Ok(stage)
    }

    /// Waits until the version on trial has this share, in percent.
    async fn at(&self, share: f64) -> Outcome {
        let found = || trial(self.bench.view("shop")?.as_ref()).filter(|(percent, _)| (percent - share).abs() < 1e-9);
        eventually(&format!("a trial at {share}%"), found).await.map(drop)
    }

    fn on_trial(&self) -> Result<Arc<Node>, Failure> {
        let view = self.bench.view("shop").ok_or("no view")?;
        Ok(trial(&view).ok_or("no trial")?.1)
    }

    async fn steer(&self, steering: Steering) -> Result<api::ServiceStatus, Failure> {
        match self.bench.port.ask(Request::Steer { service: "shop".into(), steering, by: "a test".into() }).await {
            Reply::Service(status) => Ok(*status),
            other => Err(format!("{other:?}").into()),
        }
    }

    async fn evidence(&self) -> Result<api::Evidence, Failure> {
        let rollout = self.bench.service("shop").await?.rollout.ok_or("no rollout")?;
        Ok(rollout.trial.ok_or("no trial")?.evidence.ok_or("no evidence")?)
    }

    async fn history(&self) -> Result<Vec<api::HistoryEntry>, Failure> {
        match self.bench.port.ask(Request::History { service: "shop".into() }).await {
            Reply::History(entries) => Ok(entries),
            other => Err(format!("{other:?}").into()),
        }
    }
}

/// Its share in percent, and its first node.
fn trial(view: &ServiceView) -> Option<(f64, Arc<Node>)> {
    let slice = view.slices.get(view.trial?)?;
    Some((slice.share.percent(), Arc::clone(slice.nodes.first()?)))
}

/// As worker 0 counts so many answers, of which so many are failures.
fn count(node: &Node, answers: u64, failures: u64) {
    let stats = node.stats(0);
    for number in 0..answers {
        stats.requests.add_one();
        stats.answered.add_one();
        if number < failures {
            stats.failed[FailureKind::Status as usize].add_one();
        }
    }
}

fn old(stage: &Stage) -> Option<Arc<Node>> {
    stage.bench.nodes("shop").into_iter().find(|node| node.id.version.as_str() == "v1")
}

#[test]
fn a_version_that_fails_is_out_of_the_snapshot_moments_after_it_was_counted() -> Outcome {
    within(async {
        let stage = Stage::start().await?;
        let (new, before) = (stage.on_trial()?, old(&stage).ok_or("no old node")?);
        count(&before, 400, 1);
        count(&new, 30, 15);
        let ended = stage.bench.wait("shop").await?;
        assert_eq!(ended.outcome, api::Outcome::RolledBack, "{}", ended.message);
        assert_eq!(stage.bench.nodes("shop").len(), 1);
        assert!(new.is_closed() && !before.is_closed());
        let entry = stage.history().await?.into_iter().next().ok_or("no entry")?;
        let evidence = entry.steps.last().and_then(|step| step.evidence.clone()).ok_or("no evidence")?;
        assert_eq!((evidence.new.requests, evidence.new.failures, evidence.verdict.as_str()), (30, 15, "fail"));
        assert_eq!((evidence.old.requests, evidence.old.failures), (400, 1));
        Ok(())
    })
}

#[test]
fn each_step_is_judged_by_what_came_since_it_began() -> Outcome {
    within(async {
        let stage = Stage::start().await?;
        let before = old(&stage).ok_or("no old node")?;
        count(&before, 400, 0);
        let new = stage.on_trial()?;
        count(&new, 200, 0);
        assert_eq!(stage.evidence().await?.new.requests, 200);
        stage.steer(Steering::Promote).await?;
        stage.at(50.0).await?;
        let evidence = stage.evidence().await?;
        assert_eq!((evidence.new.requests, evidence.old.requests), (0, 0));
        assert_eq!(evidence.verdict, "not enough requests");
        stage.steer(Steering::Promote).await?;
        let ended = stage.bench.wait("shop").await?;
        assert_eq!(ended.outcome, api::Outcome::Done, "{}", ended.message);
        let entry = stage.history().await?.into_iter().next().ok_or("no entry")?;
        let seen: Vec<_> =
            entry.steps.iter().map(|step| step.evidence.as_ref().map(|evidence| evidence.new.requests)).collect();
        assert_eq!(seen, [Some(200), Some(0), None], "all of it is not judged any more");
        assert_eq!(entry.steered.len(), 2);
        Ok(())
    })
}

#[test]
fn what_was_counted_before_a_step_is_no_evidence_against_it() -> Outcome {
    within(async {
        let nodes = [Origin::start()?, Origin::start()?];
        let bench = Bench::start(&Stage::file(&nodes, "v1"))?;
        let served = eventually("v1 serves", || bench.nodes("shop").into_iter().next()).await?;
        // An outage of the old version a while ago says nothing about now.
        count(&served, 1000, 900);
        bench.edit(&Stage::file(&nodes, "v2")).await?;
        let stage = Stage { bench, nodes };
        stage.at(10.0).await?;
        assert_eq!(stage.evidence().await?.old.requests, 0);
        Ok(())
    })
}

#[test]
fn a_crash_in_a_trial_comes_back_at_the_same_share_and_remembers_who_was_refused() -> Outcome {
    within(async {
        let stage = Stage::start().await?;
        stage.steer(Steering::Promote).await?;
        stage.at(50.0).await?;
        // What is published is on disk a moment later.
        let record = stage.bench.path("state/services/shop.json");
        eventually("the journal has it", || {
            std::fs::read_to_string(&record).ok().filter(|text| text.contains("\"reached\":5000"))
        })
        .await?;
        let Stage { bench, nodes } = stage;
        let dir = bench.kill().await?;
        let stage = Stage { bench: Bench::start_in(Rc::clone(&dir)), nodes };
        stage.at(50.0).await?;
        stage.steer(Steering::Abort).await?;
        assert_eq!(stage.bench.wait("shop").await?.outcome, api::Outcome::RolledBack);
        let Stage { bench, nodes } = stage;
        let dir = bench.kill().await?;
        let stage = Stage { bench: Bench::start_in(dir), nodes };
        eventually("v1 serves", || Some(()).filter(|()| stage.bench.nodes("shop").len() == 1)).await?;
        let refused = stage.bench.service("shop").await?.refused;
        assert_eq!((refused.len(), refused[0].outcome), (1, api::Outcome::RolledBack));
        stage.steer(Steering::Retry).await?;
        stage.at(10.0).await
    })
}

#[test]
fn a_verb_that_cannot_be_is_refused_and_says_why() -> Outcome {
    within(async {
        let stage = Stage::start().await?;
        for steering in [Steering::Resume, Steering::Retry] {
            let reply =
                stage.bench.port.ask(Request::Steer { service: "shop".into(), steering, by: String::new() }).await;
            let Reply::Refused(refusal) = reply else {
                return Err(format!("{steering:?}: {reply:?}").into());
            };
            assert_eq!(refusal.kind, api::RefusalKind::Conflict);
            assert!(refusal.message.starts_with("shop: "), "{}", refusal.message);
        }
        assert!(stage.nodes[1].address.port() > 0, "both nodes live to the end");
        Ok(())
    })
}
