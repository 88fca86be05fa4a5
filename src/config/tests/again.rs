//! Reading again what was read before.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::{Cache, load, load_again};
use super::LISTENER;

fn service(name: u32, host: u32, strip: bool) -> String {
    format!("[service.s{name}]\nmatch = \"h{host}\"\nnodes = [\"n:1\"]\nstrip_prefix = {strip}\n")
}

/// Whatever happens to the files, a read that remembers the last one finds what a first read finds.
#[test]
fn a_second_read_finds_what_a_first_one_would() {
    let seed =
        std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let root = tempfile::tempdir().unwrap();
    let main = root.path().join("sluice.toml");
    let write_main = |more: &str| {
        fs::write(&main, format!("include = [\"services/*.toml\", \"services/1.toml\"]\n{LISTENER}{more}")).unwrap();
    };
    fs::create_dir(root.path().join("services")).unwrap();
    write_main("");
    let file = |n: u32| -> PathBuf { root.path().join(format!("services/{n}.toml")) };
    for n in 0..6 {
        fs::write(file(n), service(n, n, false)).unwrap();
    }
    let mut cache = Cache::default();
    let mut clean = 0;
    for step in 0..300 {
        if step % 10 == 0 {
            // Mended, so that what follows is an edit of a whole configuration.
            write_main("");
            (0..6).for_each(|n| fs::write(file(n), service(n, n, random.bool())).unwrap());
        }
        for _ in 0..random.u32(0..3) {
            let n = random.u32(0..6);
            match random.u32(0..12) {
                // The service of another file, or the host of another service: the first file has it.
                0 => fs::write(file(n), service(random.u32(0..6), n, false)).unwrap(),
                1 => fs::write(file(n), service(n, random.u32(0..6), false)).unwrap(),
                2 => fs::write(file(n), service(n, n, false) + &service(n + 10, n + 10, true)).unwrap(),
                3 => fs::write(file(n), "[service.").unwrap(),
                4 => fs::remove_file(file(n)).unwrap_or_default(),
                5 => write_main(&service(20, random.u32(5..20), true)),
                6 => write_main(""),
                _ => fs::write(file(n), service(n, n, random.bool())).unwrap(),
            }
        }
        let again = load_again(&main, std::mem::take(&mut cache));
        let first = load(&main);
        let facts = |loaded: &super::super::Loaded| {
            (
                loaded.config.clone(),
                loaded.problems.clone(),
                loaded.files.clone(),
                loaded.folders.clone(),
                loaded.digest,
            )
        };
        assert_eq!(facts(&again), facts(&first), "seed {seed}, step {step}");
        assert_eq!(again.held_back, first.held_back, "seed {seed}, step {step}");
        clean += u32::from(again.problems.is_empty());
        cache = again.cache;
    }
    assert!(clean >= 30, "seed {seed}: only {clean} of the states were without a problem");
}

#[test]
fn what_did_not_change_is_the_same_service_and_the_same_list() {
    let root = tempfile::tempdir().unwrap();
    let main = root.path().join("sluice.toml");
    fs::create_dir(root.path().join("services")).unwrap();
    fs::write(&main, format!("include = [\"services/*.toml\"]\n{LISTENER}{}", service(0, 0, false))).unwrap();
    for n in 1..4 {
        fs::write(root.path().join(format!("services/{n}.toml")), service(n, n, false)).unwrap();
    }
    let first = load(&main);
    fs::write(root.path().join("services/2.toml"), service(2, 2, true)).unwrap();
    let before = first.config.unwrap().services;
    let again = load_again(&main, first.cache);
    assert!(Arc::ptr_eq(&again.files, &first.files) && Arc::ptr_eq(&again.folders, &first.folders));
    let after = again.config.unwrap().services;
    let same: Vec<_> =
        before.iter().filter(|(name, old)| Arc::ptr_eq(old, &after[*name])).map(|(name, _)| name.as_str()).collect();
    assert_eq!(same, ["s0", "s1", "s3"]);
    assert!(after["s2"].strip_prefix);
}
