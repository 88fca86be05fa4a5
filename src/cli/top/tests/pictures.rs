//! Whole screens, as they are seen. Those of 80×24 stand in `docs/top.md`, the others beside this file.
//! `UPDATE_DOCS=1 cargo test pictures` writes them; look at them then.

use std::fs;
use std::path::PathBuf;

use super::super::app::Page;
use super::*;
use crate::api::{ListenerStatus, Problem, Steered, Steering};

fn compare(path: &str, written: &str, drawn: &str) {
    let same = written.lines().zip(drawn.lines()).find(|(written, drawn)| written != drawn);
    assert_eq!(same, None, "{path} differs; UPDATE_DOCS=1 writes it");
    assert_eq!(written.trim_end(), drawn.trim_end(), "{path} differs; UPDATE_DOCS=1 writes it");
}

/// A file with nothing but this screen.
fn in_file(name: &str, drawn: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/cli/top/tests").join(name);
    let drawn = format!("{}\n", drawn.trim_end());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    compare(name, &fs::read_to_string(&path).unwrap_or_default(), &drawn);
}

/// The block of `docs/top.md` behind this comment.
fn in_document(name: &str, drawn: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/top.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- drawn by a test: {name} -->\n```text\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/top.md has no {begin}"));
    let (written, after) = rest.split_once("\n```").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, format!("{before}{begin}{drawn}\n```{after}")).unwrap();
    }
    compare(name, written, drawn);
}

fn open(app: &mut App, name: &str) {
    app.page = Page::Service(name.into());
    let mut past = entry("v0", "v1", &["10.0.0.5:5001"], Outcome::Done);
    past.strategy = "canary".into();
    past.reason = "v1 serves on 2 nodes, every other node is drained".into();
    past.steered =
        vec![Steered { at: Timestamp(NOW.0 - 70_000), steering: Steering::Promote, by: "uid 1000 (ada)".into() }];
    let mut failed = entry("v1", "v2", &["10.0.0.5:5002"], Outcome::RolledBack);
    failed.reason = "the guard sent v2 back: it failed 9 of 17 requests".into();
    app.history = Some((name.into(), vec![failed, past]));
}

fn broken() -> Status {
    let mut status = morning();
    status.config.stale = true;
    status.config.problems = vec![Problem {
        path: "/etc/sluice/shop.toml".into(),
        line: 14,
        column: 8,
        text: "share = \"250%\"".into(),
        width: 6,
        message: "a share is from 0% to 100%".into(),
        hint: Some("write \"25%\"".into()),
    }];
    status.journal = Some("no space left on device".into());
    status.listeners = vec![ListenerStatus {
        name: "http".into(),
        address: "0.0.0.0:80".into(),
        error: Some("address in use".into()),
    }];
    status
}

#[test]
fn the_first_page() {
    let mut app = looked(morning());
    in_document("services", &screen(&mut app, 80, 24));
    in_file("services_120x40.txt", &screen(&mut app, 120, 40));
    in_file("services_40x10.txt", &screen(&mut app, 40, 10));
}

#[test]
fn the_page_of_a_service() {
    let mut app = looked(morning());
    open(&mut app, "shop");
    in_document("service", &screen(&mut app, 80, 48));
    in_file("service_80x24.txt", &screen(&mut app, 80, 24));
    in_file("service_120x40.txt", &screen(&mut app, 120, 40));
    in_file("service_40x10.txt", &screen(&mut app, 40, 10));
}

#[test]
fn trouble_of_the_whole_is_at_the_top_and_on_its_page() {
    let mut app = looked(broken());
    press(&mut app, "p");
    in_file("trouble_80x24.txt", &screen(&mut app, 80, 24));
    app.press(Key::Escape);
    press(&mut app, "c");
    in_file("problems_80x24.txt", &screen(&mut app, 80, 24));
    open(&mut app, "shop");
    assert!(screen(&mut app, 80, 60).contains("share = \"250%\"\n             ^^^^^^"), "{}", screen(&mut app, 80, 60));
    in_file("trouble_40x10.txt", &screen(&mut app, 40, 10));
}

#[test]
fn the_keys() {
    let mut app = looked(morning());
    press(&mut app, "?");
    in_file("help_80x24.txt", &screen(&mut app, 80, 24));
    app.press(Key::End);
    in_file("help_40x10.txt", &screen(&mut app, 40, 10));
}

#[test]
fn a_proxy_that_is_gone_cannot_be_missed_and_comes_back_by_itself() {
    let mut app = looked(morning());
    let why = "cannot reach the proxy: socket /run/sluice/sluice.sock: Connection refused (os error 111); is `sluice run` running?";
    app.failed(why.into());
    app.tick(Timestamp(NOW.0 + 12_000));
    app.failed(why.into());
    let gone = screen(&mut app, 80, 24);
    in_file("gone_80x24.txt", &gone);
    assert!(gone.contains("NO ANSWER FROM THE PROXY for 12s"), "{gone}");
    assert!(gone.contains("up 1h "), "its clock stands still: {gone}");
    let mut back = morning();
    back.now = Timestamp(NOW.0 + 13_000);
    app.answered(back, None);
    assert!(!screen(&mut app, 80, 24).contains("NO ANSWER"));
}

#[test]
fn without_colours_everything_is_still_told() {
    let mut colored = looked(broken());
    let mut plain = looked(broken());
    plain.look = Look { color: false };
    for keys in ["", "c", "c?", "?s"] {
        press(&mut colored, keys);
        press(&mut plain, keys);
        assert_eq!(screen(&mut colored, 80, 24), screen(&mut plain, 80, 24));
    }
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    draw(&mut plain, &mut buffer);
    let colors = |buffer: &Buffer| buffer.content().iter().any(|cell| cell.fg != ratatui::style::Color::Reset);
    assert!(!colors(&buffer));
    draw(&mut colored, &mut buffer);
    assert!(colors(&buffer));
}

#[test]
fn a_service_that_goes_while_it_is_open_is_said_to_be_gone() {
    let mut app = looked(morning());
    open(&mut app, "no-such");
    assert!(screen(&mut app, 80, 24).contains("There is no service no-such any more"));
    let mut app = App::new(Look { color: false });
    app.start_with("shop".into());
    assert!(!screen(&mut app, 80, 24).contains("any more"), "nothing is known yet");
}
