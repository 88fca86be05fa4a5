//! Commands that are shown: each block is executed, page by page, and prints what the page says it prints.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::page::{Block, Page, pages};
use crate::ports::Ports;
use crate::root;

/// How long one page may take.
const LIMIT: Duration = Duration::from_mins(2);
/// Blocks that say they cannot be run here. Each is one that nobody tries.
const NOT_RUN: usize = 8;

/// One command, or one block of them.
struct Step {
    line: usize,
    commands: String,
    /// What the page says it prints; none for a script.
    prints: Option<String>,
}

#[test]
fn every_command_shown_runs_and_prints_what_the_page_says() {
    let pages = pages();
    let shown: Vec<(&Page, &Block)> =
        pages.iter().flat_map(|page| page.blocks.iter().map(move |block| (page, block))).collect();
    let not_run: Vec<String> = shown
        .iter()
        .filter(|(_, block)| is_shell(block) && block.is_marked("not-run"))
        .map(|(page, block)| format!("{}:{}", page.path.display(), block.line))
        .collect();
    println!("not run, as they say: {}", not_run.join(", "));
    assert!(not_run.len() <= NOT_RUN, "{} blocks are not run: {}", not_run.len(), not_run.join(", "));

    let wrong: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = pages.iter().map(|page| scope.spawn(|| try_page(page))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_command_hides_in_a_block_that_is_not_run() {
    let pages = pages();
    let hidden: Vec<String> = pages
        .iter()
        .flat_map(|page| page.blocks.iter().map(move |block| (page, block)))
        .filter(|(_, block)| !is_shell(block) && begins_with_a_command(&block.text))
        .map(|(page, block)| format!("{}:{}", page.path.display(), block.line))
        .collect();
    assert!(hidden.is_empty(), "not run, because they are no `sh` or `console`: {}", hidden.join(", "));
}

fn begins_with_a_command(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    let is_verb = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    ["$ ", "curl ", "cargo ", "docker ", "git "].iter().any(|start| line.starts_with(start))
        || line.strip_prefix("sluice ").is_some_and(is_verb)
}

fn is_shell(block: &Block) -> bool {
    ["sh", "bash", "shell", "console"].contains(&block.language())
}

/// Builds, which CI does itself, and getting the sources.
fn is_left_out(line: &str) -> bool {
    let words = line.split_whitespace().filter(|word| *word != "$");
    let first = words.skip_while(|word| word.contains('=')).take(2).collect::<Vec<_>>().join(" ");
    ["cargo ", "git clone", ".ci/run", "cd sluice"].iter().any(|start| format!("{first} ").starts_with(start))
}

fn steps(page: &Page) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in page.blocks.iter().filter(|block| is_shell(block) && !block.is_marked("not-run")) {
        if block.language() != "console" {
            let lines: Vec<&str> = block.text.lines().filter(|line| !is_left_out(line)).collect();
            if lines.iter().any(|line| !line.trim().is_empty()) {
                steps.push(Step { line: block.line, commands: lines.join("\n"), prints: None });
            }
            continue;
        }
        let mut leaves = false;
        for (index, line) in block.text.lines().enumerate() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    leaves = is_left_out(line);
                    if !leaves {
                        steps.push(Step {
                            line: block.line + 1 + index,
                            commands: command.to_owned(),
                            prints: Some(String::new()),
                        });
                    }
                }
                None if leaves => {}
                None => {
                    let step = steps.last_mut().expect("a command before what it prints");
                    if let Some(more) = line.strip_prefix("> ") {
                        let _ = write!(step.commands, "\n{more}");
                    } else if let Some(prints) = &mut step.prints {
                        let _ = writeln!(prints, "{line}");
                    }
                }
            }
        }
    }
    steps
}

/// Runs a page's commands in one shell, in a folder of its own; tells what went wrong.
fn try_page(page: &Page) -> Vec<String> {
    let steps = steps(page);
    if steps.is_empty() {
        return Vec::new();
    }
    let ports = Ports::free();
    let folder = tempfile::Builder::new().prefix("sd").tempdir().unwrap();
    let stage = Stage::new(folder.path(), &ports);
    let own = page.blocks.iter().any(|block| is_shell(block) && block.text.contains("sluice run"));
    let mut script = stage.opening(!own);
    for (number, step) in steps.iter().enumerate() {
        let file = folder.path().join(format!("{number}.sh"));
        fs::write(&file, ports.replace(&step.commands)).unwrap();
        let (strict, lax) = if step.prints.is_none() { ("set -e; ", "; set +e") } else { ("", "") };
        let out = folder.path().join(number.to_string());
        let _ = writeln!(
            script,
            "{strict}. {} >{out}.out 2>&1 </dev/null{lax}; echo $? >{out}.code",
            file.display(),
            out = out.display()
        );
        if step.commands.contains("sluice run") {
            script.push_str(READY);
        }
    }
    let ended = stage.run(&script);
    let mut wrong = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let read = |kind: &str| fs::read_to_string(folder.path().join(format!("{number}.{kind}")));
        let printed = read("out").unwrap_or_default();
        let code = read("code").unwrap_or_else(|_| "none: it did not end".into());
        let place = format!("{}:{}: `{}`", page.path.display(), step.line, step.commands);
        if code.trim() != "0" {
            wrong.push(format!("{place}\n  exit code {}, printed:\n{printed}", code.trim()));
            break;
        }
        let expected = step.prints.as_deref().unwrap_or_default();
        if let Some(missing) = missing(&ports.replace(expected), &printed) {
            wrong.push(format!("{place}\n  does not print {missing:?}, but:\n{printed}"));
        }
    }
    if wrong.is_empty() && !ended.starts_with("ended") {
        wrong.push(format!("{}: {ended}", page.path.display()));
    }
    if !wrong.is_empty() {
        let logs = ["toy.log", "sluice.log", "try/sluice.log", "try/canary/sluice.log"]
            .map(|log| fs::read_to_string(folder.path().join(log)));
        wrong.extend(logs.into_iter().flatten().map(|log| log.lines().rev().take(20).collect::<Vec<_>>().join("\n")));
    }
    wrong
}

/// Readers take their time after a start; a script has to look until every service has its nodes.
const READY: &str = "for i in $(seq 300); do sluice status --ready >/dev/null 2>&1 && ! sluice status | grep -q 'waiting for' && break; sleep 0.05; done\n";

/// A folder like the repository's, in which commands may do what they like.
pub struct Stage<'a> {
    folder: &'a Path,
    ports: &'a Ports,
}

impl<'a> Stage<'a> {
    /// With our configurations and scripts, and the ports of this run in them.
    pub fn new(folder: &'a Path, ports: &'a Ports) -> Self {
        for below in ["config", "docs/examples"] {
            fs::create_dir_all(folder.join(below)).unwrap();
            for entry in fs::read_dir(root().join(below)).unwrap() {
                let path = entry.unwrap().path();
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let copy = folder.join(below).join(path.file_name().unwrap());
                fs::write(&copy, ports.replace(&text)).unwrap();
                fs::set_permissions(&copy, fs::metadata(&path).unwrap().permissions()).unwrap();
            }
        }
        Self { folder, ports }
    }

    /// What comes before a page's commands; with a proxy and nodes of two versions, if it wants them.
    pub fn opening(&self, toy: bool) -> String {
        let mut script = format!("cd {}\n", self.folder.display());
        if toy {
            let (v1, v2) = (self.ports.of(5001), self.ports.of(5002));
            let text = fs::read_to_string(self.folder.join("config/versions.toml")).unwrap();
            let admin = format!("\n[admin]\nhttp = \"127.0.0.1:{}\"\n", self.ports.of(9901));
            // A version that is refused is refused soon.
            let quick = "\n[service.shop.rollout]\ndeadline = \"3s\"\n";
            fs::write(self.folder.join("sluice.toml"), text + &admin + quick).unwrap();
            let _ = write!(
                script,
                "export SLUICE_SOCKET=$PWD/s.sock SLUICE_STATE_DIR=$PWD/state SLUICE_CONFIG=$PWD/sluice.toml\n\
                 sluice demo-origin --version v1 --port {v1} >/dev/null &\n\
                 sluice demo-origin --version v2 --port {v2} >/dev/null &\n\
                 sluice run 2>toy.log &\n{READY}"
            );
        }
        script
    }

    /// Runs a script of bash to its end, or to the limit, and ends whatever it left behind.
    pub fn run(&self, script: &str) -> String {
        let file = self.folder.join("all.sh");
        fs::write(&file, script).unwrap();
        let tools = PathBuf::from(env!("CARGO_BIN_EXE_sluice")).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = format!("{}:{}:{path}", self.folder.join("bin").display(), tools.display());
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLUICE_")) {
            command.env_remove(name);
        }
        command.arg(&file).env("PATH", tools).env("HOME", self.folder).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shell = Group(command.spawn().expect("bash"));
        let begun = Instant::now();
        loop {
            if let Some(status) = shell.0.try_wait().unwrap() {
                return format!("ended with {status}");
            }
            if begun.elapsed() > LIMIT {
                return format!("not done after {LIMIT:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A shell and what it started: ended together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The first line that is expected and not printed, in this order. Numbers and times may differ, `…` is anything, and what a rollout
/// tells on its way (lines that begin with a time) depends on the machine.
fn missing(expected: &str, printed: &str) -> Option<String> {
    let mut lines = printed.lines().map(plain);
    for line in expected.lines().filter(|line| !line.trim().is_empty()) {
        let wanted = plain(line);
        if wanted.starts_with("T ") || wanted == "…" {
            continue;
        }
        if !lines.any(|printed| fits(&wanted, &printed)) {
            return Some(line.to_owned());
        }
    }
    None
}

fn fits(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let parts: Vec<&str> = pattern.split('…').collect();
    for (index, part) in parts.iter().enumerate() {
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    pattern.ends_with('…') || rest.is_empty()
}

/// A line without what differs from run to run: numbers that stand alone become `N`, times `T`, bars and runs of blanks one blank. A page
/// may leave out the comments of lines that were edited.
fn plain(line: &str) -> String {
    let edited = line.trim_start().starts_with(['-', '+']);
    let line = if edited { line.split("  #").next().unwrap_or(line) } else { line };
    let line: String = line.chars().map(|c| if "█░▏▎▍▌▋▊▉·".contains(c) { ' ' } else { c }).collect();
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let word = plain_word(word);
        // `1m 10s` is one time.
        if word == "T" && words.last().is_some_and(|last| last == "T") {
            continue;
        }
        words.push(word);
    }
    words.join(" ")
}

fn plain_word(word: &str) -> String {
    let end = word.trim_end_matches([',', ';', ')', '%', '"']);
    let start = end.trim_start_matches(['(', '+', '"']);
    let (head, tail) = (&end[..end.len() - start.len()], &word[end.len()..]);
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',');
    if number(start) {
        return format!("{head}N{tail}");
    }
    for unit in ["ms", "µs", "s", "m", "h", "d"] {
        if start.strip_suffix(unit).is_some_and(number) {
            return format!("{head}T{tail}");
        }
    }
    word.to_owned()
}

#[test]
fn what_may_differ_does_and_nothing_else() {
    assert_eq!(plain("  v1  ████████  100%  1/1 nodes  12 requests, up 1m 4s"), "v1 N% 1/1 nodes N requests, up T");
    assert_eq!(missing("a 1\n…\nb…c\n", "a 2\nx\nb and c\n"), None);
    assert_eq!(missing("shop  settled\n", "shop  rolling\n"), Some("shop  settled".into()));
    assert_eq!(missing("b\na\n", "a\nb\n"), Some("a".into()));
    assert!(is_left_out("$ SLUICE_X=1 cargo test --test e2e") && is_left_out("cargo install --path ."));
    assert!(!is_left_out("sluice check"));
}
