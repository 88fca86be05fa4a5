//! The main file and what it includes, on a real file system.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{Loaded, load, load_str};
use super::{LISTENER, rendered};

/// A folder with a main file and others; gone when dropped.
struct Folder(TempDir);

impl Folder {
    fn new(main: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("sluice.toml", format!("{main}\n{LISTENER}"));
        folder
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Loaded {
        load(&self.path("sluice.toml"))
    }

    /// Names relative to the folder.
    fn names<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
        let name = |path: &PathBuf| path.strip_prefix(self.0.path()).unwrap().display().to_string();
        paths.into_iter().map(name).collect()
    }

    /// Problems, with the folder's own path left out.
    fn shown(&self, loaded: &Loaded) -> String {
        rendered(loaded).replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn service(name: &str) -> String {
    format!("[service.{name}]\nmatch = \"{name}\"\nnodes = [\"{name}:1\"]\n")
}

fn services(loaded: &Loaded) -> Vec<&str> {
    loaded.config.as_ref().unwrap().services.keys().map(crate::model::ServiceName::as_str).collect()
}

const INCLUDE: &str = "include = [\"services/*.toml\"]\n";

#[test]
fn included_files_add_services() {
    let folder = Folder::new("include = [\"services/*.toml\", \"extra.toml\", \"services/b?.toml\"]");
    folder.write("extra.toml", service("extra"));
    folder.write("services/b1.toml", service("b"));
    folder.write("services/a.toml", service("a") + &service("a2"));
    for ignored in ["services/.hidden.toml", "services/a.toml~", "services/4913", "services/deeper/x.toml"] {
        folder.write(ignored, "not = toml =");
    }
    fs::create_dir(folder.path("services/folder.toml")).unwrap();
    let loaded = folder.load();
    assert_eq!(rendered(&loaded), "");
    assert_eq!(services(&loaded), ["a", "a2", "b", "extra"]);
    assert_eq!(folder.names(&*loaded.files), ["sluice.toml", "extra.toml", "services/a.toml", "services/b1.toml"]);
    assert_eq!(folder.names(&*loaded.folders), ["services"]);
    assert_eq!(loaded.config.unwrap().services["b"].source, folder.path("services/b1.toml"));
}

#[test]
fn a_pattern_that_finds_the_main_file_leaves_it_out() {
    for pattern in ["*.toml", "./*.toml", "./sluice.toml\", \"a.toml"] {
        let folder = Folder::new(&format!("include = [\"{pattern}\"]"));
        folder.write("a.toml", service("a"));
        let loaded = folder.load();
        assert_eq!(rendered(&loaded), "");
        assert_eq!(services(&loaded), ["a"]);
    }
}

#[test]
fn a_pattern_may_find_nothing() {
    let folder = Folder::new(INCLUDE);
    fs::create_dir(folder.path("services")).unwrap();
    let loaded = folder.load();
    assert_eq!(rendered(&loaded), "");
    assert_eq!(services(&loaded), [""; 0]);
    assert_eq!(folder.names(&*loaded.folders), ["services"]);
}

#[test]
fn a_folder_that_is_gone_changes_nothing() {
    let folder = Folder::new("include = [\"services/*.toml\"]");
    let loaded = folder.load();
    assert!(loaded.config.is_none());
    assert_eq!(folder.names(&*loaded.folders), ["services"]);
    let shown = rendered(&loaded);
    assert!(
        shown.contains("sluice.toml:1:12: the folder ") && shown.contains("cannot be read: No such file"),
        "{shown}"
    );
}

#[test]
fn what_names_no_file_is_refused() {
    let folder = Folder::new("include = [\"\", \"a/\", \"*/a.toml\", \"..\"]");
    let loaded = folder.load();
    assert!(loaded.config.is_none());
    let expected = r#"sluice.toml:1:12: this names no file
    1 | include = ["", "a/", "*/a.toml", ".."]
      |            ^^
  hint: write it like "services/*.toml"
sluice.toml:1:16: this names no file
    1 | include = ["", "a/", "*/a.toml", ".."]
      |                ^^^^
  hint: write it like "services/*.toml"
sluice.toml:1:22: `*` and `?` can only be in the last part of a path
    1 | include = ["", "a/", "*/a.toml", ".."]
      |                      ^^^^^^^^^^
  hint: write one pattern for each folder
sluice.toml:1:34: this names no file
    1 | include = ["", "a/", "*/a.toml", ".."]
      |                                  ^^^^
  hint: write it like "services/*.toml"
"#;
    assert_eq!(folder.shown(&loaded), expected);
}

#[test]
fn an_error_in_an_included_file_holds_back_that_file_alone() {
    for (broken, shows) in [
        (
            "[service.b\n",
            "services/b.toml:1:11: not valid TOML: unclosed table, expected `]`\n    1 | [service.b\n      |           ^\n",
        ),
        (
            "[service.b]\nmatch = \"b\"\n[service.b2]\nmatch = \"b2\"\nnodes = [\"b:1\"]\n",
            "services/b.toml:1:10: service `b` has no nodes\n    1 | [service.b]\n      |          ^\n  \
             hint: write `nodes = [\"127.0.0.1:5001\"]`, or `release` and `versions`\n",
        ),
        (
            "workers = 2\n[service.b]\nmatch = \"b\"\nnodes = [\"b:1\"]\n",
            "services/b.toml:1:1: an included file can only hold `[service.NAME]` tables, not `workers`\n    1 | workers = 2\n      | ^^^^^^^\n  \
             hint: move `workers` into the main file\n",
        ),
        ("", "services/b.toml: there is no service in this file\n  hint: to remove its services, delete the file\n"),
        (
            "servics = 1\n",
            "services/b.toml:1:1: unknown key `servics`\n    1 | servics = 1\n      | ^^^^^^^\n  hint: did you mean `service`?\n",
        ),
    ] {
        let folder = Folder::new(INCLUDE);
        folder.write("services/a.toml", service("a"));
        folder.write("services/b.toml", broken);
        folder.write("services/c.toml", service("c"));
        let loaded = folder.load();
        assert_eq!(folder.shown(&loaded), shows);
        assert_eq!(services(&loaded), ["a", "c"]);
        assert_eq!(loaded.held_back, BTreeSet::from([folder.path("services/b.toml")]));
    }
}

#[test]
fn a_named_file_that_is_missing_is_held_back() {
    let folder = Folder::new("include = [\"no.toml\"]");
    let loaded = folder.load();
    assert_eq!(folder.shown(&loaded), "no.toml: cannot be read: No such file or directory (os error 2)\n");
    assert_eq!(folder.names(&*loaded.files), ["sluice.toml", "no.toml"]);
    assert_eq!(folder.names(&loaded.held_back), ["no.toml"]);
    assert!(loaded.config.is_some());
}

#[test]
fn of_two_files_that_claim_the_same_the_later_is_held_back() {
    let folder = Folder::new(&format!("{INCLUDE}{}", service("main")));
    folder.write("services/a.toml", service("a"));
    folder.write("services/b.toml", service("b").replace("[service.b]", "[service.a]"));
    folder.write("services/c.toml", service("c").replace("match = \"c\"", "match = [\"c\", \"A\"]"));
    folder.write("services/d.toml", service("main"));
    let loaded = folder.load();
    let expected = "services/b.toml:1:10: service `a` is already in services/a.toml, line 1
    1 | [service.a]
      |          ^
  hint: one of the two must go or be renamed
services/c.toml:2:15: `a` is already matched by `a` in services/a.toml, line 2
    2 | match = [\"c\", \"A\"]
      |               ^^^
  hint: each host and path prefix can lead to one service only
services/d.toml:1:10: service `main` is already in sluice.toml, line 2
    1 | [service.main]
      |          ^^^^
  hint: one of the two must go or be renamed
services/d.toml:2:9: `main` is already matched by `main` in sluice.toml, line 3
    2 | match = \"main\"
      |         ^^^^^^
  hint: each host and path prefix can lead to one service only
";
    assert_eq!(folder.shown(&loaded), expected);
    assert_eq!(services(&loaded), ["a", "main"]);
    assert_eq!(folder.names(&loaded.held_back), ["services/b.toml", "services/c.toml", "services/d.toml"]);
}

#[test]
fn an_error_in_the_main_file_fails_it_all_and_included_files_are_still_checked() {
    let folder = Folder::new("include = [\"a.toml\"]\nworker = 1");
    folder.write("a.toml", "b = 1\n");
    let loaded = folder.load();
    assert!(loaded.config.is_none());
    assert_eq!(loaded.problems.len(), 2);
    assert_eq!(folder.names(loaded.problems.iter().map(|problem| &problem.path)), ["sluice.toml", "a.toml"]);
}

#[test]
fn a_main_file_that_cannot_be_read_says_why() {
    let folder = Folder::new("");
    let shown = |name: &str| {
        let loaded = load(&folder.path(name));
        assert!(loaded.config.is_none());
        assert_eq!(*loaded.files, [folder.path(name)]);
        folder.shown(&loaded)
    };
    assert_eq!(shown("no"), "no: cannot be read: No such file or directory (os error 2)\n");
    fs::create_dir(folder.path("folder")).unwrap();
    assert_eq!(shown("folder"), "folder: cannot be read: it is a folder\n");
    // A reader of a pipe would wait for ever.
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("pipe"), rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(shown("pipe"), "pipe: cannot be read: it is not a regular file\n");
    fs::File::create(folder.path("large")).unwrap().set_len((16 << 20) + 1).unwrap();
    assert_eq!(shown("large"), "large: cannot be read: it is larger than 16 MiB\n");
    folder.write("latin1", b"# ok\n# caf\xe9\n");
    let latin1 =
        "latin1:2:6: this is not UTF-8 text\n    2 | # caf\u{fffd}\n      |      ^\n  hint: save the file as UTF-8\n";
    assert_eq!(shown("latin1"), latin1);
}

#[test]
fn the_digest_tells_a_change_from_a_touch() {
    let folder = Folder::new("include = [\"services/*.toml\", \"no.toml\"]");
    folder.write("services/a.toml", service("a"));
    let before = folder.load().digest;
    folder.write("services/a.toml", service("a"));
    assert_eq!(folder.load().digest, before);
    let mut seen = BTreeSet::from([before]);
    // Whatever changes, and be it invalid, is a change.
    folder.write("services/a.toml", "x");
    assert!(seen.insert(folder.load().digest));
    folder.write("services/b.toml", "x");
    assert!(seen.insert(folder.load().digest));
    fs::rename(folder.path("services/b.toml"), folder.path("services/c.toml")).unwrap();
    assert!(seen.insert(folder.load().digest));
    folder.write("no.toml", "");
    assert!(seen.insert(folder.load().digest));
    fs::remove_file(folder.path("sluice.toml")).unwrap();
    assert!(seen.insert(folder.load().digest));
}

#[test]
fn services_of_a_file_that_is_held_back_are_kept() {
    let folder = Folder::new(INCLUDE);
    folder.write("services/a.toml", service("a"));
    folder.write("services/b.toml", service("b1") + &service("b2") + &service("b3"));
    folder.write("services/c.toml", service("c"));
    let last = folder.load().config.unwrap();
    // b is broken; meanwhile a took over one of its services, and the host of another; c is gone.
    folder.write("services/b.toml", "x");
    folder.write(
        "services/a.toml",
        service("b1").replace("b1:1", "new:1") + "[service.a]\nmatch = \"b2\"\nnodes = [\"a:1\"]\n",
    );
    fs::remove_file(folder.path("services/c.toml")).unwrap();
    let mut loaded = folder.load();
    let config = loaded.config.as_mut().unwrap();
    config.keep(&last, &loaded.held_back);
    assert_eq!(services(&loaded), ["a", "b1", "b2", "b3"]);
    let config = loaded.config.unwrap();
    assert_eq!(config.services["b1"].source, folder.path("services/a.toml"));
    assert_eq!(config.services["b2"].matches, []);
    assert_eq!(config.services["b3"], last.services["b3"]);
}

#[test]
fn from_memory_nothing_is_read() {
    let text = format!("include = [\"no/*.toml\", \"no.toml\"]\n{LISTENER}");
    let loaded = load_str(&text, Path::new("nowhere/sluice.toml"));
    assert_eq!(rendered(&loaded), "");
    assert_eq!(*loaded.files, [Path::new("nowhere/sluice.toml").to_owned()]);
    assert!(loaded.config.is_some() && loaded.folders.is_empty());
}

#[test]
fn ten_thousand_services_are_read_and_as_many_conflicts_are_told() {
    let many = (0..10_000).fold(String::from(LISTENER), |mut text, n| {
        let (a, b) = (n / 250, n % 250);
        writeln!(text, "[service.s{n}]\nmatch = \"s{n}.example.com\"\nnodes = [\"10.0.{a}.{b}:1\", \"10.1.{a}.{b}:1\", \"10.2.{a}.{b}:1\"]").unwrap();
        text
    });
    let loaded = load_str(&many, Path::new("s"));
    assert_eq!(services(&loaded).len(), 10_000);
    // Quadratic work would take minutes here.
    let same = many.replace("match = \"s", "match = \"*.x.example.com\" # ");
    let start = std::time::Instant::now();
    let loaded = load_str(&same, Path::new("s"));
    assert_eq!(loaded.problems.len(), 1001);
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}
