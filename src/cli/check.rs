//! `sluice check`: validates the files. Nothing is contacted.

use std::io::{self, Write};
use std::path::Path;

use crate::api::Problem;
use crate::config::{self, Config, Loaded};
use crate::control::{self, Clock};

/// The exit code of a configuration that is wrong.
const INVALID: u8 = 2;

/// Reads the configuration and says whether it is valid. Returns the exit code: 0 if it is, 2 if anything in any file is
/// wrong. What is valid goes to `out` and so does the JSON, problems go to `err` in colours: give it an `anstream` stream,
/// which takes them out where they are not wanted.
pub fn run(path: &Path, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut loaded = config::load(path);
    let troubles = control::check_files(&mut loaded, Clock::system().now());
    loaded.problems.extend(troubles);
    // Nobody is left to tell of an error while telling: a closed pipe must not change the verdict.
    let _ = if json { as_json(&loaded, out) } else { as_text(path, &loaded, out, err) };
    if loaded.problems.is_empty() { 0 } else { INVALID }
}

fn as_text(path: &Path, loaded: &Loaded, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    if let (Some(config), true) = (&loaded.config, loaded.problems.is_empty()) {
        let sums = Sums::of(config);
        return writeln!(
            out,
            "{}: valid: {}, {}, {}",
            path.display(),
            counted(sums.services, "service"),
            counted(sums.nodes, "node"),
            counted(sums.listeners, "listener"),
        );
    }
    for problem in &loaded.problems {
        write!(err, "{}", config::render_coloured(problem))?;
    }
    let errors = counted(loaded.problems.len(), "error");
    if loaded.config.is_none() {
        return writeln!(err, "{}: invalid: {errors}; nothing of it would be applied", path.display());
    }
    let files = counted(loaded.held_back.len(), "included file");
    writeln!(err, "{}: invalid: {errors}; {files} would be held back, the rest applied", path.display())
}

/// The shape of `--json`.
#[derive(serde::Serialize)]
struct Report<'a> {
    schema: u32,
    valid: bool,
    services: usize,
    nodes: usize,
    listeners: usize,
    files: &'a [std::path::PathBuf],
    held_back: &'a std::collections::BTreeSet<std::path::PathBuf>,
    problems: &'a [Problem],
}

fn as_json(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let sums = loaded.config.as_ref().map(Sums::of).unwrap_or_default();
    let report = Report {
        schema: 1,
        valid: loaded.problems.is_empty(),
        services: sums.services,
        nodes: sums.nodes,
        listeners: sums.listeners,
        files: &loaded.files,
        held_back: &loaded.held_back,
        problems: &loaded.problems,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

/// How much there is.
#[derive(Default)]
struct Sums {
    services: usize,
    nodes: usize,
    listeners: usize,
}

impl Sums {
    fn of(config: &Config) -> Self {
        let versions = config.services.values().flat_map(|service| service.versions.values());
        Self { services: config.services.len(), nodes: versions.map(Vec::len).sum(), listeners: config.listeners.len() }
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, json: bool) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut err) = (Vec::new(), anstream::StripStream::new(Vec::new()));
        let code = run(&path, json, &mut out, &mut err);
        let place = format!("{}/", folder.path().display());
        let plain = |bytes| String::from_utf8(bytes).unwrap().replace(&place, "");
        (code, plain(out), plain(err.into_inner()))
    }

    const VALID: &str = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n\
        [service.a]\nmatch = \"a\"\nnodes = [\"h:1\"]\n[service.b]\nmatch = \"b\"\n[service.b.versions]\nv1 = [\"h:1\", \"h:2\"]\n";

    #[test]
    fn a_valid_file_is_summed_up() {
        let (code, out, err) = check(VALID, false);
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (0, "sluice.toml: valid: 2 services, 3 nodes, 1 listener\n", "")
        );
    }

    #[test]
    fn every_problem_is_shown_and_counted() {
        let (code, out, err) = check("worker = 1\n[[listener]]\nname = \"http\"\n", false);
        let expected = "sluice.toml:1:1: unknown key `worker`\n    1 | worker = 1\n      | ^^^^^^\n  hint: did you mean `workers`?\n\
            sluice.toml:2:1: this listener has no `bind`\n    2 | [[listener]]\n      | ^^^^^^^^^^^^\n\
            sluice.toml: invalid: 2 errors; nothing of it would be applied\n";
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", expected));
    }

    #[test]
    fn a_broken_included_file_is_invalid_too() {
        let (code, out, err) = check(&format!("include = [\"no.toml\"]\n{VALID}"), false);
        let expected = "no.toml: cannot be read: No such file or directory (os error 2)\n\
            sluice.toml: invalid: 1 error; 1 included file would be held back, the rest applied\n";
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", expected));
    }

    #[test]
    fn files_that_are_named_are_read() {
        let tls = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"a.crt\", key = \"a.key\" }] }\n";
        let (code, out, err) = check(tls, false);
        let expected = "sluice.toml:4:34: a.crt: cannot be read: No such file or directory (os error 2)\n    \
            4 | tls = { certificates = [{ cert = \"a.crt\", key = \"a.key\" }] }\n      |                                  ^^^^^^^\n  \
            hint: put the file there, or correct its name in the configuration\n\
            sluice.toml: invalid: 1 error; nothing of it would be applied\n";
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", expected));
    }

    #[test]
    fn a_certificate_that_has_ended_is_told() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(folder.path().join("a.key"), key.serialize_pem()).unwrap();
        let tls = format!(
            "{VALID}[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{:?}] }}\n",
            folder.path()
        );
        let (cert, pem) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        let admin = format!("{VALID}[admin]\nhttp = \"127.0.0.1:0\"\ntls = {{ cert = {cert:?}, key = {pem:?} }}\n");
        for text in [tls, admin] {
            let (code, _, err) = check(&text, false);
            assert_eq!(code, 2);
            assert!(err.contains("a.crt: the certificate has ended"), "{err}");
        }
    }

    #[test]
    fn json_says_the_same() {
        let (code, out, err) = check("workers = 0\n", true);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, err.as_str()), (2, ""));
        assert_eq!(report["valid"], false);
        assert_eq!(report["problems"][1]["message"], "`workers` must be from 1 to 1024");
        assert_eq!(report["problems"][1]["line"], 1);

        let (code, out, _) = check(VALID, true);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &report["valid"], &report["nodes"]), (0, &true.into(), &3.into()));
    }
}
