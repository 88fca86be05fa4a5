//! What an edit changes, and what it leaves alone.

use std::sync::Arc;
use std::time::Duration;

use super::support::{Bench, LISTENER, Origin, Outcome, eventually, plain, within};
use crate::api::{RefusalKind, Reply, Request};
use crate::control::Signal;

#[test]
fn an_edit_is_applied_without_being_told() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let bench = Bench::start(&plain("shop", &[a.address], ""))?;
        eventually("a serves", || (bench.nodes("shop").len() == 1).then_some(())).await?;
        bench.write("sluice.toml", &plain("shop", &[a.address, b.address], ""))?;
        eventually("b serves", || (bench.nodes("shop").len() == 2).then_some(())).await
    })
}

#[test]
fn an_invalid_edit_changes_nothing_and_status_says_why() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let text = format!("{LISTENER}{}", plain("shop", &[a.address], ""));
        let bench = Bench::start(&text)?;
        assert_eq!(bench.wait("shop").await?.outcome.exit_code(), 0);
        let (before, listeners) = (bench.view("shop"), bench.status().await?.listeners);
        bench.edit(&text.replace("nodes", "nods")).await?;
        let status = bench.status().await?;
        assert!(status.config.stale);
        let problems = &status.config.problems;
        assert!(problems.iter().any(|problem| problem.message.contains("nods")), "{problems:?}");
        assert_eq!(status.listeners, listeners);
        assert!(status.ready);
        let same = before.zip(bench.view("shop")).is_some_and(|(before, now)| Arc::ptr_eq(&before, &now));
        assert!(same);
        match bench.port.ask(Request::Wait { service: "shop".into(), version: None }).await {
            Reply::Refused(refusal) => {
                assert_eq!(refusal.kind, RefusalKind::InvalidConfig);
                assert!(refusal.message.contains("unknown key `nods`"), "{}", refusal.message);
            }
            other => return Err(format!("{other:?}").into()),
        }
        bench.edit(&text).await?;
        assert!(!bench.status().await?.config.stale);
        assert!(bench.status().await?.config.problems.is_empty());
        Ok(())
    })
}

#[test]
fn an_included_file_that_is_held_back_leaves_its_service_and_lets_the_others_go_on() -> Outcome {
    within(async {
        let (a, b) = (Origin::start()?, Origin::start()?);
        let bench = Bench::start("include = [\"s/*.toml\"]\n")?;
        std::fs::create_dir(bench.path("s"))?;
        bench.write("s/shop.toml", &plain("shop", &[a.address], ""))?;
        bench.write("s/blog.toml", &plain("blog", &[a.address], ""))?;
        bench.wait("shop").await?;
        bench.wait("blog").await?;
        bench.write("s/shop.toml", "[service.shop]\nmatch = 1\n")?;
        bench.write("s/blog.toml", &plain("blog", &[a.address, b.address], ""))?;
        bench.reload().await?;
        assert!(bench.status().await?.config.stale);
        assert_eq!(bench.wait("blog").await?.outcome.exit_code(), 0);
        assert_eq!((bench.nodes("shop").len(), bench.nodes("blog").len()), (1, 2));
        match bench.port.ask(Request::Wait { service: "shop".into(), version: None }).await {
            Reply::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::InvalidConfig),
            other => return Err(format!("{other:?}").into()),
        }
        // It stays away from the journal's broom too: a restart must not forget it.
        let dir = bench.kill().await?;
        let bench = Bench::start_in(dir);
        bench.wait("blog").await?;
        assert!(bench.view("shop").is_none());
        bench.write("s/shop.toml", &plain("shop", &[a.address], ""))?;
        bench.reload().await?;
        assert_eq!(bench.nodes("shop").len(), 1, "it serves at once, as it did");
        assert_eq!(bench.service("shop").await?.change, 1);
        Ok(())
    })
}

#[test]
fn other_settings_leave_nodes_and_changes_alone() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&plain("shop", &[a.address], ""))?;
        bench.wait("shop").await?;
        let before = bench.nodes("shop");
        let router = Arc::clone(&bench.pool.snapshot().router);
        bench.edit(&plain("shop", &[a.address], "timeouts = { response = \"7s\" }")).await?;
        let view = bench.view("shop").ok_or("no view")?;
        assert_eq!(view.settings.timeouts.response, Duration::from_secs(7));
        assert!(Arc::ptr_eq(&before[0], &bench.nodes("shop")[0]));
        assert!(Arc::ptr_eq(&router, &bench.pool.snapshot().router));
        assert_eq!(bench.service("shop").await?.change, 1);
        Ok(())
    })
}

#[test]
fn routes_and_services_come_and_go() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&plain("shop", &[a.address], ""))?;
        bench.wait("shop").await?;
        let shop = bench.view("shop").ok_or("no view")?;
        bench.edit(&(plain("shop", &[a.address], "") + &plain("admin", &[a.address], ""))).await?;
        bench.wait("admin").await?;
        assert!(Arc::ptr_eq(&shop, &bench.view("shop").ok_or("no view")?), "it only stands elsewhere in the list");
        bench.edit(&plain("admin", &[a.address], "").replace("admin.test", "shop.test")).await?;
        assert_eq!(bench.view("shop").ok_or("no view")?.settings.name.as_str(), "admin");
        assert!(bench.view("admin").is_none());
        // Both: between two renames of a save only the previous record is there.
        let gone = |name: &str| !bench.path("state/services").join(name).exists();
        eventually("shop is forgotten", || (gone("shop.json") && gone("shop.json.previous")).then_some(())).await?;
        match bench.port.ask(Request::History { service: "shop".into() }).await {
            Reply::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::NotFound),
            other => return Err(format!("{other:?}").into()),
        }
        Ok(())
    })
}

#[test]
fn listeners_follow_the_file_and_a_port_in_use_is_told() -> Outcome {
    within(async {
        let (a, other) = (Origin::start()?, Origin::start()?);
        let text = plain("shop", &[a.address], "");
        let bench = Bench::start(&format!("{LISTENER}{text}"))?;
        bench.wait("shop").await?;
        assert_eq!(*bench.told.borrow(), ["listen 1"]);
        let second = |bind: &str| format!("[[listener]]\nname = \"two\"\nbind = \"{bind}\"\n");
        let in_use = other.address.to_string();
        bench.edit(&format!("{LISTENER}{}{text}", second(&in_use))).await?;
        let listeners = bench.status().await?.listeners;
        assert_eq!(listeners[0].error, None);
        let error = listeners[1].error.clone().unwrap_or_default();
        assert!(error.contains("(listener `two`): Address already in use"), "{error}");
        drop(other);
        eventually("it is tried again", || (bench.told.borrow().len() == 2).then_some(())).await?;
        bench.edit(&format!("{}{text}", second("127.0.0.1:0"))).await?;
        assert_eq!(bench.status().await?.listeners.len(), 1);
        assert_eq!(*bench.told.borrow(), ["listen 1", "listen 2", "unlisten 1", "unlisten 2", "listen 3"]);
        Ok(())
    })
}

#[test]
fn a_hangup_reads_the_file() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&plain("shop", &[a.address], ""))?;
        bench.wait("shop").await?;
        bench.write("sluice.toml", &plain("blog", &[a.address], ""))?;
        bench.signals.send(Signal::Reload).await?;
        eventually("blog is there", || bench.view("blog")).await?;
        Ok(())
    })
}

#[test]
fn an_unknown_service_is_refused_with_a_suggestion() -> Outcome {
    within(async {
        let a = Origin::start()?;
        let bench = Bench::start(&plain("shop", &[a.address], ""))?;
        for request in [
            Request::Wait { service: "shpo".into(), version: None },
            Request::Status { service: Some("shpo".into()) },
            Request::Drain { service: "shpo".into(), node: "127.0.0.1:1".into(), undo: false },
        ] {
            match bench.port.ask(request).await {
                Reply::Refused(refusal) => {
                    assert_eq!(refusal.kind, RefusalKind::NotFound);
                    assert!(refusal.message.contains("did you mean `shop`?"), "{}", refusal.message);
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        Ok(())
    })
}
