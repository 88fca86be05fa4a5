//! Traffic stopped by hand, and tokens.

use super::*;
use crate::api::Halting;

#[test]
fn each_verb_asks_for_its_own() {
    let on =
        |message: Option<&str>, retry_after| Halting::MaintenanceOn { message: message.map(Into::into), retry_after };
    for (args, halting, says) in [
        (
            &["hold", "shop"][..],
            Halting::Hold { for_ms: 30_000 },
            "new requests wait, for 30s at most; 9 under way go on",
        ),
        (&["hold", "shop", "--for", "1m30s"], Halting::Hold { for_ms: 90_000 }, "`sluice release shop`"),
        (&["release", "shop"], Halting::Release, "requests go on"),
        (&["maintenance", "shop", "on"], on(None, 60), "to come back after 1m"),
        (
            &["maintenance", "shop", "on", "--message", "zurück um 12 & später", "--retry-after", "10m"],
            on(Some("zurück um 12 & später"), 600),
            "`sluice maintenance shop off`",
        ),
        (&["maintenance", "shop", "off"], Halting::MaintenanceOff, "answered again"),
    ] {
        let scene = Scene::ending(Outcome::Done, "");
        let ran = scene.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains(says), "{args:?}: {}", ran.out);
        let asked = scene.fake.asked();
        let [Request::Halt { service, halting: asked, by }] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((service.as_str(), asked), ("shop", &halting));
        assert!(by.contains("uid "), "{by}");
        let json = scene.run(&[args, &["--json"]].concat());
        assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["name"], "shop");
    }
    for wrong in [&["hold", "shop", "--for", "30"][..], &["maintenance", "shop"], &["maintenance", "shop", "maybe"]] {
        let line = [&["sluice"], wrong].concat();
        assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2, "{wrong:?}");
    }
    let scene = Scene::ending(Outcome::Done, "");
    assert_eq!(scene.run(&["maintenance", "shop", "off", "--message", "x"]).code, 2);
    assert_eq!(run_on(Path::new("/nowhere/s.sock"), &["hold", "shop"], None).code, 1);
}

#[test]
fn a_token_is_made_without_a_proxy_and_fits_the_configuration() {
    let nowhere = Path::new("/nowhere/s.sock");
    let ran = run_on(nowhere, &["token", "ci", "--role", "operator"], None);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1), "only the token goes into a pipe");
    let table = &ran.err[ran.err.find("[[admin.token]]").unwrap()..];
    let text = format!("[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:1\"\n{table}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.toml"), text).unwrap();
    let loaded = crate::config::load(&folder.path().join("c.toml"));
    let tokens = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems)).admin.tokens;
    assert_eq!((tokens.len(), tokens[0].role), (1, crate::config::Role::Operator));
    let json: Value = serde_json::from_str(&run_on(nowhere, &["token", "ci", "--json"], None).out).unwrap();
    assert!(json["token"].as_str().unwrap().starts_with("sluice_"));
    assert_eq!(run_on(nowhere, &["token", "a\"b"], None).code, 2);
}
