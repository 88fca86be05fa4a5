//! Each kind of wrong configuration, and what it shows: `refused.txt`. A listener is added to each case that has none.
//!
//! `UPDATE_REFUSED=1 cargo test` writes what is shown now into the file; read the difference before you keep it.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::super::{load_str, render, render_coloured};
use super::{LISTENER, rendered, valid};

const CASES: &str = include_str!("refused.txt");

/// Title, input, and what it shows.
fn cases() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    CASES.split("=== ").skip(1).map(|case| {
        let (title, rest) = case.split_once('\n').unwrap();
        let (input, shows) = rest.split_once("--- shows\n").unwrap();
        (title, input, shows)
    })
}

fn shown(input: &str) -> String {
    let text =
        if input.contains("listener") || input.is_empty() { input.to_owned() } else { format!("{input}\n{LISTENER}") };
    let loaded = load_str(&text, Path::new("sluice.toml"));
    assert!(loaded.config.is_none(), "valid:\n{text}");
    rendered(&loaded)
}

#[test]
fn each_kind_of_error_is_shown_in_these_words() {
    if std::env::var_os("UPDATE_REFUSED").is_some() {
        let written = cases().fold(String::new(), |mut out, (title, input, _)| {
            write!(out, "=== {title}\n{input}--- shows\n{}", shown(input)).unwrap();
            out
        });
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/refused.txt");
        std::fs::write(path, written).unwrap();
        return;
    }
    assert!(cases().count() > 40);
    for (title, input, shows) in cases() {
        assert_eq!(shown(input), shows, "{title}");
    }
}

#[test]
fn colours_change_nothing_but_the_colours() {
    let loaded = load_str("worker = 1\n", Path::new("sluice.toml"));
    for problem in &loaded.problems {
        let coloured = render_coloured(problem);
        assert!(coloured.contains("\u{1b}["));
        let plain = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(plain, render(problem));
    }
}

#[test]
fn a_long_line_is_cut_around_the_column() {
    let many = "\"10.0.0.1:5001\", ".repeat(500);
    let text = format!("nodes = [{many}7, {many}]\n");
    let loaded = load_str(&format!("[service.a]\nmatch = \"*\"\n{text}{LISTENER}"), Path::new("s"));
    // The same address 1,000 times is 999 more problems.
    let wrong = loaded.problems.iter().find(|problem| problem.message.contains("found")).unwrap();
    assert_eq!((wrong.line, wrong.column), (3, 10 + 17 * 500));
    let shown = render(wrong);
    let lines: Vec<&str> = shown.lines().collect();
    let caret = lines[2].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[1].chars().nth(caret), Some('7'), "{shown}");
    assert!(lines[1].chars().count() < 180, "{shown}");
    assert!(lines[1].contains("| …") && lines[1].ends_with('…'), "{shown}");
}

#[test]
fn problems_beyond_a_thousand_are_counted() {
    let text = (0..1500).fold(String::new(), |mut out, n| {
        writeln!(out, "key_{n} = 1").unwrap();
        out
    });
    let loaded = load_str(&(text + LISTENER), Path::new("sluice.toml"));
    assert_eq!(loaded.problems.len(), 1001);
    assert_eq!(loaded.problems[1000].message, "500 more errors are not listed");
}

#[test]
fn a_file_with_windows_line_ends_and_a_byte_order_mark_is_read() {
    let text = format!("\u{feff}workers = 2\n{LISTENER}").replace('\n', "\r\n");
    assert_eq!(valid(&text).workers, Some(2));
    let loaded = load_str("workers = 2\r\nx = 1\r\n", Path::new("sluice.toml"));
    let problem = &loaded.problems[1];
    assert_eq!((problem.line, problem.column, problem.text.as_str()), (2, 1, "x = 1"));
}

#[test]
fn a_file_that_nests_without_end_is_refused() {
    let table = format!("{}a = 1", "a.".repeat(100_000));
    let list = format!("a = {}", "[".repeat(100_000));
    for text in [table, list] {
        let loaded = load_str(&text, Path::new("sluice.toml"));
        assert!(loaded.config.is_none() && !loaded.problems.is_empty());
    }
}

/// Texts that look like a configuration, so that the tests get past the TOML parser.
fn lookalike() -> impl Strategy<Value = String> {
    let keys = "include|listener|service|admin|limits|match|nodes|versions|release|health|path|status|header|rollout|steps|x|\
        access|rate|redirect|rewrite|basic_auth|forward_auth|request_headers|errors|compression|by|from|to|set|users";
    let line = prop_oneof![
        (keys, "\"[^\"\n\\\\]{0,20}\"|-?[0-9]{1,20}|true|1\\.5|\\[\\]|\\[\"[a-z*/:.\\[]{0,9}\", 200\\]|\\{\\}")
            .prop_map(|(key, value)| format!("{key} = {value}")),
        (keys, keys, keys).prop_map(|(a, b, c)| format!("[{a}.{b}.{c}]")),
        (keys, keys).prop_map(|(a, b)| format!("[{a}.{b}]")),
        Just("[[listener]]".to_owned()),
        "\\PC{0,30}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        for problem in load_str(&text, Path::new("s")).problems {
            render(&problem);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for problem in load_str(&String::from_utf8_lossy(&bytes), Path::new("s")).problems {
            render(&problem);
        }
    }

    #[test]
    fn nothing_that_looks_like_a_configuration_makes_it_panic(text in lookalike()) {
        let loaded = load_str(&text, Path::new("s"));
        prop_assert_eq!(loaded.config.is_none(), !loaded.problems.is_empty());
        for problem in loaded.problems {
            render(&problem);
        }
    }
}
