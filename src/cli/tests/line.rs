//! The command line itself.

use super::*;

#[test]
fn every_verb_has_an_example_and_every_flag_a_variable() {
    let command = Cli::command();
    let names: Vec<_> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| verb.get_name().to_owned()).collect();
    let expected = [
        "run",
        "demo",
        "check",
        "plan",
        "status",
        #[cfg(feature = "top")]
        "top",
        "deploy",
        "wait",
        "rollback",
        "history",
        "promote",
        "pause",
        "resume",
        "abort",
        "retry",
        "hold",
        "release",
        "maintenance",
        "drain",
        "token",
        "schema",
        "completions",
        "man",
    ];
    assert_eq!(names, expected);
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let after = verb.get_after_help().unwrap().to_string();
        let last = after.lines().last().unwrap();
        assert!(last.starts_with("Example: "), "{}", verb.get_name());
        assert!(last.contains(&format!("sluice {}", verb.get_name())), "{last}");
        for argument in verb.get_arguments() {
            let variable = argument.get_env().and_then(|name| name.to_str());
            assert!(
                variable.is_some_and(|name| name.starts_with("SLUICE_")),
                "{} {}",
                verb.get_name(),
                argument.get_id()
            );
        }
    }
    command.debug_assert();
}

#[test]
fn examples_can_be_run_as_they_stand() {
    for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let after = verb.get_after_help().unwrap().to_string();
        let example = after.lines().last().unwrap().trim_start_matches("Example: ");
        let line = example.rsplit("&& ").next().unwrap().split(' ');
        assert!(Cli::try_parse_from(line).is_ok(), "{example}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_with_a_suggestion() {
    let error = Cli::try_parse_from(["sluice", "stauts"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("'status'"), "{error}");
    let error = Cli::try_parse_from(["sluice", "wait", "shop", "--timeout", "30"]).unwrap_err();
    assert!(error.to_string().contains("write `30s`"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn check_and_run_without_any_configuration_say_where_they_looked() {
    for verb in ["check", "run"] {
        let cli = Cli::try_parse_from(["sluice", verb]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = execute(cli, Screen::new(&mut out, &mut err, false, None), &nowhere());
        assert_eq!(code, 2);
        let err = String::from_utf8(err).unwrap();
        assert!(err.contains("/etc/sluice/sluice.toml"), "{err}");
    }
}

#[test]
fn completions_and_manual_pages_name_every_verb() {
    let nowhere = Path::new("/nowhere/s.sock");
    let verbs: Vec<_> = Cli::command()
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run_on(nowhere, &["completions", shell], None);
        assert_eq!(ran.code, 0);
        assert!(verbs.iter().all(|verb| ran.out.contains(verb)), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let ran = run_on(nowhere, &["man", folder.path().to_str().unwrap()], None);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for verb in &verbs {
        let page = fs::read_to_string(folder.path().join(format!("sluice-{verb}.1"))).unwrap();
        assert!(page.contains("Example: "), "{verb}");
    }
    assert!(fs::read_to_string(folder.path().join("sluice.1")).unwrap().contains("Exit codes"));
    assert!(run_on(nowhere, &["man"], None).out.contains(".TH sluice"));
    let ran = run_on(nowhere, &["man", "/nowhere"], None);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let json: Value = serde_json::from_str(&run_on(nowhere, &["schema"], None).out).unwrap();
    assert_eq!(json["title"], "Sluice configuration");
}
