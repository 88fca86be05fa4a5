//! `sluice rollback`: the deploy of a version that served before.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::change::{Change, carry_out, locate};
use super::edit::{self, Written};
use super::failure::{Failure, USAGE};
use super::history;
use super::limit::{Asked, Patience};
use super::words::parse_duration;
use crate::api::HistoryEntry;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --to: the newest version that served and is not the present release; while the service is on its way back already, that is said instead. Its nodes must run.\n\nExample: sluice rollback shop --to v1"
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
        let found = locate(session, &args.service, args.config.as_deref()).await?;
        Ok((found, history::fetch(session, &args.service).await?))
    };
    let ((status, place), entries) = patience.within(Asked::Nothing, ask).await?;
    let text = std::fs::read_to_string(&place)
        .map_err(|error| Failure::usage(format!("{}: cannot read it: {error}", place.display())))?;
    let written =
        edit::read(&text, &args.service).map_err(|error| Failure::usage(format!("{}: {error}", place.display())))?;
    let target = choose(&args.service, &entries, &written, args.to.as_deref())?;
    // An edit that is not taken over yet is on its way, too.
    let taken = written.release.as_deref().is_none_or(|release| release == status.release.as_str());
    if args.to.is_none() && (status.rollout.is_some() || !taken) && is_going_back(&entries, &written, &target) {
        return Err(on_its_way(&args.service, &written, &target));
    }
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

impl Target {
    /// How long ago it served, in rollouts that went well; none if none is known.
    fn served(&self, entries: &[HistoryEntry]) -> Option<usize> {
        entries.iter().filter(|entry| entry.outcome.is_done()).position(|entry| match &self.version {
            Some(version) => entry.to.as_str() == version,
            None => nodes_of(entry) == sorted(&self.nodes),
        })
    }
}

/// A node list without its order.
fn sorted(nodes: &[String]) -> Vec<String> {
    let mut nodes = nodes.to_vec();
    nodes.sort();
    nodes
}

fn nodes_of(entry: &HistoryEntry) -> Vec<String> {
    sorted(&entry.nodes.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// Whether what the file asks for served before the target did: then somebody else goes back at this moment, and another way back
/// would lead to what both want to leave.
fn is_going_back(entries: &[HistoryEntry], written: &Written, target: &Target) -> bool {
    let present =
        Target { version: written.release.clone(), nodes: written.nodes.clone().unwrap_or_default() }.served(entries);
    present.is_some_and(|present| target.served(entries).is_some_and(|target| target < present))
}

fn on_its_way(service: &str, written: &Written, target: &Target) -> Failure {
    let present = written.release.clone().unwrap_or_else(|| "the nodes before".to_owned());
    let other = match &target.version {
        Some(version) => format!("`sluice rollback {service} --to {version}` goes to {version} all the same"),
        None => "edit `nodes` to go elsewhere".to_owned(),
    };
    let message = format!(
        "service `{service}` is on its way to {present}, which served before {}: `sluice wait {service}` follows it; {other}",
        target.version.as_deref().unwrap_or("these")
    );
    Failure::new(USAGE, "conflict", message)
}

/// Chooses from what served (newest first) and what is written.
fn choose(service: &str, entries: &[HistoryEntry], written: &Written, to: Option<&str>) -> Result<Target, Failure> {
    let done = || entries.iter().filter(|entry| entry.outcome.is_done());
    let listed = |entry: &HistoryEntry| -> Vec<String> { entry.nodes.iter().map(ToString::to_string).collect() };
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
        let nodes = done()
            .map(listed)
            .find(|nodes| !nodes.is_empty() && sorted(nodes) != sorted(present))
            .ok_or_else(nothing)?;
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
        .map(listed)
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
    fn a_way_back_is_not_turned_round_by_the_next_one() {
        let entries = [
            entry("v2", "v3", &["c:1"], Outcome::Done),
            entry("v1", "v2", &["b:1"], Outcome::Done),
            entry("v0", "v1", &["a:1"], Outcome::Done),
        ];
        let turns = |written: &Written| {
            let target = choose("shop", &entries, written, None).unwrap();
            is_going_back(&entries, written, &target)
        };
        assert!(turns(&named("v2", &["v2", "v3"])), "from v3 to v2: not to v3 again");
        assert!(!turns(&named("v4", &["v3", "v4"])), "v4 is new: to v3");
        assert!(!turns(&named("v3", &["v2", "v3"])), "v3 served last: to v2");
        let listed = |nodes: &[&str]| {
            let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
            Written { nodes: Some(nodes), ..Written::default() }
        };
        assert!(turns(&listed(&["b:1"])) && !turns(&listed(&["d:1"])));
        let told = on_its_way("shop", &named("v2", &[]), &target("v3", &[])).message;
        assert!(told.contains("on its way to v2, which served before v3") && told.contains("--to v3"), "{told}");
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
