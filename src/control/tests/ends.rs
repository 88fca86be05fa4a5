//! Restarts and shutdowns.

use std::time::Duration;

use super::support::{Bench, Failure, LISTENER, Origin, Outcome, end_of, eventually, nobody, plain, service, within};
use crate::api::{Reply, Request};
use crate::control::{Signal, StartError};
use crate::pool::{Command, Pool};

fn split(bench: &Bench) -> Vec<(String, u32, Vec<String>)> {
    let view = bench.view("shop");
    let slices = view.iter().flat_map(|view| &view.slices);
    slices
        .map(|slice| {
            let nodes = slice.nodes.iter().map(|node| node.id.address.to_string()).collect();
            (slice.version.to_string(), slice.share.0, nodes)
        })
        .collect()
}

/// The first one is published before the control plane waits for anything, so no probe has been answered yet.
async fn first_snapshot(bench: &Bench) {
    while bench.pool.generation() == 0 && !bench.run.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.pool.generation(), 1);
}

#[test]
fn a_restart_serves_the_same_split_at_once_and_finishes_the_rollout() -> Outcome {
    within(async {
        let origins = (0..3).map(|_| Origin::start()).collect::<Result<Vec<_>, _>>()?;
        let late = nobody()?;
        let versions: &[(&str, &[_])] =
            &[("v1", &[origins[0].address, origins[1].address]), ("v2", &[origins[2].address, late])];
        let bench = Bench::start(&service("shop", "v1", versions, ""))?;
        bench.wait("shop").await?;
        bench.edit(&service("shop", "v2", versions, "")).await?;
        eventually("half of the way is gone", || (split(&bench).len() == 2).then_some(())).await?;
        let before = split(&bench);
        // On disk by now? The journal is quick, but not instant.
        eventually("it is on disk", || {
            let text = std::fs::read_to_string(bench.path("state/services/shop.json")).ok()?;
            text.contains("holds no work").then_some(())
        })
        .await?;
        let dir = bench.kill().await?;
        let bench = Bench::start_in(dir);
        first_snapshot(&bench).await;
        assert_eq!(split(&bench), before);
        let _late = Origin::on(late)?;
        let ended = bench.wait("shop").await?;
        assert_eq!(ended.outcome.exit_code(), 0, "{}", ended.message);
        assert_eq!(ended.entry.ok_or("no entry")?.from, Some("v1".into()));
        assert_eq!(split(&bench)[0].0, "v2");
        let kept = std::fs::read_to_string(bench.path("state/services/shop.json"))?;
        assert!(kept.contains("may be stopped"), "it is on disk before it is told: {kept}");
        let written = std::fs::metadata(bench.path("state/services/shop.json"))?.modified()?;
        let dir = bench.kill().await?;
        let bench = Bench::start_in(dir);
        let again = bench.wait("shop").await?;
        assert_eq!(again.message, ended.message, "what was told is told again");
        assert_eq!(bench.service("shop").await?.change, 2);
        assert_eq!(std::fs::metadata(bench.path("state/services/shop.json"))?.modified()?, written, "nothing new");
        Ok(())
    })
}

#[test]
fn an_edit_made_while_nothing_ran_is_a_change_like_any_other_and_what_was_taken_out_stays_out() -> Outcome {
    within(async {
        let (a, b, c) = (Origin::start()?, Origin::start()?, Origin::start()?);
        let versions: &[(&str, &[_])] = &[("v1", &[a.address, b.address]), ("v2", &[b.address, c.address])];
        let bench = Bench::start(&service("shop", "v1", versions, ""))?;
        bench.wait("shop").await?;
        let node = b.address.to_string();
        let drain = Request::Drain { service: "shop".into(), node: node.as_str().into(), undo: false };
        let Reply::Progress(progress) = bench.port.ask(drain).await else { return Err("refused".into()) };
        end_of(progress).await?;
        bench.write("sluice.toml", &service("shop", "v2", versions, ""))?;
        let dir = bench.kill().await?;
        let bench = Bench::start_in(dir);
        first_snapshot(&bench).await;
        assert_eq!(split(&bench), [("v1".into(), 10_000, vec![a.address.to_string()])]);
        let ended = bench.wait("shop").await?;
        assert_eq!(
            ended.message,
            format!("shop: v2 serves on 1 node; the old nodes may be stopped: {}", a.address),
            "the one that was taken out is no part of it"
        );
        assert_eq!(split(&bench), [("v2".into(), 10_000, vec![c.address.to_string()])]);
        assert_eq!(bench.service("shop").await?.change, 2);
        Ok(())
    })
}

#[test]
fn a_service_that_was_removed_while_nothing_ran_is_forgotten() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&(plain("shop", &[a.address], "") + &plain("blog", &[a.address], "")))?;
        bench.wait("shop").await?;
        bench.wait("blog").await?;
        bench.write("sluice.toml", &plain("blog", &[a.address], ""))?;
        let dir = bench.kill().await?;
        let bench = Bench::start_in(dir);
        bench.wait("blog").await?;
        assert_eq!(bench.status().await?.services.len(), 1);
        eventually("its file is gone", || (!bench.path("state/services/shop.json").exists()).then_some(())).await
    })
}

#[test]
fn a_port_in_use_at_the_start_is_fatal_and_says_what_to_do() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&format!("[[listener]]\nname = \"http\"\nbind = \"{}\"\n", a.address))?;
        let ready = *bench.ready.borrow();
        match bench.run.await? {
            Err(StartError::Listen(text)) => {
                assert!(text.starts_with(&format!("cannot listen on {} (listener `http`)", a.address)), "{text}");
                assert!(text.contains("another process listens there"), "{text}");
            }
            other => return Err(format!("{other:?}").into()),
        }
        assert!(!ready);
        Ok(())
    })
}

#[test]
fn shutdown_is_not_ready_first_then_waits_then_lets_go_in_order() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let text = "[shutdown]\ndelay = \"300ms\"\n[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n".to_owned();
        let mut bench = Bench::start(&(text + &plain("shop", &[a.address], "")))?;
        bench.wait("shop").await?;
        let began = tokio::time::Instant::now();
        bench.signals.send(Signal::Shutdown).await?;
        bench.ready.wait_for(|ready| !ready).await?;
        assert_eq!(*bench.told.borrow(), ["listen 1"], "nothing changes for clients yet");
        assert!(!bench.status().await?.ready, "verbs are answered meanwhile");
        let summary = bench.run.await??;
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_eq!(*bench.told.borrow(), ["listen 1", "unlisten 1", "shutdown"]);
        assert_eq!((summary.silent, summary.hurried, summary.cut.len()), (0, false, 0));
        Ok(())
    })
}

#[test]
fn a_second_signal_ends_at_once() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&format!("[shutdown]\ndelay = \"1h\"\n{}", plain("shop", &[a.address], "")))?;
        bench.wait("shop").await?;
        bench.signals.send(Signal::Shutdown).await?;
        bench.signals.send(Signal::Shutdown).await?;
        assert!(bench.run.await??.hurried);
        Ok(())
    })
}

#[test]
fn workers_that_say_nothing_do_not_hold_the_end() -> Outcome {
    within(async {
        let (pool, mut workers) = Pool::new(1);
        let dir = tempfile::tempdir()?;
        let config_path = dir.path().join("sluice.toml");
        std::fs::write(&config_path, format!("[shutdown]\ndeadline = \"100ms\"\nlinger = \"10ms\"\n{LISTENER}"))?;
        let (_port, calls) = crate::api::Port::new(1);
        let (signals, heard) = tokio::sync::mpsc::channel(1);
        let (ready, _) = tokio::sync::watch::channel(false);
        let clock = crate::control::Clock::system();
        let parts = crate::control::Parts {
            initial: crate::config::load(&config_path),
            config_path,
            pool,
            calls,
            state_dir: None,
            admin_tls: None,
            started: clock.now(),
            signals: heard,
            ready,
            clock,
        };
        signals.send(Signal::Shutdown).await?;
        let summary = crate::control::run(parts).await?;
        assert_eq!(summary.silent, 1);
        let told = std::iter::from_fn(|| workers[0].commands.try_recv().ok());
        let specs: Vec<_> = told
            .filter_map(|command| match command {
                Command::Shutdown(spec) => Some(spec.deadline),
                _ => None,
            })
            .collect();
        assert_eq!(specs, [Duration::from_millis(100)]);
        Ok::<(), Failure>(())
    })
}
