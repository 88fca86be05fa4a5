//! Verbs and flags in running text: each is one that there is. `docs/verbs.md` is what the command line itself says; another
//! test holds it to that.

use std::collections::BTreeMap;
use std::fs;

use crate::page::pages;
use crate::root;

/// Verbs that are told of because they are not there, or are no verb.
const OTHERS: [&str; 3] = ["upgrade", "VERB", "help"];

/// What `docs/verbs.md` says of each verb.
fn verbs() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("docs/verbs.md")).unwrap();
    let sections = text.split("\n## ").skip(1);
    sections.filter_map(|section| section.split_once('\n')).map(|(verb, said)| (verb.into(), said.into())).collect()
}

#[test]
fn every_verb_and_flag_in_the_text_is_one_that_there_is() {
    let verbs = verbs();
    assert!(verbs.len() > 15, "docs/verbs.md is not read any more: {:?}", verbs.keys());
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for (line, span) in page.spans() {
            let Some(command) = span.strip_prefix("sluice ") else { continue };
            let mut words = command.split_whitespace();
            let verb = words.next().unwrap_or_default();
            if OTHERS.contains(&verb) || verb.starts_with('-') {
                continue;
            }
            checked += 1;
            let place = format!("{}:{line}: `{span}`", page.path.display());
            let Some(said) = verbs.get(verb) else {
                wrong.push(format!("{place}: no verb is called {verb}"));
                continue;
            };
            for flag in words.filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                if !said.lines().any(|line| line.split([' ', ',', '=']).any(|word| word == flag)) {
                    wrong.push(format!("{place}: {verb} has no {flag}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 50, "only {checked} commands are in the text");
}
