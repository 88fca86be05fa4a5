//! `docs/verbs.md` says what the command line's own help says. `UPDATE_DOCS=1 cargo test` writes it.

use std::fmt::Write as _;

use super::*;

fn reference() -> String {
    let mut text = String::from(
        "# Verbs\n\n\
         What `sluice help VERB` says, in one place; a test holds it equal. How operators use them together is in the README.\n\n\
         Every verb writes plain text without colours into a pipe, and where `NO_COLOR` is set. With `--json` it writes one document on a line,\n\
         or a line for each change while it waits; an error is `{\"error\": {\"kind\": …, \"message\": …}}`. The shapes are those of the\n\
         [admin API](admin-api.md). Every flag has an environment variable.\n\n\
         | exit code | means |\n|--:|---|\n\
         | 0 | done: the old nodes may be stopped, where there are any |\n\
         | 1 | the proxy could not be reached, or failed |\n\
         | 2 | the command line, the request or the configuration is wrong |\n\
         | 3 | the new version never became healthy |\n\
         | 4 | the guard, or an operator, sent it back; for `abort --wait` that is 0 |\n\
         | 5 | a newer change took over |\n\
         | 6 | done, but a drain deadline cut something, which is listed |\n\
         | 7 | `--timeout` passed; what was begun goes on |\n\
         | 8 | `plan` only: something would change |\n\
         | 130 | Ctrl-C; what was begun goes on |\n",
    );
    let mut command = Cli::command().term_width(110);
    command.build();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let mut shown = verb.clone().term_width(110).mut_args(|argument| argument.hide_env_values(true));
        let help = anstream::adapter::strip_str(&shown.render_long_help().to_string()).to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n## {}\n\n```text\n{}\n```\n", verb.get_name(), help.join("\n"));
    }
    text
}

#[test]
fn the_document_says_what_the_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verbs.md");
    let reference = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &reference).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(reference.lines()).find(|(written, said)| written != said);
    assert_eq!(differs, None, "run it with UPDATE_DOCS=1");
    assert_eq!(written, reference, "run it with UPDATE_DOCS=1");
}
