//! Tables on every page that name errors and keys: each error label stands beside its status, each key is one that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::page::{Page, pages};
use crate::root;
use crate::tables;

/// A table: what its head says, and its rows with their lines.
struct Table {
    head: Vec<String>,
    rows: Vec<(usize, Vec<String>)>,
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The tables of a page.
fn tables_of(page: &Page) -> Vec<Table> {
    let text = fs::read_to_string(root().join(&page.path)).unwrap();
    let mut found: Vec<Table> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        if !line.starts_with('|') {
            open = false;
        } else if open {
            if !line.starts_with("|-") {
                found.last_mut().unwrap().rows.push((index + 1, cells(line)));
            }
        } else {
            open = true;
            found.push(Table { head: cells(line), rows: Vec::new() });
        }
    }
    found
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_error_label_in_a_table_stands_beside_its_status() {
    let known: BTreeMap<String, String> =
        tables::rows("Error labels").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let pages = pages();
    let mut wrong = Vec::new();
    let mut told = BTreeSet::new();
    for page in &pages {
        for table in tables_of(page) {
            let Some(column) = table.head.iter().position(|head| head == "`x-sluice-error`") else { continue };
            let status = table.head.iter().position(|head| head == "status").unwrap_or(column);
            for (line, row) in &table.rows {
                for label in quoted(&row[column]) {
                    // `no-service` of `404 no-service`, too.
                    told.insert((page.path.clone(), label.to_owned()));
                    match known.get(label) {
                        None => wrong.push(format!("{}:{line}: no error is called {label}", page.path.display())),
                        Some(code) if !row[status].contains(code.as_str()) => {
                            wrong.push(format!("{}:{line}: {label} is a {code}", page.path.display()));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
    }
    let failures: BTreeSet<&str> = told
        .iter()
        .filter(|(path, _)| path.ends_with("failures.md") || path.ends_with("troubleshooting.md"))
        .map(|(_, label)| label.as_str())
        .collect();
    let missing: Vec<&String> = known.keys().filter(|label| !failures.contains(label.as_str())).collect();
    assert!(missing.is_empty(), "neither docs/failures.md nor docs/troubleshooting.md tells of {missing:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_key_in_a_table_is_one_that_there_is() {
    let reference = fs::read_to_string(root().join("config/reference.toml")).unwrap();
    let unit = fs::read_to_string(root().join("config/sluice.service")).unwrap();
    let exists = |key: &str| {
        let last = key.trim_matches(['[', ']']).rsplit('.').next().unwrap();
        reference.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            let header = line.strip_prefix('[').and_then(|line| line.split(']').next());
            header.is_some_and(|header| header.trim_matches('[').rsplit('.').next() == Some(last))
                || line.match_indices(last).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    line[at + last.len()..].trim_start().starts_with('=')
                        && before.is_none_or(|before| [' ', '{', ','].contains(&before))
                })
        }) || unit.lines().any(|line| line.starts_with(&format!("{key}=")))
    };
    let pages = pages();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in &pages {
        for table in tables_of(page) {
            let Some(column) = table.head.iter().position(|head| ["key", "keys"].contains(&head.as_str())) else {
                continue;
            };
            for (line, row) in &table.rows {
                for key in row.get(column).map(|cell| quoted(cell)).into_iter().flatten() {
                    checked += 1;
                    if !exists(key) {
                        wrong.push(format!("{}:{line}: no key is called {key}", page.path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 20, "only {checked} keys are in tables");
}
