//! Random edits under load, one in three of them invalid, saved in every way there is.

use std::time::Duration;

use sluicegate::cli::demo::{Ledger, Load, LoadOptions, Origin, OriginOptions, Rates};

use super::support::{LISTENER, QUICK, Site, Way, eventually, get, half, list, number, random, stop};

/// What an edit asks for. Everything in it can be seen from outside.
#[derive(Clone, Debug)]
struct Wish {
    release: &'static str,
    /// Of each version.
    nodes: [Vec<usize>; 2],
    timeout: u64,
    serial: u64,
}

impl Wish {
    fn random(random: &mut fastrand::Rng, serial: u64, origins: usize) -> Self {
        let mut some = || {
            let mut all: Vec<_> = (0..origins).collect();
            random.shuffle(&mut all);
            all.truncate(random.usize(1..=origins));
            all
        };
        let nodes = [some(), some()];
        Self { release: random.choice(["v1", "v2"]).unwrap_or("v1"), nodes, timeout: random.u64(5..60), serial }
    }

    /// Valid text. The name of the second service tells which edit runs.
    fn text(&self, origins: &[Vec<Origin>; 2]) -> String {
        let nodes = |version: usize| {
            let all: Vec<_> =
                self.nodes[version].iter().map(|at| format!("\"{}\"", origins[version][*at].address())).collect();
            format!("[{}]", all.join(", "))
        };
        let Self { release, timeout, serial, .. } = self;
        format!(
            "# edit {serial}\n{LISTENER}[service.shop]\nmatch = \"shop.test\"\nrelease = \"{release}\"\n{QUICK}\
             timeouts = {{ response = \"{timeout}s\" }}\n[service.shop.versions]\nv1 = {}\nv2 = {}\n\
             [service.mark{serial}]\nmatch = \"mark{serial}.test\"\nnodes = {}\n{QUICK}",
            nodes(0),
            nodes(1),
            list(&origins[0][..1]),
        )
    }
}

/// Takes valid text and makes it invalid. Also gives a word that the problem must tell; empty if any will do.
fn spoil(text: &str, random: &mut fastrand::Rng) -> (Vec<u8>, &'static str) {
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        text.replacen(from, to, 1).into_bytes()
    };
    match random.u32(..8) {
        0 => (changed("[[listener]]", "[[listener"), "TOML"),
        1 => (changed("timeouts = {", "timeout = {"), "unknown key"),
        2 => (changed("release = \"", "release = 7 # \""), "expected a string"),
        3 => (changed("release = \"v", "release = \"w"), "not among the versions"),
        4 => (changed("bind = \"127.0.0.1:0\"", "bind = \"127.0.0.1\""), ""),
        5 => (changed("rise = 1", "rise = -1"), ""),
        6 => (text.as_bytes()[..half(text, random.usize(..text.len()))].to_vec(), ""),
        _ => ([text.as_bytes(), b"# \xff\n"].concat(), "UTF-8"),
    }
}

#[test]
fn random_edits_fail_no_request_and_the_last_valid_one_serves() {
    let mut random = random(3);
    let ledger = Ledger::new();
    let origins: [Vec<Origin>; 2] = ["v1", "v2"].map(|version| {
        (0..3).map(|_| Origin::start(OriginOptions::new(version, &ledger)).expect("an origin")).collect()
    });
    let mut last = Wish { release: "v1", nodes: [vec![0, 1], vec![0, 1]], timeout: 30, serial: 0 };
    let site = Site::new(&last.text(&origins));
    let proxy = site.start();
    proxy.settled("shop");
    let address = proxy.address();
    let rates = Rates { get: 60.0, post: 20.0, slow: 0.5, upload: 1.0, ..Rates::default() };
    let options =
        LoadOptions { rates, slow: Duration::from_secs(1), ..LoadOptions::mixed(address, "shop.test", 1.0, 7) };
    let load = Load::start(options).expect("load");

    let edits = number("SLUICE_EDITS", 60);
    let (mut told, mut live) = (0, 0);
    for serial in 1..=edits {
        let way = random.choice(Way::ALL).unwrap_or(Way::Rename);
        let pause = Duration::from_millis(random.u64(..90));
        let wish = Wish::random(&mut random, serial, 3);
        let text = wish.text(&origins);
        // The last one must be seen whole.
        let look = serial == edits || random.u32(..6) == 0;
        if serial < edits && random.u32(..3) == 0 {
            let (bytes, word) = spoil(&text, &mut random);
            if let Ok(text) = std::str::from_utf8(&bytes) {
                way.save(&site.config(), text, serial, pause).expect("a saved file");
            } else {
                std::fs::write(site.config(), &bytes).expect("a written file");
            }
            if look {
                told += 1;
                let shown = String::from_utf8_lossy(&bytes);
                let what =
                    format!("the status tells the problem ({word:?}) of edit {serial}, saved by {way:?}:\n{shown}");
                let status = eventually(&what, || {
                    let status = proxy.status()?;
                    let problem = status.config.problems.first()?;
                    (status.config.stale && problem.message.contains(word)).then_some(status)
                });
                let runs = status.services.iter().any(|service| service.name.as_str() == "shop");
                assert!(runs, "an invalid edit took the service away");
            }
        } else {
            way.save(&site.config(), &text, serial, pause).expect("a saved file");
            last = wish;
            if look {
                live += 1;
                let name = format!("mark{serial}");
                eventually("the edit is live", || {
                    let status = proxy.status()?;
                    let found = status.services.iter().any(|service| service.name.as_str() == name);
                    (found && !status.config.stale && status.config.problems.is_empty()).then_some(())
                });
            }
        }
        std::thread::sleep(Duration::from_millis(random.u64(..25)));
    }

    let shop = proxy.settled("shop");
    let version = usize::from(last.release == "v2");
    let mut wanted: Vec<_> = last.nodes[version].iter().map(|at| origins[version][*at].address().to_string()).collect();
    let mut serving: Vec<_> = shop.nodes.iter().map(|node| node.address.to_string()).collect();
    wanted.sort();
    serving.sort();
    assert_eq!((shop.release.as_str(), serving), (last.release, wanted));
    let mark = format!("mark{}.test", last.serial);
    assert_eq!(get(address, &mark, "/").expect("an answer").status, 200);
    let names: Vec<_> = proxy.status().expect("a status").services.into_iter().map(|service| service.name).collect();
    assert_eq!(names.len(), 2, "services of earlier edits are left: {names:?}");

    let tally = stop(load);
    println!("{edits} edits, {told} problems and {live} arrivals looked at; {} requests", tally.started_total());
    assert_eq!(tally.failures(), 0, "{}", tally.explain());
    assert_eq!(ledger.duplicates(), []);
    let early: u64 = origins.iter().flatten().map(|origin| origin.counts().early).sum();
    assert_eq!(early, 0);
}

#[test]
fn a_service_of_a_large_file_is_edited_broken_and_mended() {
    let ledger = Ledger::new();
    let origin = Origin::start(OriginOptions::new("v1", &ledger)).expect("an origin");
    let nodes = list(std::slice::from_ref(&origin));
    let pad = "# said of it\n".repeat(120);
    let text = |host: &str, more: &str| {
        let service = |n| {
            let (host, more) = if n == 20 { (host.to_owned(), more) } else { (format!("s{n}.test"), "") };
            format!("[service.s{n}]\nmatch = \"{host}\"\n{more}nodes = {nodes}\n{QUICK}{pad}")
        };
        LISTENER.to_owned() + &(0..50).map(service).collect::<String>()
    };
    let first = text("s20.test", "");
    assert!(first.len() > 64 << 10, "the file is not large");
    let site = Site::new(&first);
    let proxy = site.start();
    proxy.settled("s49");
    let address = proxy.address();
    let answers = |host: &str| get(address, host, "/").is_ok_and(|answer| answer.status == 200);
    let save = |text: &str| Way::Rename.save(&site.config(), text, 0, Duration::ZERO).expect("a saved file");
    save(&text("one.test", "# three\n# lines\n# more\n"));
    eventually("the edit is live", || answers("one.test").then_some(()));
    assert!(!answers("s20.test") && answers("s19.test") && answers("s21.test"));
    let broken = text("two.test", "nodess = 1\n");
    let line = broken.lines().position(|line| line.starts_with("nodess")).expect("the mistake") + 1;
    save(&broken);
    let told = eventually("the problem is told", || proxy.status()?.config.problems.first().cloned());
    assert_eq!((told.line, told.column), (line, 1), "{told:?}");
    save(&text("s21.test", ""));
    let taken = "another service's host is told";
    eventually(taken, || proxy.status()?.config.problems.first()?.message.contains("already matched").then_some(()));
    assert!(answers("one.test"));
    save(&text("two.test", ""));
    eventually("it is mended", || answers("two.test").then_some(()));
    assert_eq!(proxy.status().expect("a status").config.problems, []);
}
