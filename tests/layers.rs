//! The map in `src/lib.rs`, enforced: imports point down, files stay small, pure modules stay pure.

use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this hides two ideas.
const MOST_LINES: usize = 450;

/// The layers, lowest first; modules in one row are siblings and do not know each other, but for [`EXCEPTIONS`].
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["config", "api", "telemetry"],
    &["pool", "rollout", "net"],
    &["proxy", "control", "admin"],
    &["app", "cli"],
];

/// Siblings that may be used: who, whom, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("config", "api", "`api::Problem` is what both the loader and the admin API call an error in a file"),
    (
        "pool",
        "net",
        "a node and a listener carry the TLS that is spoken with them; it is made for them by the control plane",
    ),
    ("cli", "app", "the verb `run` starts the wiring"),
];

/// No clock, no randomness, no files, no runtime in here: all of them are arguments.
const PURE: &[&str] =
    &["model.rs", "config/validate.rs", "rollout/", "pool/router.rs", "pool/balance.rs", "pool/snapshot.rs"];
const IMPURE: &[&str] = &["Instant::now", "SystemTime::now", "tokio::time", "std::fs", "fastrand::"];

struct Source {
    /// Below `src` or `tests`.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, base: &Path, found: &mut Vec<Source>) {
        let mut entries: Vec<_> =
            fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, base, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(base).expect("a path below").to_string_lossy().into_owned();
                found.push(Source { path: below, text: fs::read_to_string(&path).expect("UTF-8") });
            }
        }
    }
    let base = root().join(folder);
    let mut found = Vec::new();
    walk(&base, &base, &mut found);
    assert!(!found.is_empty(), "nothing in {folder}");
    found
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The module that a file of `src` belongs to; `None` for the crate's roots, which may see everything.
fn module_of(path: &str) -> Option<&str> {
    if path == "lib.rs" || path == "main.rs" {
        return None;
    }
    path.split('/').next().map(|first| first.trim_end_matches(".rs"))
}

/// The modules that a line names with `crate::`, in `use crate::{a, b::c}` too.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let Some(group) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    found.push(word(&group[start..index]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(word(&group[start..index]));
                    start = index + 1;
                }
                _ => {}
            }
        }
    }
    found.retain(|module| !module.is_empty());
    found
}

/// A file's lines with their numbers, without its `#[cfg(test)]` items.
fn production(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut skipped: Option<(usize, bool)> = None;
    for (index, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            skipped = Some((0, false));
            continue;
        }
        let Some((depth, begun)) = &mut skipped else {
            lines.push((index + 1, line));
            continue;
        };
        *begun |= line.contains('{') || line.trim_end().ends_with(';');
        *depth = (*depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        if *begun && *depth == 0 {
            skipped = None;
        }
    }
    lines
}

/// What is wrong with the imports of one file of `src`.
fn wrong_imports(source: &Source) -> Vec<String> {
    let Some(own) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some(layer) = layer_of(own) else {
        return vec![format!("src/{}: the module `{own}` has no layer in tests/layers.rs", source.path)];
    };
    let mut wrong = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for used in named(line) {
            let place = format!("src/{}:{}", source.path, number + 1);
            match layer_of(&used) {
                _ if used == own => {}
                None => wrong.push(format!("{place}: `crate::{used}` has no layer in tests/layers.rs")),
                Some(below) if below < layer => {}
                Some(_) if EXCEPTIONS.iter().any(|(who, whom, _)| *who == own && *whom == used) => {}
                Some(_) => wrong.push(format!("{place}: `{own}` must not use `{used}`: {}", line.trim())),
            }
        }
    }
    wrong
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_point_down() {
    assert_none(sources("src").iter().flat_map(wrong_imports).collect());
}

#[test]
fn every_import_up_or_sideways_is_found() {
    for (path, line) in [
        ("pool/node.rs", "use crate::proxy::start;"),
        ("pool/node.rs", "use crate::rollout;"),
        ("model.rs", "    let x = crate::config::load();"),
        ("proxy/body.rs", "use crate::{model::Share, control::Plan};"),
        ("proxy/body.rs", "use crate::{pool::{Node, Pool}, admin};"),
        ("api/report.rs", "use crate::config::Config;"),
        ("odd.rs", "use crate::model;"),
    ] {
        let source = Source { path: path.to_owned(), text: format!("//! Doc.\n{line}\n") };
        assert_eq!(wrong_imports(&source).len(), 1, "{path}: {line}");
    }
    let fine = "use crate::{model::Share, pool::{Node, Pool}};\nuse crate::proxy::view; // crate::control\n";
    let source = Source { path: "proxy/body.rs".to_owned(), text: fine.to_owned() };
    assert_eq!(wrong_imports(&source), Vec::<String>::new());
}

#[test]
fn pure_modules_take_time_randomness_and_files_as_arguments() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let tests = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
        if tests || !PURE.iter().any(|pure| source.path.starts_with(pure)) {
            continue;
        }
        for (number, line) in production(&source.text) {
            for word in IMPURE {
                if line.split("//").next().unwrap_or_default().contains(word) {
                    wrong.push(format!("src/{}:{number}: `{word}` in a pure module", source.path));
                }
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn tests_inside_a_file_are_not_taken_for_the_file() {
    let text = "fn a() {\n}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
    let numbers: Vec<usize> = production(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [1, 2, 8, 11]);
}

#[test]
fn files_stay_small() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            let lines = source.text.lines().count();
            if lines > MOST_LINES {
                wrong.push(format!("{folder}/{}: {lines} lines, at most {MOST_LINES}", source.path));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words =
        ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!", "unimplemented".to_owned() + "!"];
    let bare_ignore = "#[ignore".to_owned() + "]";
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            for (number, line) in source.text.lines().enumerate() {
                let place = format!("{folder}/{}:{}", source.path, number + 1);
                if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                    wrong.push(format!("{place}: {word}"));
                }
                if line.contains(&bare_ignore) {
                    wrong.push(format!("{place}: a test is ignored without a reason"));
                }
            }
        }
    }
    assert_none(wrong);
}
