//! `sluice rollback`: the deploy of a version that served before.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::change::{Change, carry_out, locate};
use super::edit::{self, Written};
use super::failure::Failure;
use super::history;
use super::limit::{Asked, Patience};
use super::words::parse_duration;
use crate::api::HistoryEntry;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --to: the newest version that served and is not the present release. Its nodes must run.\n\nExample: sluice rollback shop --to v1"
)]
pub struct Args {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Version to go back to
    #[arg(long, env = "SLUICE_ROLLBACK_TO", value_name = "VERSION")]
    pub to: Option<String>,
    /// File that defines the service, if it is not the one that the proxy names
    #[arg(long, env = "SLUICE_DEPLOY_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Stop waiting after this long; the change goes on
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON: a line for each change, the last with `ended`
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Chooses, edits, waits, shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let (begun, patience) = (Instant::now(), Patience { timeout: args.timeout });
    let ask = async {
        let place = locate(session, &args.service, args.config.as_deref()).await?;
        Ok((place, history::fetch(session, &args.service).await?))
    };
    let (place, entries) = patience.within(Asked::Nothing, ask).await?;
    let text = std::fs::read_to_string(&place)
        .map_err(|error| Failure::usage(format!("{}: cannot read it: {error}", place.display())))?;
    let written =
        edit::read(&text, &args.service).map_err(|error| Failure::usage(format!("{}: {error}", place.display())))?;
    let target = choose(&args.service, &entries, &written, args.to.as_deref())?;
    if !args.json {
        session.screen.line(&match &target.version {
            Some(version) => format!("going back to {version}"),
            None => format!("going back to {}", target.nodes.join(", ")),
        });
    }
    let change = Change {
        service: &args.service,
        version: target.version.as_deref(),
        path: &place,
        timeout: patience.left(begun),
        json: args.json,
    };
    carry_out(session, &change, |text| edit::set_release(text, &args.service, target.version.as_deref(), &target.nodes))
        .await
}

/// Where to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// None in the short form.
    version: Option<String>,
    /// Empty if the file has the version.
    nodes: Vec<String>,
}

/// Chooses from what served (newest first) and what is written.
fn choose(service: &str, entries: &[HistoryEntry], written: &Written, to: Option<&str>) -> Result<Target, Failure> {
    let done = || entries.iter().filter(|entry| entry.outcome.is_done());
    let nodes_of = |entry: &HistoryEntry| -> Vec<String> { entry.nodes.iter().map(ToString::to_string).collect() };
    let nothing = || {
        Failure::usage(format!(
            "there is nothing to go back to: no other version of service `{service}` is known to have served; `sluice history {service}` lists what did"
        ))
    };
    if let Some(present) = &written.nodes {
        if to.is_some() {
            return Err(Failure::usage(format!(
                "service `{service}` lists its `nodes` without versions: leave --to out to go back to the list before"
            )));
        }
        let set = |nodes: &[String]| {
            let mut nodes = nodes.to_vec();
            nodes.sort();
            nodes
        };
        let nodes =
            done().map(nodes_of).find(|nodes| !nodes.is_empty() && set(nodes) != set(present)).ok_or_else(nothing)?;
        return Ok(Target { version: None, nodes });
    }
    let release = written.release.as_deref();
    let in_file = |version: &str| written.versions.iter().any(|(name, _)| name == version);
    let version = match to {
        Some(version) => version.to_owned(),
        None => done()
            .map(|entry| entry.to.as_str())
            .find(|version| Some(*version) != release && *version != "-")
            // What served before the first rollout that was recorded has no entry of its own.
            .or_else(|| {
                done()
                    .filter_map(|entry| entry.from.as_ref())
                    .map(crate::model::Version::as_str)
                    .find(|version| Some(*version) != release && in_file(version))
            })
            .ok_or_else(nothing)?
            .to_owned(),
    };
    if in_file(&version) {
        return Ok(Target { version: Some(version), nodes: Vec::new() });
    }
    let nodes = done()
        .find(|entry| entry.to.as_str() == version && !entry.nodes.is_empty())
        .map(nodes_of)
        .ok_or_else(|| {
            Failure::usage(format!(
                "version `{version}` of service `{service}` is neither in the file nor known to have served; `sluice history {service}` lists what did"
            ))
        })?;
    Ok(Target { version: Some(version), nodes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::fake::entry;
    use crate::api::Outcome;

    fn named(release: &str, versions: &[&str]) -> Written {
        Written {
            release: Some(release.to_owned()),
            versions: versions.iter().map(|name| ((*name).to_owned(), vec!["x:1".to_owned()])).collect(),
            nodes: None,
        }
    }

    fn target(version: &str, nodes: &[&str]) -> Target {
        Target {
            version: (version != "-").then(|| version.to_owned()),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        }
    }

    #[test]
    fn it_is_the_newest_that_served_and_is_not_the_present_one() {
        let entries = [
            entry("v3", "v4", &["d:1"], Outcome::Unhealthy),
            entry("v2", "v3", &["c:1"], Outcome::Done),
            entry("v1", "v2", &["b:1"], Outcome::DoneWithCuts),
            entry("v0", "v1", &["a:1"], Outcome::Done),
        ];
        let choose = |written: &Written, to| choose("shop", &entries, written, to);
        assert_eq!(choose(&named("v3", &["v2", "v3"]), None), Ok(target("v2", &[])));
        assert_eq!(choose(&named("v3", &["v3"]), None), Ok(target("v2", &["b:1"])));
        assert_eq!(choose(&named("v4", &["v4"]), None), Ok(target("v3", &["c:1"])));
        assert_eq!(choose(&named("v3", &["v3"]), Some("v1")), Ok(target("v1", &["a:1"])));
        assert_eq!(choose(&named("v3", &["v9"]), Some("v9")), Ok(target("v9", &[])));
        let failure = choose(&named("v3", &["v3"]), Some("v4")).unwrap_err();
        assert_eq!(failure.code, 2, "v4 never served");
    }

    #[test]
    fn what_served_before_the_first_entry_is_found_in_the_file() {
        let entries = [entry("v1", "v2", &["b:1"], Outcome::Done)];
        let found = choose("shop", &entries, &named("v2", &["v1", "v2"]), None);
        assert_eq!(found, Ok(target("v1", &[])));
        assert!(choose("shop", &entries, &named("v2", &["v2"]), None).is_err());
        assert!(choose("shop", &[], &named("v2", &["v2"]), None).is_err());
    }

    #[test]
    fn the_short_form_goes_back_to_the_list_before() {
        let entries = [entry("-", "-", &["b:1", "c:1"], Outcome::Done), entry("-", "-", &["a:1"], Outcome::Done)];
        let written = Written { nodes: Some(vec!["c:1".to_owned(), "b:1".to_owned()]), ..Written::default() };
        let found = choose("shop", &entries, &written, None);
        assert_eq!(found, Ok(target("-", &["a:1"])));
        assert!(choose("shop", &entries, &written, Some("v1")).is_err());
    }
}
