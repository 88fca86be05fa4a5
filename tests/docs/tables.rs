//! Tables of `docs/reference.md` against the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use sluicegate::api::Outcome;
use sluicegate::cli::{failure, plan};
use sluicegate::model::NodeState;

use crate::root;

/// The rows of the table under a heading: the cells, without backticks.
pub fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let start = text.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`"));
    let section = text[start + 4..].split("\n## ").next().unwrap();
    let rows: Vec<Vec<String>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    assert!(!rows.is_empty(), "no table under `{heading}`");
    rows
}

fn first_cells(heading: &str) -> BTreeSet<String> {
    rows(heading).into_iter().map(|mut row| row.remove(0)).collect()
}

/// What a function of `src` gives for each variant, by reading its arms: `Self::A | Self::B => … "text"` or `… Name::CONSTANT`.
fn arms(file: &str, function: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let start = text.find(&format!("pub fn {function}(")).unwrap_or_else(|| panic!("no {function} in {file}"));
    let body = text[start..].split("\n    }\n").next().unwrap();
    let mut arms = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for part in body.split("Self::").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_alphanumeric()).collect();
        names.push(name);
        if let Some((_, given)) = part.split_once("=>") {
            let given = given.trim_start_matches([' ', '{', '\n']).trim();
            let given = given.trim_matches(|c: char| c == '}' || c == ',' || c == '"' || c.is_whitespace());
            let given = given.trim_start_matches("StatusCode::").to_owned();
            arms.extend(names.drain(..).map(|name| (name, given.clone())));
        }
    }
    assert!(arms.len() > 5 && names.is_empty(), "{file}: {function} is not read any more: {arms:?} {names:?}");
    arms
}

#[test]
fn every_error_label_is_in_the_reference_with_its_status() {
    let labels = arms("src/proxy/error.rs", "label");
    let statuses = arms("src/proxy/error.rs", "status");
    let code = |name: &str| {
        let status = &statuses[name];
        (100..600).filter_map(|code| http::StatusCode::from_u16(code).ok()).find(|code| {
            code.canonical_reason().is_some_and(|reason| {
                let reason = reason.to_uppercase().replace([' ', '-'], "_").replace('\'', "");
                reason == *status
            })
        })
    };
    let mut in_code: BTreeSet<(String, String)> = labels
        .iter()
        .map(|(name, label)| {
            let status = code(name).unwrap_or_else(|| panic!("no status for {name}"));
            (label.clone(), status.as_u16().to_string())
        })
        .collect();
    in_code.extend(written_by_hand());
    let written: BTreeSet<_> = rows("Error labels").iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(written, in_code, "docs/reference.md, `Error labels`, is not what src/proxy/error.rs says");
}

/// Label and status of answers that are sent as bytes, where there is no request yet.
fn written_by_hand() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in ["src/proxy/accept.rs", "src/proxy/worker/admission.rs", "src/proxy/front/h1.rs"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for (at, _) in text.match_indices("x-sluice-error: ") {
            let label = text[at..].split(": ").nth(1).unwrap().split('\\').next().unwrap();
            let line = text[..at].rsplit("HTTP/1.1 ").next().unwrap();
            found.push((label.to_owned(), line[..3].to_owned()));
        }
        assert!(!found.is_empty(), "{file} is not read any more");
    }
    found
}

#[test]
fn states_and_phases_are_in_the_reference() {
    let states: BTreeSet<String> = NodeState::ALL.iter().map(|state| state.as_str().to_owned()).collect();
    assert_eq!(first_cells("States of a node"), states);
    let phases: BTreeSet<String> = arms("src/rollout/view.rs", "as_str").into_values().collect();
    assert_eq!(first_cells("Phases of a service"), phases);
}

#[test]
fn exit_codes_are_in_the_reference() {
    let outcomes = [
        Outcome::Done,
        Outcome::Unhealthy,
        Outcome::RolledBack,
        Outcome::Superseded,
        Outcome::DoneWithCuts,
        Outcome::TimedOut,
    ];
    let mut codes: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.exit_code().to_string()).collect();
    codes.extend([failure::PROXY, failure::USAGE, failure::INTERRUPTED, plan::CHANGES].map(|code| code.to_string()));
    assert_eq!(first_cells("Exit codes"), codes);
}
