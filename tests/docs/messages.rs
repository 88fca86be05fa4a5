//! Messages that `docs/troubleshooting.md` quotes: each is one that the program has.

use std::fs;
use std::path::Path;

use crate::root;

/// What the operating system says.
const FOREIGN: [&str; 2] = ["Address already in use", "Permission denied"];

/// All sources in one, with strings that go over a line's end put together.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines().filter(|line| !line.trim_start().starts_with("//")) {
                let part = line.strip_suffix('\\');
                all.push_str(part.unwrap_or(line).trim_start());
                if part.is_none() {
                    all.push('\n');
                }
            }
        }
    }
}

/// The messages that the page quotes: what is set in italics, and the first cells of tables whose head begins with "it says".
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut says = false;
    for line in text.lines() {
        if line.starts_with('|') {
            says |= line.starts_with("| it says |");
            if says {
                found.extend(line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).map(str::to_owned));
            }
            continue;
        }
        says = false;
        let plain: String = line.trim_start_matches("- ").replace("**", "").split('`').step_by(2).collect();
        found.extend(plain.split('*').skip(1).step_by(2).map(str::to_owned));
    }
    found
}

#[test]
fn every_message_quoted_is_one_that_there_is() {
    let mut all = String::new();
    sources(&root().join("src"), &mut all);
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let messages = quoted(&page);
    assert!(messages.len() > 12, "only {} messages: {messages:?}", messages.len());
    let mut wrong = Vec::new();
    for message in messages.iter().filter(|message| !FOREIGN.contains(&message.as_str())) {
        // Numbers and `…` stand for what differs.
        let parts =
            message.split(|c: char| c == '…' || c.is_ascii_digit()).map(|part| part.trim_matches([' ', '/', '(', ')']));
        for part in parts.filter(|part| part.len() > 3 && !all.contains(part)) {
            wrong.push(format!("`{message}`: nothing in src says `{part}`"));
        }
    }
    assert!(wrong.is_empty(), "docs/troubleshooting.md quotes what is not said:\n{}", wrong.join("\n"));
}
