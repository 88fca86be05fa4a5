//! Edits of a configuration file, text to text. Pure.
//!
//! toml_edit only tells where things stand; the new parts are spliced into the text, so that every other byte stays what it was:
//! comments, order, spacing, line ends. After that the result is parsed and compared with what it should say. A layout that
//! was not foreseen is therefore refused, never damaged.

use std::ops::Range;

use toml_edit::{Document, InlineTable, Item, Key, TableLike, Value};

/// Why a file cannot be edited; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not TOML.
    #[error("the file is not valid TOML:\n{0}")]
    Syntax(String),
    /// It does not define the service.
    #[error("the file does not define the service `{service}`{}", hint(.known))]
    NoService {
        /// What was looked for.
        service: String,
        /// What it does define.
        known: Vec<String>,
    },
    /// A version was named, but the service has none.
    #[error(
        "service `{service}` lists its `nodes` without versions: leave --version out to replace that list. To name versions, write\n\n  [service.{service}]\n  release = \"{version}\"\n\n  [service.{service}.versions]\n  {version} = […]\n\nin place of `nodes`"
    )]
    ShortForm {
        /// The service.
        service: String,
        /// The version that was named.
        version: String,
    },
    /// No version was named, but the service has some.
    #[error("service `{0}` has named versions: say which one with --version")]
    VersionNeeded(String),
    /// The nodes of a new version, or the new nodes of the short form, were not named.
    #[error("{0}: name its nodes with --node")]
    NodesNeeded(String),
    /// Not a name for a version.
    #[error("`{0}` cannot be the name of a version")]
    BadVersion(String),
    /// A part has another type than it should have, or is missing.
    #[error("in service `{service}`, {what}; `sluice check` shows the place")]
    Invalid {
        /// The service.
        service: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A layout that this edit does not understand.
    #[error(
        "service `{0}` is written in a way that cannot be edited safely: edit the file by hand, then `sluice wait {0}`"
    )]
    Layout(String),
}

fn hint(known: &[String]) -> String {
    match known {
        [] => String::new(),
        names => format!("; it defines {}", names.join(", ")),
    }
}

/// What a file says about one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `release`, or the only version, which need not be named.
    pub release: Option<String>,
    /// `versions`, by name.
    pub versions: Vec<(String, Vec<String>)>,
    /// `nodes`, the short form.
    pub nodes: Option<Vec<String>>,
}

/// Reads what the file says about a service.
pub fn read(text: &str, service: &str) -> Result<Written, EditError> {
    let document = parse(text)?;
    let (_, table) = find(&document, service)?;
    let list = |item: &Item| -> Vec<String> {
        let array = item.as_array().into_iter().flatten();
        array.filter_map(address).map(str::to_owned).collect()
    };
    let versions: Vec<_> = table
        .get("versions")
        .and_then(Item::as_table_like)
        .into_iter()
        .flat_map(TableLike::iter)
        .map(|(name, nodes)| (name.to_owned(), list(nodes)))
        .collect();
    let release = table.get("release").and_then(Item::as_str);
    Ok(Written {
        release: match (release, &versions[..]) {
            (Some(release), _) => Some(release.to_owned()),
            (None, [(only, _)]) => Some(only.clone()),
            (None, _) => None,
        },
        versions,
        nodes: table.get("nodes").map(list),
    })
}

/// Makes `version` the release of `service`, and `nodes` its nodes. With a version that the file has, `nodes` may be empty:
/// then they stay. Without a version (the short form), `nodes` replaces the list. Older versions are not removed.
pub fn set_release(text: &str, service: &str, version: Option<&str>, nodes: &[String]) -> Result<String, EditError> {
    let document = parse(text)?;
    let (item, table) = find(&document, service)?;
    let layout = || EditError::Layout(service.to_owned());
    let mut splices = Vec::new();

    match (version, table.get("nodes")) {
        (Some(version), Some(_)) => {
            return Err(EditError::ShortForm { service: service.to_owned(), version: version.to_owned() });
        }
        (None, None) => return Err(EditError::VersionNeeded(service.to_owned())),
        (None, Some(item)) => {
            if nodes.is_empty() {
                return Err(EditError::NodesNeeded(format!("service `{service}`")));
            }
            splices.extend(replace_list(text, item, nodes).ok_or_else(layout)?);
        }
        (Some(version), None) => {
            if matches!(version, "" | "-") || version.chars().any(char::is_control) {
                return Err(EditError::BadVersion(version.to_owned()));
            }
            let invalid = |what| EditError::Invalid { service: service.to_owned(), what };
            match table.get("release") {
                Some(release) if release.as_str() == Some(version) => {}
                Some(release) => {
                    splices.push((release.span().ok_or_else(layout)?, quoted(version)));
                }
                // A service with one version need not say so. With two it must.
                None => {
                    let entry = format!("release = {}", quoted(version));
                    splices.push(add(text, item, table, &entry).ok_or_else(layout)?);
                }
            }
            let item = table.get("versions").ok_or_else(|| invalid("`versions` is missing"))?;
            let versions = item.as_table_like().ok_or_else(|| invalid("`versions` is not a table"))?;
            match versions.get(version) {
                Some(_) if nodes.is_empty() => {}
                Some(list) => splices.extend(replace_list(text, list, nodes).ok_or_else(layout)?),
                None if nodes.is_empty() => {
                    return Err(EditError::NodesNeeded(format!(
                        "version `{version}` of service `{service}` is not in the file"
                    )));
                }
                None => {
                    let entry = format!("{} = {}", Key::new(version).display_repr(), list(nodes));
                    splices.push(add(text, item, versions, &entry).ok_or_else(layout)?);
                }
            }
        }
    }

    splices.sort_by_key(|(at, _)| std::cmp::Reverse(at.start));
    let mut edited = text.to_owned();
    for (at, with) in splices {
        if edited.get(at.clone()).is_none() {
            return Err(layout());
        }
        edited.replace_range(at, &with);
    }
    if says(&edited) == expected(text, service, version, nodes) && says(&edited).is_some() {
        Ok(edited)
    } else {
        Err(layout())
    }
}

fn parse(text: &str) -> Result<Document<&str>, EditError> {
    Document::parse(text).map_err(|error| EditError::Syntax(error.to_string().trim_end().into()))
}

fn find<'d>(document: &'d Document<&str>, service: &str) -> Result<(&'d Item, &'d dyn TableLike), EditError> {
    let services = document.as_table().get("service").and_then(Item::as_table_like);
    services.and_then(|services| services.get(service)).and_then(|item| Some((item, item.as_table_like()?))).ok_or_else(
        || EditError::NoService {
            service: service.to_owned(),
            known: services.into_iter().flat_map(TableLike::iter).map(|(name, _)| name.to_owned()).collect(),
        },
    )
}

/// Takes one service back to what was written `before`, in a text whose other parts have changed since. Nothing changes if the
/// service does not say what was written `after` any more. An added version stays listed; that alone starts nothing.
pub fn undo(text: &str, service: &str, before: &Written, after: &Written) -> Result<String, EditError> {
    if read(text, service)? != *after {
        return Ok(text.to_owned());
    }
    if let Some(nodes) = &before.nodes {
        return set_release(text, service, None, nodes);
    }
    let Some(release) = &before.release else {
        return Ok(text.to_owned());
    };
    let nodes = before.versions.iter().find(|(name, _)| name == release);
    set_release(text, service, Some(release), nodes.map_or(&[], |(_, nodes)| nodes))
}

/// The address of a node as it is listed: a string, or a table that says more of it.
fn address(item: &Value) -> Option<&str> {
    item.as_str().or_else(|| item.as_inline_table()?.get("address")?.as_str())
}

/// What to put where.
type Splice = (Range<usize>, String);

/// Nothing to do if the list says that already; none if it is no list.
fn replace_list(text: &str, item: &Item, nodes: &[String]) -> Option<Vec<Splice>> {
    let array = item.as_array()?;
    let wanted = nodes.iter().map(|node| Some(node.as_str()));
    if array.iter().map(address).eq(wanted) {
        return Some(Vec::new());
    }
    let old = |node: &String| array.iter().find(|old| address(old) == Some(node));
    let span = item.span()?;
    let with = match array.get(0).and_then(Value::span) {
        // A list with a node a line stays one, and a node that stays keeps its line.
        Some(first) if text.get(span.start..first.start)?.contains('\n') => {
            let end = line_end(text);
            let indent = indentation(text, first.start);
            let close = indentation(text, span.end);
            let mut lines = String::new();
            for node in nodes {
                let line = old(node).and_then(Value::span).and_then(|at| own_line(text, at));
                lines += &line.unwrap_or_else(|| format!("{indent}{},", kept(text, old(node), node)));
                lines += end;
            }
            format!("[{end}{lines}{close}]")
        }
        _ => {
            let nodes: Vec<String> = nodes.iter().map(|node| kept(text, old(node), node)).collect();
            format!("[{}]", nodes.join(", "))
        }
    };
    Some(vec![(span, with)])
}

/// A node as it is written already, with its weight; else just its address.
fn kept(text: &str, old: Option<&Value>, node: &str) -> String {
    let table = old.filter(|old| old.is_inline_table()).and_then(Value::span);
    table.and_then(|at| text.get(at)).map_or_else(|| quoted(node), str::to_owned)
}

/// The line of a value in a list, with its comment, if it has a line of its own; with a comma in any case.
fn own_line(text: &str, value: Range<usize>) -> Option<String> {
    let start = text.get(..value.start)?.rfind('\n')? + 1;
    let before = text.get(start..value.start)?;
    let behind = text.get(value.end..)?.lines().next()?;
    if !before.trim().is_empty() {
        return None;
    }
    let written = text.get(value)?;
    match behind.trim_start().chars().next() {
        None | Some('#') => Some(format!("{before}{written},{behind}")),
        // Another value behind the comma would come along.
        Some(',') => {
            let rest = behind.trim_start()[1..].trim_start();
            (rest.is_empty() || rest.starts_with('#')).then(|| format!("{before}{written}{behind}"))
        }
        Some(_) => None,
    }
}

/// Adds an entry behind the table's last one, written as its neighbours are.
fn add(text: &str, item: &Item, table: &dyn TableLike, entry: &str) -> Option<Splice> {
    let last = table
        .iter()
        .filter_map(|(name, _)| {
            let (key, value) = table.get_key_value(name)?;
            // A table within has its own place, which may be far away.
            let plain = value.is_value() && !value.as_inline_table().is_some_and(InlineTable::is_dotted);
            plain.then_some((key.span()?, value.span()?))
        })
        .max_by_key(|(_, value)| value.end);

    if let Some(inline) = item.as_inline_table() {
        return if let Some((key, value)) = last {
            let path = if inline.is_dotted() {
                // `versions.v1 = […]` inside a service that is written inline: repeat the path.
                let before = text.get(..key.start)?;
                let from = before.rfind(['{', ',', '\n']).map_or(0, |at| at + 1);
                before.get(from..)?.trim_start()
            } else {
                ""
            };
            Some((value.end..value.end, format!(", {path}{entry}")))
        } else {
            let inside = inline.span()?.start + 1;
            Some((inside..inside, format!(" {entry} ")))
        };
    }
    let (line, path) = match last {
        Some((key, value)) => {
            let line = text.get(..key.start)?.rfind('\n').map_or(0, |at| at + 1);
            // The indentation, or `versions.` and the like if the table is written with dotted keys.
            (value.end, text.get(line..key.start)?)
        }
        None => (item.as_table()?.span()?.end, ""),
    };
    let end = line_end(text);
    Some(match text.get(line..)?.find('\n') {
        Some(at) => {
            let next = line + at + 1;
            (next..next, format!("{path}{entry}{end}"))
        }
        None => (text.len()..text.len(), format!("{end}{path}{entry}{end}")),
    })
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(nodes: &[String]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| quoted(node)).collect();
    format!("[{}]", nodes.join(", "))
}

/// The white space that the line of this place begins with.
fn indentation(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or("");
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    &line[..line.len() - line.trim_start().len()]
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn says(text: &str) -> Option<toml::Table> {
    text.parse().ok()
}

/// What the edited file should say.
fn expected(text: &str, service: &str, version: Option<&str>, nodes: &[String]) -> Option<toml::Table> {
    let mut all = says(text)?;
    let table = all.get_mut("service")?.get_mut(service)?.as_table_mut()?;
    // A node that stays keeps what is said of it.
    let list = |before: Option<&toml::Value>| {
        let before = before.and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let address = |old: &toml::Value| old.as_str().or_else(|| old.get("address")?.as_str()).map(str::to_owned);
        let node = |node: &String| {
            let old = before.iter().find(|old| address(old).as_ref() == Some(node));
            old.cloned().unwrap_or_else(|| node.as_str().into())
        };
        toml::Value::Array(nodes.iter().map(node).collect())
    };
    match version {
        None => {
            let list = list(table.get("nodes"));
            table.insert("nodes".into(), list);
        }
        Some(version) => {
            table.insert("release".into(), version.into());
            if !nodes.is_empty() {
                let versions = table.get_mut("versions")?.as_table_mut()?;
                let list = list(versions.get(version));
                versions.insert(version.into(), list);
            }
        }
    }
    Some(all)
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
