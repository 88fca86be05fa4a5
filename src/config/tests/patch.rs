//! Parts of large files, read again. In tests every file is large.

use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::super::{Cache, CertificateSource, Loaded, load, load_again};
use super::LISTENER;

/// All that a reading finds, and where each file that a service names stands.
fn facts(loaded: &Loaded) -> impl PartialEq + Debug + use<> {
    let services = loaded.config.iter().flat_map(|config| config.services.values());
    let mut places = Vec::new();
    for service in services {
        let mut tls = service.tls.clone();
        places.extend(tls.files_mut().map(|file| file.problem(service.name.to_string(), None)));
    }
    let listeners = loaded.config.iter().flat_map(|config| &config.listeners);
    for source in listeners.filter_map(|listener| listener.accepting.tls.as_ref()).flat_map(|tls| &tls.certificates) {
        if let CertificateSource::Pair { cert, .. } = source {
            places.push(cert.problem(String::new(), None));
        }
    }
    let main = (loaded.config.clone(), loaded.problems.clone(), places);
    (main, loaded.files.clone(), loaded.folders.clone(), loaded.digest, loaded.held_back.clone())
}

/// How many services of a reading are the ones of another.
fn shared(ours: &Loaded, theirs: &Loaded) -> usize {
    let (Some(ours), Some(theirs)) = (&ours.config, &theirs.config) else {
        return 0;
    };
    let same = |(name, service)| theirs.services.get(name).is_some_and(|other| Arc::ptr_eq(service, other));
    ours.services.iter().filter(|one| same(*one)).count()
}

/// A listener that names files.
const TLS: &str = "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"c.pem\", key = \"k.pem\" }] }\n";

fn seed() -> u64 {
    std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..))
}

fn service(random: &mut fastrand::Rng, n: u32) -> String {
    let name = match random.u32(0..12) {
        0 => format!("\"s.{n}\""),
        1 => format!("'s{n}'"),
        _ => format!("s{n}"),
    };
    let header = |rest: &str| format!("[service.{name}{rest}]\n");
    let mut text = header("");
    if random.u32(0..10) == 0 {
        text = format!("  [service.{name}]  # \"not [a string\n");
    }
    let _ = writeln!(text, "match = [\"h{n}/a\", \"h{n}\"]");
    let mut parts = vec![
        format!("strip_prefix = {}\n", random.bool()),
        "# [service.s1]\n".into(),
        "timeouts = { response = \"3s\", connect = \"1s\" }\n".into(),
        "tls = { ca = \"ca.pem\" }\n".into(),
        "health = { path = \"\"\"/x\\\n  [service.s1]\\\n\"\"\" }\n".into(),
        "hold = { wait = '1s' }\n".into(),
        "\n\n".into(),
    ];
    random.shuffle(&mut parts);
    parts.truncate(random.usize(0..4));
    // A key stands before the tables.
    parts.push("nodes = [\n  \"n:1\", # ]\n  \"n:2\",\n]\n".into());
    text.extend(parts);
    for part in ["drain", "retry", "eject"] {
        if random.u32(0..8) == 0 {
            text += &header(&format!(".{part}"));
        }
    }
    if random.u32(0..10) == 0 {
        text += &(header(".errors") + "texts = { 404 = '''\n[service.s1]\nmatch = 5''''' }\n");
    } else if random.u32(0..20) == 0 {
        text += &(header(".errors") + "files = { 503 = \"page.html\" }\n");
    }
    if random.u32(0..6) == 0 { text.replace('\n', "\r\n") } else { text }
}

/// One change by hand to a part of a file, sensible or not.
fn edit(random: &mut fastrand::Rng, parts: &mut Vec<String>) {
    let at = random.usize(0..parts.len());
    let n = random.u32(0..24);
    match random.u32(0..23) {
        0 => parts.insert(at, service(random, n)),
        1 => drop(parts.remove(at)),
        2 => {
            let other = random.usize(0..parts.len());
            parts.swap(at, other);
        }
        3 => parts.insert(at, "# a comment\n".into()),
        4 => parts.insert(at, "\n".into()),
        5 => parts[at].push_str("[service.s1.timeouts]\n"),
        6 => parts.insert(at, "[service]\n".into()),
        7 => parts.insert(at, "[limits]\n".into()),
        8 => parts[at].push_str("unknown = 1\n"),
        9 => parts[at] = parts[at].replacen("h1", &format!("h{n}"), 1),
        10 => {
            parts[at].pop();
        }
        11 => parts[at] = parts[at].replacen("\"h", "\"\"\"h", 1),
        12 => {
            // Any character anywhere.
            let places: Vec<_> = parts[at].char_indices().map(|(place, _)| place).collect();
            let place = random.choice(places).unwrap_or(0);
            let c = random.choice("\"'[]{}#=\n\r\\.xé,".chars().collect::<Vec<_>>()).unwrap_or('x');
            if random.bool() { parts[at].insert(place, c) } else { drop(parts[at].drain(place..)) }
        }
        13 => parts[at] = parts[at].replacen("service", "service.s1", 1),
        15 => parts.insert(at, parts[at].clone()),
        14 => parts[at].push_str("[[service.s1.rate]]\nlimit = \"5/s\"\n"),
        _ => {
            // What is edited most: one service's settings.
            let own: u32 =
                parts[at].chars().filter(char::is_ascii_digit).take(1).collect::<String>().parse().unwrap_or(n);
            if parts[at].trim_start().starts_with("[service.") {
                parts[at] = service(random, own);
            }
        }
    }
    if parts.is_empty() {
        parts.push(service(random, n));
    }
}

fn fresh(random: &mut fastrand::Rng, names: std::ops::Range<u32>) -> Vec<String> {
    names.map(|n| service(random, n)).collect()
}

/// Whatever is done to a large file, its parts read again are what a first reading of all finds: the configuration, every
/// problem, and where each stands.
#[test]
fn a_part_read_again_is_what_a_reading_of_all_finds() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut parted, mut valid, mut invalid) = (0, 0, 0);
    for round in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let main = root.path().join("sluice.toml");
        let more = root.path().join("more.toml");
        let include = random.bool();
        let top = if include { format!("include = [\"more.toml\"]\n{LISTENER}") } else { LISTENER.to_owned() };
        let page = root.path().join("page.html");
        fs::write(&page, "page").unwrap();
        let top = if random.u32(0..4) == 0 { top + "[errors]\nfiles = { 404 = \"page.html\" }\n" } else { top };
        let tail = if random.u32(0..4) == 0 { TLS } else { "" };
        let mut parts = fresh(&mut random, 0..8);
        let mut others = fresh(&mut random, 8..12);
        let (mut good, mut good_others) = (parts.clone(), others.clone());
        let mut cache = Cache::default();
        let mut last: Option<Loaded> = None;
        for step in 0..20 {
            fs::write(&main, format!("{top}{}{tail}", parts.concat())).unwrap();
            if include {
                fs::write(&more, others.concat()).unwrap();
            }
            let mut again = load_again(&main, cache);
            let first = load(&main);
            let text = || format!("{}\n--\n{}", parts.concat(), others.concat());
            assert_eq!(facts(&again), facts(&first), "seed {seed}, round {round}, step {step}:\n{}", text());
            cache = std::mem::take(&mut again.cache);
            if again.problems.is_empty() {
                valid += 1;
                (good, good_others) = (parts.clone(), others.clone());
                parted += u32::from(last.is_some_and(|last| shared(&again, &last) > 0));
                last = Some(again);
            } else {
                invalid += 1;
                if random.bool() {
                    (parts, others) = (good.clone(), good_others.clone());
                    fs::write(&page, "page").unwrap();
                }
            }
            match random.u32(0..40) {
                0 => fs::remove_file(&page).unwrap_or_default(),
                1..4 => fs::write(&page, random.u32(..).to_string()).unwrap(),
                _ => {}
            }
            for _ in 0..=random.u32(0..6) / 4 {
                if include && random.u32(0..3) == 0 {
                    edit(&mut random, &mut others);
                } else {
                    edit(&mut random, &mut parts);
                }
            }
        }
    }
    assert!(
        parted > 50 && valid > 100 && invalid > 100,
        "seed {seed}: {valid} valid, {parted} by parts, {invalid} not"
    );
}

struct Site {
    root: tempfile::TempDir,
    cache: Cache,
    last: Option<Loaded>,
}

impl Site {
    fn new(text: &str) -> Self {
        let mut site = Self { root: tempfile::tempdir().unwrap(), cache: Cache::default(), last: None };
        site.read(text);
        site
    }

    /// How many services are the ones of the last good reading; the reading is a first one's.
    fn read(&mut self, text: &str) -> usize {
        let path = self.root.path().join("sluice.toml");
        fs::write(&path, text).unwrap();
        self.check(&path)
    }

    fn check(&mut self, path: &Path) -> usize {
        let mut again = load_again(path, std::mem::take(&mut self.cache));
        assert_eq!(facts(&again), facts(&load(path)));
        self.cache = std::mem::take(&mut again.cache);
        let same = self.last.as_ref().map_or(0, |last| shared(&again, last));
        if again.config.is_some() {
            self.last = Some(again);
        }
        same
    }
}

fn plain(n: u32, more: &str) -> String {
    format!("[service.s{n}]\nmatch = \"h{n}\"\nnodes = [\"n:1\"]\n{more}")
}

fn file(parts: &[&str]) -> String {
    LISTENER.to_owned() + &parts.concat()
}

#[test]
fn an_edit_of_one_service_leaves_the_others_what_they_are() {
    let (a, b, c) = (plain(1, ""), plain(2, "[service.s2.drain]\n\n"), plain(3, "tls = { ca = \"x\" }\n"));
    let edited = plain(2, "strip_prefix = true\n# more\n\n\n");
    let mut site = Site::new(&file(&[&a, &b, &plain(4, ""), &c]));
    // The lines below moved, and with them the place of a file that is named there.
    assert_eq!(site.read(&file(&[&a, &edited, &plain(4, ""), &c])), 2);
    assert_eq!(site.read(&file(&[&a, &b, &plain(4, ""), &c])), 2);
    // Come, gone, and in another order.
    assert_eq!(site.read(&file(&[&a, &b, &plain(5, ""), &plain(4, ""), &c])), 3);
    assert_eq!(site.read(&file(&[&b, &plain(5, ""), &a, &plain(4, ""), &c])), 5);
    assert_eq!(site.read(&file(&[&b, &plain(4, ""), &c])), 2);
    let c = plain(3, "");
    let mut site = Site::new(&file(&[&b, &plain(4, ""), &c]));
    // A mistake costs a whole reading, and what mends it does not.
    assert_eq!(site.read(&file(&[&b, "[service.s4\n", &c])), 0);
    assert_eq!(site.read(&file(&[&b, &plain(4, "match = 1\n"), &c])), 0);
    assert_eq!(site.read(&file(&[&b, &plain(4, "strip_prefix = true\n"), &c])), 2);
    // A page of somebody else's.
    let d = plain(6, "[service.s6.errors]\nfiles = { 503 = \"page.html\" }\n");
    fs::write(site.root.path().join("page.html"), "page").unwrap();
    assert_eq!(site.read(&file(&[&b, &plain(4, ""), &c, &d])), 0);
    assert_eq!(site.read(&file(&[&b, &plain(4, "strip_prefix = true\n"), &c, &d])), 3);
    fs::write(site.root.path().join("page.html"), "another").unwrap();
    assert_eq!(site.read(&file(&[&b, &plain(4, "strip_prefix = true\n"), &c, &d])), 0);
    assert_eq!(site.read(&file(&[&b, &plain(4, ""), &c, &d])), 3);
    // What another has taken.
    let mut site = Site::new(&file(&[&b, &plain(4, ""), &c]));
    assert_eq!(site.read(&file(&[&b, &plain(4, "").replace("h4", "h2"), &c])), 0);
    assert_eq!(site.read(&file(&[&b, &plain(4, "").replace("s4", "s2"), &c])), 0);
    assert_eq!(site.read(&file(&[&b, &plain(4, "strip_prefix = true\n"), &c])), 2);
}

#[test]
fn what_is_not_inside_one_service_is_read_whole() {
    let (a, b) = (plain(1, ""), plain(2, ""));
    for (before, after) in [
        // Settings above and below.
        (file(&[&a, &b]), format!("shutdown = {{ delay = \"1s\" }}\n{}", file(&[&a, &b]))),
        (file(&[&a, &b]), file(&[&a, &b, "[limits]\nheaders = 50\n"])),
        (file(&[&a, "[limits]\nheaders = 50\n", &b]), file(&[&a, "[limits]\nheaders = 51\n", &b])),
        // The tables of a service stand apart.
        (file(&[&a, &b, "[service.s1.drain]\n"]), file(&[&a, &b, "[service.s1.drain]\nrequests = \"1s\"\n"])),
        (
            file(&[&a, &b, "[service.s1.drain]\n"]),
            file(&[&plain(1, "strip_prefix = true\n"), &b, "[service.s1.drain]\n"]),
        ),
        // What stands below and names files, in a line of its own.
        (file(&[&a, &b, TLS]), file(&[&plain(1, "# more\n"), &b, TLS])),
        // A header that is none any more.
        (file(&[&a, &format!("  {b}")]), file(&[&a, &format!("  # {b}")])),
        // A service that stands there twice.
        (file(&[&a, &b]), file(&[&a, &b, &b])),
        (file(&[&plain(3, ""), &a, &b]), file(&[&plain(3, "strip_prefix = true\n"), &a, &b, &a])),
        // A service that has no table of its own.
        (file(&[&a, &b, "[service]\ns3 = { match = \"h3\", nodes = [\"n:1\"] }\n"]), file(&[&a, &b])),
        // An odd header.
        (file(&[&a, "[ service . s2 ]\nmatch = \"h2\"\nnodes = [\"n:1\"]\n"]), file(&[&a, &b])),
    ] {
        let mut site = Site::new(&before);
        assert_eq!(site.read(&after), 0, "{before}\n--\n{after}");
        site.read(&before);
    }
}
