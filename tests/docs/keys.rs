//! Tables on every page that name errors and keys: each error label stands beside its status, each key is one that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::page::{Page, pages};
use crate::root;
use crate::tables;

/// Files whose names look like keys.
const FILES: [&str; 1] = ["cohort.key"];

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

/// The keys and tables of `config/reference.toml`.
struct Reference(String);

impl Reference {
    fn read() -> Self {
        Self(fs::read_to_string(root().join("config/reference.toml")).unwrap())
    }

    /// Whether there is a key or a table whose path ends like this: `keep`, `rollout.keep`, `[service.NAME.rollout]`.
    fn has(&self, key: &str) -> bool {
        let key = key.trim_matches(['[', ']']);
        let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
        let above = above.rsplit('.').next().unwrap();
        let mut table = "";
        self.0.lines().map(|line| line.trim_start_matches(['#', ' '])).any(|line| {
            if let Some(header) = header(line) {
                table = header.rsplit('.').next().unwrap();
                return table == last;
            }
            let is_key = |(at, _): (usize, &str)| {
                let before = line[..at].chars().next_back();
                let whole = before.is_none_or(|before| [' ', '{', ','].contains(&before));
                // At the line's beginning it belongs to the table, further on to the key that the line begins with.
                let parent = if at == 0 { table } else { line.split(' ').next().unwrap() };
                let fits = above.is_empty() || above == parent || (at > 0 && above == table);
                whole && fits && line[at + last.len()..].trim_start().starts_with('=')
            };
            line.match_indices(last).any(is_key)
        })
    }

    /// What stands behind a key of a table, without quotes.
    fn default_of(&self, key: &str) -> Option<&str> {
        let (above, last) = key.rsplit_once('.')?;
        let mut table = "";
        self.0.lines().map(|line| line.trim_start_matches(['#', ' '])).find_map(|line| {
            table = header(line).map_or(table, |header| header.rsplit('.').next().unwrap());
            let value = line.strip_prefix(last)?.strip_prefix(" = ")?;
            (table == above).then(|| value.trim_matches('"'))
        })
    }

    /// Whether there is a table of this name.
    fn has_table(&self, name: &str) -> bool {
        let tables = self.0.lines().filter_map(|line| header(line.trim_start_matches(['#', ' '])));
        tables.into_iter().any(|table| table.rsplit('.').next() == Some(name))
    }
}

/// The name of the table that begins on a line.
fn header(line: &str) -> Option<&str> {
    let header = line.strip_prefix('[')?.split(']').next()?.trim_start_matches('[');
    header.chars().all(|c| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c)).then_some(header)
}

#[test]
fn every_key_in_the_text_is_one_that_there_is() {
    let reference = Reference::read();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages().iter().filter(|page| page.path.starts_with("docs") || page.path.ends_with("README.md")) {
        for (line, span) in page.spans() {
            // `rollout.keep` and the like: names of tables and keys, joined by dots.
            let parts: Vec<&str> = span.split('.').collect();
            let plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if parts.len() < 2 || !parts.iter().all(plain) || !reference.has_table(parts[0]) || FILES.contains(&&*span)
            {
                continue;
            }
            checked += 1;
            if !reference.has(&span) {
                wrong.push(format!("{}:{line}: no key is called {span}", page.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} keys are in the text");
}

#[test]
fn every_key_in_a_table_is_one_that_there_is() {
    let reference = Reference::read();
    let unit = fs::read_to_string(root().join("config/sluice.service")).unwrap();
    let exists = |key: &str| reference.has(key) || unit.lines().any(|line| line.starts_with(&format!("{key}=")));
    let pages = pages();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in &pages {
        for table in tables_of(page) {
            let Some(column) = table.head.iter().position(|head| ["key", "keys"].contains(&head.as_str())) else {
                continue;
            };
            for (line, row) in &table.rows {
                // Single signs are those of a keyboard.
                let keys = row.get(column).map(|cell| quoted(cell)).into_iter().flatten();
                for key in keys.filter(|key| key.chars().count() > 1) {
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

#[test]
fn every_default_in_the_text_is_the_default() {
    let reference = Reference::read();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages().iter().filter(|page| page.path.starts_with("docs")) {
        for (line, text) in page.lines() {
            // `drain.streams` (5 minutes)
            for (at, _) in text.match_indices("` (") {
                let key = text[..at].rsplit('`').next().unwrap();
                let said = text[at + 3..].split([')', ',', ';']).next().unwrap();
                let Some(default) =
                    reference.default_of(key).filter(|_| said.starts_with(|c: char| c.is_ascii_digit()))
                else {
                    continue;
                };
                checked += 1;
                let mut words = said.split_whitespace();
                let number = words.next().unwrap();
                let unit =
                    words.next().unwrap_or_default().chars().next().filter(|unit| ['s', 'm', 'h', 'd'].contains(unit));
                let short = number.to_owned() + unit.map(String::from).as_deref().unwrap_or_default();
                if number != default && short != default {
                    wrong.push(format!("{}:{line}: {key} is {default}, not {said}", page.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 4, "only {checked} defaults are in the text");
}
