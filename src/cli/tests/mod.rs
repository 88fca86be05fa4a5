//! Verbs, from their arguments to output and exit code, against a made-up control plane behind a real socket.

mod deploy;
mod halt;
mod line;
mod plan;
mod reach;
// It is of all verbs.
#[cfg(feature = "top")]
mod reference;
mod status;
mod steer;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::admin::fake::{Fake, endless, entry, moment, node, progress, refused, service, status};
use crate::api::{ConfigStatus, CutNode, Outcome, Problem, Progress, RefusalKind, Reply, Request};
use crate::model::{Holder, NodeState, WorkKind};

const FILE: &str = "# shop\n[service.shop]\nmatch = \"*\"\nrelease = \"v1\" # now\n\n[service.shop.versions]\nv1 = [\"10.0.0.5:5001\"]\n";

struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn nowhere() -> Environment {
    Environment { variable: Box::new(|_| None), root: false, exists: Box::new(|_| false) }
}

fn run_on(socket: &Path, args: &[&str], terminal: Option<Terminal>) -> Ran {
    let mut line = vec!["sluice", "--socket", socket.to_str().unwrap()];
    line.extend(args);
    let cli = Cli::try_parse_from(line).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let screen = Screen::new(&mut out, &mut err, false, terminal);
    let code = execute(cli, screen, &nowhere());
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A configuration file that the proxy names as the source of `shop`, and what `Wait` is answered.
struct Scene {
    _folder: TempDir,
    file: PathBuf,
    fake: Fake,
}

impl Scene {
    fn new(wait: impl FnMut(&Path) -> Reply + Send + 'static) -> Self {
        Self::with(FILE, wait)
    }

    fn with(text: &str, mut wait: impl FnMut(&Path) -> Reply + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.toml");
        fs::write(&file, text).unwrap();
        let source = file.clone();
        let fake = Fake::start(folder.path(), move |request| match request {
            Request::Status { service: Some(name) } if name.as_str() != "shop" => {
                refused(RefusalKind::NotFound, &format!("there is no service `{name}`"))
            }
            Request::Status { .. } => Reply::Status(Box::new(status(vec![service("shop", &source)]))),
            Request::Events { .. } => refused(RefusalKind::Unavailable, "no events here"),
            Request::Config => Reply::Outline(Box::default()),
            Request::Measures => Reply::Measures(std::sync::Arc::default()),
            Request::Reload => Reply::Config(ConfigStatus::default()),
            Request::History { .. } => Reply::History(vec![
                entry("v1", "v2", &["10.0.0.5:5002"], Outcome::Unhealthy),
                entry("v0", "v1", &["10.0.0.5:5001"], Outcome::Done),
                entry("v9", "v0", &["10.0.0.5:5000"], Outcome::Done),
            ]),
            Request::Steer { .. } | Request::Halt { .. } => Reply::Service(Box::new(service("shop", &source))),
            Request::Wait { .. } | Request::Drain { .. } => wait(&source),
        });
        Self { _folder: folder, file, fake }
    }

    fn ending(outcome: Outcome, message: &'static str) -> Self {
        Self::new(move |source| ends(source, outcome, message))
    }

    fn run(&self, args: &[&str]) -> Ran {
        run_on(&self.fake.socket, args, None)
    }

    fn deploy(&self, more: &[&str]) -> Ran {
        let mut args = vec!["deploy", "shop", "--version", "v2", "--node", "10.0.0.5:5002"];
        args.extend(more);
        self.run(&args)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    fn asked_to_wait(&self) -> Vec<Option<String>> {
        let asked = self.fake.asked().into_iter();
        asked
            .filter_map(|request| match request {
                Request::Wait { version, .. } => Some(version.map(|version| version.to_string())),
                _ => None,
            })
            .collect()
    }
}

fn ends(source: &Path, outcome: Outcome, message: &str) -> Reply {
    let shop = service("shop", source);
    let mut settled = shop.clone();
    settled.phase = "settled".into();
    settled.reason = None;
    settled.nodes[2].state = NodeState::Serving;
    progress(vec![moment(shop, None), moment(settled, Some((outcome, message)))])
}
