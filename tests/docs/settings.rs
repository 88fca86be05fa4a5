//! Configurations that are shown: each is loaded, completed by what it leaves out.

use sluicegate::config::load_str;
use toml_edit::{DocumentMut, Item, Table, value};

use crate::page::{Block, pages};
use crate::root;

/// Blocks that say they are no configuration. Each is one that nobody checks.
const FRAGMENTS: usize = 2;

#[test]
fn every_configuration_shown_is_valid() {
    let pages = pages();
    let mut wrong = Vec::new();
    let (mut checked, mut fragments) = (0, 0);
    for page in &pages {
        for block in page.blocks.iter().filter(|block| block.language() == "toml") {
            if block.is_marked("fragment") {
                fragments += 1;
                continue;
            }
            checked += 1;
            if let Err(why) = check(block) {
                wrong.push(format!("{}:{}: {why}", page.path.display(), block.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 0, "no configuration is shown");
    assert!(fragments <= FRAGMENTS, "{fragments} blocks of TOML are marked `fragment`");
}

fn check(block: &Block) -> Result<(), String> {
    let mut file: DocumentMut = block.text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    complete(&mut file);
    let loaded = load_str(&file.to_string(), &root().join("config/shown.toml"));
    let problems: Vec<String> = loaded
        .problems
        .iter()
        .map(|problem| {
            format!("{}: {} {}", problem.text.trim(), problem.message, problem.hint.as_deref().unwrap_or(""))
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Adds a listener, a host and nodes where a part of a configuration does without.
fn complete(file: &mut DocumentMut) {
    if !file.contains_key("listener") {
        let mut listener = Table::new();
        listener["name"] = value("http");
        listener["bind"] = value("127.0.0.1:8080");
        let mut list = toml_edit::ArrayOfTables::new();
        list.push(listener);
        file["listener"] = Item::ArrayOfTables(list);
    }
    let Some(services) = file.get_mut("service").and_then(Item::as_table_like_mut) else { return };
    for (name, service) in services.iter_mut() {
        let Some(service) = service.as_table_like_mut() else { continue };
        if !service.contains_key("match") {
            service.insert("match", value(format!("{}.example.com", name.get())));
        }
        if !service.contains_key("nodes") && !service.contains_key("versions") {
            let release = service.get("release").and_then(Item::as_str).unwrap_or("v1").to_owned();
            let mut versions = Table::new();
            versions[&release] = value(toml_edit::Array::from_iter(["127.0.0.1:5001"]));
            service.insert("versions", Item::Table(versions));
        }
    }
}
