//! What a configuration would do.

use super::*;
use crate::control;

/// A proxy that runs this configuration.
fn running(folder: &Path, text: &str) -> Fake {
    let path = folder.join("running.toml");
    fs::write(&path, text).unwrap();
    let outline = control::outline(&crate::config::load(&path).config.unwrap());
    Fake::start(folder, move |request| {
        if *request == Request::Config {
            return Reply::Outline(Box::new(outline.clone()));
        }
        let mut all = status(vec![service("shop", &path)]);
        all.config.path.clone_from(&path);
        Reply::Status(Box::new(all))
    })
}

const RUNS: &str = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:8080\"\n[service.shop]\nmatch = \"*\"\nrelease = \"v1\"\n[service.shop.versions]\nv1 = [\"10.0.0.5:5001\"]\n";

fn plan(text: &str, more: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let fake = running(folder.path(), RUNS);
    let next = folder.path().join("next.toml");
    fs::write(&next, text).unwrap();
    let mut args = vec!["plan", "--config", next.to_str().unwrap()];
    args.extend(more);
    run_on(&fake.socket, &args, None)
}

#[test]
fn a_file_of_other_name_and_layout_that_says_the_same_changes_nothing() {
    let ran = plan(&format!("# a comment\n\n{RUNS}"), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("nothing would change"), "{}", ran.out);
}

#[test]
fn each_kind_of_change_is_told_in_its_words() {
    for (from, to, says) in [
        ("127.0.0.1:8080", "127.0.0.1:8081", "~ listener http moves from 127.0.0.1:8080 to 127.0.0.1:8081"),
        ("name = \"http\"", "name = \"front\"", "+ listener front opens on 127.0.0.1:8080"),
        ("[service.shop]", "[limits]\nconnections = 7\n[service.shop]", "~ limits of the proxy change"),
        ("[[listener]]", "workers = 3\n[[listener]]", "~ workers changes, but only counts from the next start"),
        ("service.shop", "service.blog", "- service shop is removed"),
        ("10.0.0.5:5001\"]", "10.0.0.5:5001\"]\nv3 = [\"a:1\"]", "~ v3 is known; it gets no traffic"),
        ("\"*\"", "\"a.test\"", "- answers for *"),
        ("[service.shop]", "[service.shop]\nhealth = { path = \"/x\" }", "~ settings: health"),
    ] {
        let ran = plan(&RUNS.replace(from, to), &[]);
        assert_eq!((ran.code, ran.err.as_str()), (8, ""), "{says}");
        assert!(ran.out.contains(says), "{says}\n{}", ran.out);
    }
}

#[test]
fn a_rollout_is_told_with_the_nodes_that_come_and_go_and_what_it_overtakes() {
    let text = RUNS.replace("\"v1\"", "\"v2\"") + "v2 = [\"10.0.0.7:5002\"]\n";
    let ran = plan(&text, &[]);
    for part in [
        "v2 takes over from v1 (rolling): each new node that becomes healthy takes the place of an old one",
        "+ 10.0.0.7:5002 (v2) joins",
        "- 10.0.0.5:5001 (v1) drains; 3 in flight now",
        "note: the rollout to v2 that is in progress is overtaken",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    let json: Value = serde_json::from_str(&plan(&text, &["--json"]).out).unwrap();
    assert_eq!(json["services"][0]["rollout"]["strategy"], "rolling");
}

#[test]
fn files_with_errors_are_exit_code_2_with_the_place() {
    let ran = plan(&RUNS.replace("release", "relese"), &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("next.toml:6:1"), "{}", ran.err);
    let ran = plan("[[", &["--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &json["changes"]), (2, &Value::from(false)));
    assert!(!json["problems"].as_array().unwrap().is_empty());
}
