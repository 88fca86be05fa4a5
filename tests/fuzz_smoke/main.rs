//! The fuzz targets on stable Rust: their corpus, and random changes of it. A crash that fuzzing finds goes into
//! `corpus` beside this file, and so is tried here for ever.
//!
//! `FUZZ_SEED=n` replays one run, `FUZZ_ROUNDS=n` changes each entry that many times.

use std::path::Path;

mod targets;

/// Rounds that run by default: a few seconds in a debug build.
const ROUNDS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// One small change: a byte, a cut, a piece taken twice, or a piece of another entry.
fn change(data: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    let at = random.usize(..=data.len());
    let end = random.usize(at..=data.len().min(at + 16));
    match random.u8(..5) {
        0 if at < data.len() => data[at] ^= 1 << random.u8(..8),
        1 => data.insert(at, random.choice(*b"./\\%:,;\"'[]{}=\n\r\t #*2eE\0\xff").unwrap_or(0)),
        2 => drop(data.drain(at..end)),
        3 => data.extend_from_within(at..end),
        _ => {
            let from = random.usize(..=other.len());
            let piece = &other[from..other.len().min(from + 16)];
            data.splice(at..at, piece.iter().copied());
        }
    }
}

fn run(target: &str, function: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_smoke/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty());
    let seed = number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("FUZZ_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for entry in &corpus {
        function(entry);
        for _ in 0..number("FUZZ_ROUNDS").unwrap_or(ROUNDS) {
            let mut data = entry.clone();
            for _ in 0..random.usize(1..6) {
                let other = random.choice(&corpus).unwrap();
                change(&mut data, other, &mut random);
            }
            // Shown only if it panics, by the test's own output.
            println!("{:?}", String::from_utf8_lossy(&data));
            function(&data);
        }
    }
}

#[test]
fn a_configuration_is_taken_or_refused_with_a_reason() {
    run("config_file", targets::config_file);
}

#[test]
fn a_path_is_normalised_once_and_for_all() {
    run("router", targets::router);
}

#[test]
fn a_node_gets_nothing_that_was_meant_for_the_proxy_alone() {
    run("headers", targets::headers);
}

#[test]
fn a_proxy_header_ends_where_it_ends() {
    run("proxy_header", targets::proxy_header);
}

#[test]
fn a_border_between_messages_is_found_however_the_bytes_arrive() {
    run("borders", targets::borders);
}

#[test]
fn the_responses_of_a_node_are_the_same_however_the_bytes_arrive() {
    run("responses", targets::responses);
}

#[test]
fn the_requests_of_a_client_are_the_same_however_the_bytes_arrive() {
    run("requests", targets::requests);
}

#[test]
fn a_head_in_hpack_is_the_same_when_it_is_said_again() {
    run("hpack", targets::hpack);
}
