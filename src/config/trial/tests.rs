//! What is taken and what is refused of a service's trial.

use std::path::Path;
use std::time::Duration;

use super::super::{HashBy, load, load_str};
use super::*;
use crate::model::Share;

const BASE: &str =
    "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[service.a]\nmatch = \"*\"\nnodes = [\"a:1\"]\n";

fn trial(text: &str) -> Trial {
    let loaded = load_str(&format!("{BASE}{text}"), Path::new("s"));
    assert_eq!(loaded.problems, [], "{text}");
    Trial::clone(loaded.config.unwrap().services["a"].trial.as_ref().expect("a trial"))
}

fn problems(text: &str) -> Vec<String> {
    load_str(&format!("{BASE}{text}"), Path::new("s")).problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_service_without_these_sections_has_no_trial_and_empty_ones_have_defaults() {
    assert!(load_str(BASE, Path::new("s")).config.unwrap().services["a"].trial.is_none());
    let trial = trial("cohort = {}\nshadow = {}\n");
    assert_eq!(trial.cohort.unwrap().by, CohortBy::Own(OwnCookie::default()));
    assert_eq!(trial.shadow, Some(Shadow::default()));
}

#[test]
fn cohorts_are_told_by_sluices_own_cookie_or_by_what_is_there() {
    let by = |text: &str| trial(text).cohort.unwrap().by;
    assert_eq!(by("cohort.by = \"client\""), CohortBy::Key(HashBy::Client));
    assert_eq!(by("cohort.by = \"cookie session\""), CohortBy::Key(HashBy::Cookie("session".into())));
    assert_eq!(by("cohort.by = \"header X-User\""), CohortBy::Key(HashBy::Header("x-user".parse().unwrap())));
    let own = OwnCookie { name: Some("c".into()), max_age: Duration::ZERO, secret: None };
    assert_eq!(by("cohort = { by = \"cookie\", name = \"c\", max_age = \"session\" }"), CohortBy::Own(own));
    assert_eq!(problems("cohort.by = \"magic\"").len(), 1);
    assert_eq!(problems("cohort = { by = \"client\", name = \"c\", max_age = \"1d\" }").len(), 2);
    assert_eq!(problems("cohort = { name = \"a b\", max_age = \"0s\", assets = [\"x\", \"/a*\"] }").len(), 4);
}

#[test]
fn assets_are_whole_segments_of_a_path() {
    let cohort = trial("cohort.assets = [\"/assets\", \"/static/v/\"]").cohort.unwrap();
    for (path, is) in [
        ("/assets", true),
        ("/assets/a.css", true),
        ("/assetsx", false),
        ("/static", false),
        ("/static/v", true),
        ("/static/v/1", true),
        ("/", false),
    ] {
        assert_eq!(cohort.is_asset(path), is, "{path}");
    }
    assert!(trial("cohort.assets = [\"/\"]").cohort.unwrap().is_asset("/any/thing"));
}

#[test]
fn a_preview_needs_a_secret_that_cannot_be_guessed_and_is_never_shown() {
    let preview = trial("preview = { by = \"cookie peek\", secret = \"0123456789abcdef\" }").preview.unwrap();
    assert_eq!(preview.by, PreviewBy::Cookie("peek".into()));
    assert!(preview.secrets[0].is(b"0123456789abcdef") && !preview.secrets[0].is(b"0123456789abcdeF"));
    assert!(!format!("{preview:?}").contains("0123456789"));
    assert_eq!(problems("preview = {}"), ["this preview has no `secret`: everybody could see the version on trial"]);
    for by in ["client", "header", "header Host", "header Content-Length", "cookie a;b", "header X Y"] {
        assert_eq!(problems(&format!("preview = {{ by = \"{by}\", secret = \"0123456789abcdef\" }}")).len(), 1, "{by}");
    }
    for secret in ["short", "0123456789 abcdef", "0123456789abcdeé"] {
        let text = format!("{BASE}preview = {{ secret = \"{secret}\" }}\n");
        let loaded = load_str(&text, Path::new("s"));
        assert_eq!(loaded.problems.len(), 1, "{secret}");
        assert!(!format!("{:?}", loaded.problems).contains(secret), "{:?}", loaded.problems);
    }
}

#[test]
fn a_secret_in_a_file_is_read_with_the_configuration_and_opens_nothing_before() {
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (dir.path().join("sluice.toml"), dir.path().join("preview.secret"));
    let text = format!("{BASE}preview.secret_file = \"preview.secret\"\ncohort.secret_file = \"preview.secret\"\n");
    std::fs::write(&file, &text).unwrap();
    let missing = load(&file);
    assert!(missing.config.is_none() && missing.problems.len() == 2, "{:?}", missing.problems);
    std::fs::write(&secret, "too short\n").unwrap();
    assert!(load(&file).config.is_none());
    std::fs::write(&secret, "0123456789abcdef\n").unwrap();
    let loaded = load(&file);
    assert!(loaded.files.contains(&secret), "an edit to it is an edit");
    let config = loaded.config.unwrap();
    let trial = config.services["a"].trial.as_ref().unwrap();
    assert!(trial.preview.as_ref().unwrap().secrets[0].is(b"0123456789abcdef"));
    let CohortBy::Own(own) = &trial.cohort.as_ref().unwrap().by else { panic!("another key") };
    assert_eq!(own.secret.as_ref().and_then(Secret::bytes), Some(&b"0123456789abcdef"[..]));
    // Without the disk, nothing is known, and nothing opens.
    let unread = super::super::load_str(&text, Path::new("s")).config.unwrap();
    let unread = unread.services["a"].trial.as_ref().unwrap().preview.as_ref().unwrap().secrets[0].clone();
    assert!(!unread.is(b"") && !unread.is(b"0123456789abcdef") && unread.bytes().is_none());
}

#[test]
fn a_shadow_has_a_share_a_bound_and_a_deadline() {
    let shadow = trial("shadow = { share = \"0.25%\", most = 4, timeout = \"1s\" }").shadow.unwrap();
    assert_eq!(shadow, Shadow { share: Share(25), most: 4, timeout: Duration::from_secs(1) });
    for wrong in
        ["share = \"0%\"", "share = \"101%\"", "share = \"0.001%\"", "most = 0", "timeout = \"0s\"", "path = \"/\""]
    {
        assert_eq!(problems(&format!("shadow = {{ {wrong} }}")).len(), 1, "{wrong}");
    }
}
