//! Edits that are carried through: deploy and rollback.

use super::*;

#[test]
fn deploy_edits_the_file_waits_and_shows_each_change_once() {
    let scene = Scene::ending(Outcome::Done, "v2 serves; the nodes of v1 may be stopped");
    let ran = scene.deploy(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let edited = FILE.replace("\"v1\" # now", "\"v2\" # now") + "v2 = [\"10.0.0.5:5002\"]\n";
    assert_eq!(scene.text(), edited);
    assert_eq!(scene.asked_to_wait(), [Some("v2".to_owned())]);
    for part in [
        "  -release = \"v1\" # now",
        "  +release = \"v2\" # now",
        "  +v2 = [\"10.0.0.5:5002\"]",
        "rolling: 1 of 2 nodes of v2 serve",
        "node 10.0.0.6:5002 (v2) joining: passed 2 probes",
        "node 10.0.0.6:5002 (v2) serving: passed 2 probes",
    ] {
        assert_eq!(ran.out.matches(part).count(), 1, "{part}\n{}", ran.out);
    }
    assert!(ran.out.ends_with("v2 serves; the nodes of v1 may be stopped\n"));
}

#[test]
fn a_refused_or_rolled_back_version_is_taken_out_of_the_file() {
    for (outcome, code) in [(Outcome::Unhealthy, 3), (Outcome::RolledBack, 4)] {
        let scene = Scene::ending(outcome, "v2 never answered");
        let ran = scene.deploy(&[]);
        assert_eq!(ran.code, code);
        assert_eq!(scene.text(), FILE);
        assert!(ran.err.contains("error: v2 never answered"), "{}", ran.err);
        assert!(ran.err.contains("is put back as it was"), "{}", ran.err);
        assert_eq!(scene.fake.asked().last(), Some(&Request::Reload));
    }
}

#[test]
fn somebody_elses_edit_is_not_undone() {
    let scene = Scene::new(|source| {
        fs::write(source, "# mine\n").unwrap();
        ends(source, Outcome::Unhealthy, "no")
    });
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.text(), "# mine\n");
    assert!(ran.err.contains("changed by somebody else"), "{}", ran.err);
}

#[test]
fn another_service_in_the_same_file_keeps_its_edit() {
    const BLOG: &str = "\n[service.blog]\nnodes = [\"b:1\"]\n";
    let scene = Scene::new(|source| {
        let text = fs::read_to_string(source).unwrap();
        fs::write(source, text + BLOG).unwrap();
        ends(source, Outcome::Unhealthy, "no")
    });
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.text(), format!("{FILE}v2 = [\"10.0.0.5:5002\"]\n{BLOG}"));
    assert!(ran.err.contains("only service `shop` is put back"), "{}", ran.err);
    assert_eq!(scene.fake.asked().last(), Some(&Request::Reload));
}

#[test]
fn a_reader_that_goes_away_does_not_keep_the_file_from_being_put_back() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let scene = Scene::ending(Outcome::Unhealthy, "no");
    let socket = scene.fake.socket.to_str().unwrap();
    let line = ["sluice", "--socket", socket, "deploy", "shop", "--version", "v2", "--node", "a:1"];
    let (mut out, mut err) = (Closed, Closed);
    let screen = Screen::new(&mut out, &mut err, false, None);
    let code = execute(Cli::try_parse_from(line).unwrap(), screen, &nowhere());
    assert_eq!(code, 3);
    assert_eq!(scene.text(), FILE);
}

#[test]
fn a_configuration_that_the_proxy_does_not_take_is_put_back() {
    let scene = Scene::new(|_| refused(RefusalKind::InvalidConfig, "shop.toml:4:1: no"));
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 2);
    assert_eq!(scene.text(), FILE);
    assert!(ran.err.contains("shop.toml:4:1: no") && ran.err.contains("put back"), "{}", ran.err);
}

#[test]
fn what_a_newer_change_took_over_is_left() {
    let by_outcome = Scene::ending(Outcome::Superseded, "v3 took over");
    let by_refusal = Scene::new(|_| refused(RefusalKind::Superseded, "v3 is wanted"));
    for scene in [by_outcome, by_refusal] {
        assert_eq!(scene.deploy(&[]).code, 5);
        assert!(scene.text().contains("v2"));
    }
}

#[test]
fn what_a_drain_deadline_cut_is_listed() {
    let scene = Scene::new(|source| {
        let mut last = moment(service("shop", source), Some((Outcome::DoneWithCuts, "done, but work was cut")));
        let mut done = entry("v1", "v2", &[], Outcome::DoneWithCuts);
        done.cut.push(CutNode {
            address: "10.0.0.5:5001".into(),
            version: "v1".into(),
            work: vec![Holder {
                kind: WorkKind::Request,
                method: "GET".into(),
                path: "/big".into(),
                client: "192.0.2.1".into(),
                age_ms: 30_000,
            }],
        });
        last.ended.as_mut().unwrap().entry = Some(done);
        progress(vec![last])
    });
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 6);
    assert!(ran.err.contains("cut on 10.0.0.5:5001: request GET /big"), "{}", ran.err);
}

#[test]
fn a_timeout_leaves_the_rollout_going_and_says_how_to_follow_it() {
    let scene = Scene::new(|source| endless(moment(service("shop", source), None)));
    let ran = scene.deploy(&["--timeout", "300ms"]);
    assert_eq!(ran.code, 7);
    assert!(scene.text().contains("v2"));
    assert!(ran.err.contains("the rollout goes on") && ran.err.contains("`sluice wait shop`"), "{}", ran.err);

    let ran = scene.run(&["wait", "shop", "--timeout", "300ms", "--json"]);
    assert_eq!(ran.code, 7);
    let last: Progress = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(last.ended.map(|end| end.outcome), Some(Outcome::TimedOut));
}

#[test]
fn a_proxy_that_goes_in_the_middle_is_exit_code_1_and_the_file_stays() {
    let scene = Scene::new(|source| progress(vec![moment(service("shop", source), None)]));
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 1);
    assert!(scene.text().contains("v2"));
    assert!(ran.err.contains("keeps the edit"), "{}", ran.err);
}

#[test]
fn a_second_deploy_of_the_same_changes_nothing_and_waits() {
    let scene = Scene::ending(Outcome::Done, "v2 serves");
    scene.deploy(&[]);
    let once = scene.text();
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 0);
    assert_eq!(scene.text(), once);
    assert!(ran.out.contains("nothing to change"), "{}", ran.out);
    assert_eq!(scene.asked_to_wait().len(), 2);
}

#[test]
fn the_short_form_is_deployed_without_a_version() {
    let text = "[service.shop]\nmatch = \"*\"\nnodes = [\"a:1\"]\n";
    let scene = Scene::with(text, |source| ends(source, Outcome::Done, "done"));
    let ran = scene.run(&["deploy", "shop", "--node", "b:1,b:2"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(scene.text(), text.replace("\"a:1\"", "\"b:1\", \"b:2\""));
    assert_eq!(scene.asked_to_wait(), [None]);
    let ran = scene.deploy(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("leave --version out"), "{}", ran.err);
}

#[test]
fn another_file_can_be_named() {
    let scene = Scene::ending(Outcome::Done, "done");
    let other = scene.file.with_file_name("other.toml");
    fs::write(&other, FILE).unwrap();
    let ran = scene.deploy(&["--config", other.to_str().unwrap()]);
    assert_eq!(ran.code, 0);
    assert_eq!(scene.text(), FILE);
    assert!(fs::read_to_string(other).unwrap().contains("v2"));
    let ran = scene.deploy(&["--config", "/nowhere/x.toml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("/nowhere/x.toml"), "{}", ran.err);
}

#[test]
fn deploys_at_once_lose_no_edit() {
    let scene = Scene::ending(Outcome::Done, "done");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let scene = &scene;
            scope.spawn(move || {
                let version = format!("w{n}");
                let ran = scene.run(&["deploy", "shop", "--version", &version, "--node", "a:1"]);
                assert_eq!(ran.code, 0, "{}", ran.err);
            });
        }
    });
    let text = scene.text();
    assert!((0..4).all(|n| text.contains(&format!("w{n} = [\"a:1\"]\n"))), "{text}");
}

#[test]
fn rollback_goes_to_the_newest_other_version_that_served() {
    let scene = Scene::ending(Outcome::Done, "v0 serves");
    let ran = scene.run(&["rollback", "shop"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("going back to v0\n"), "{}", ran.out);
    let edited = FILE.replace("\"v1\" # now", "\"v0\" # now") + "v0 = [\"10.0.0.5:5000\"]\n";
    assert_eq!(scene.text(), edited);
    assert_eq!(scene.asked_to_wait(), [Some("v0".to_owned())]);
    let ran = scene.run(&["rollback", "shop", "--to", "v7"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("neither in the file nor known to have served"), "{}", ran.err);
}
