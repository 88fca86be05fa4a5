//! Crashes, bad disks and odd names.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::api::Outcome;
use crate::model::{Timestamp, Version};

const SECONDS: std::time::Duration = std::time::Duration::from_secs(30);

fn record(service: &str, change: u64) -> Record<Value> {
    Record {
        service: service.into(),
        change,
        state: json!({ "split": ["v1", "v2"], "step": change }),
        history: vec![entry(change)],
    }
}

fn entry(change: u64) -> HistoryEntry {
    HistoryEntry {
        change,
        from: None,
        to: Version::new("v1"),
        nodes: vec!["127.0.0.1:5001".into()],
        strategy: "rolling".to_owned(),
        started: Timestamp(1),
        finished: Timestamp(2),
        outcome: Outcome::Done,
        reason: String::new(),
        cut: Vec::new(),
        steps: Vec::new(),
        steered: Vec::new(),
    }
}

fn changes(store: &Store) -> Vec<(String, u64)> {
    let records = store.load_all::<Value>();
    records.into_iter().map(|record| (record.service.to_string(), record.change)).collect()
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join("services").join(name)
}

#[test]
fn what_was_saved_is_loaded_by_the_next_process() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load_all::<Value>(), []);
    store.save(&record("shop", 1)).unwrap();
    store.save(&record("blog", 7)).unwrap();
    store.save(&record("shop", 2)).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load_all::<Value>(), [record("blog", 7), record("shop", 2)]);
}

#[test]
fn the_folder_is_private_and_its_parents_are_created() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("var/lib/sluice");
    let store = Store::open(&state).unwrap();
    store.save(&record("shop", 1)).unwrap();
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(state.join("services/shop.json").metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_removed_service_stays_removed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("shop", 1)).unwrap();
    store.save(&record("shop", 2)).unwrap();
    store.remove(&"shop".into()).unwrap();
    store.remove(&"never known".into()).unwrap();
    assert_eq!(changes(&store), []);
    assert_eq!(fs::read_dir(dir.path().join("services")).unwrap().count(), 0);
}

#[test]
fn a_file_cut_at_any_byte_falls_back_to_the_one_before() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("shop", 1)).unwrap();
    let old = fs::read(file(&dir, "shop.json")).unwrap();
    store.save(&record("shop", 2)).unwrap();
    let new = fs::read(file(&dir, "shop.json")).unwrap();
    for length in 0..new.len() {
        fs::write(file(&dir, "shop.json.previous"), &old).unwrap();
        fs::write(file(&dir, "shop.json"), &new[..length]).unwrap();
        assert_eq!(changes(&store), [("shop".to_owned(), 1)], "cut at {length} of {}", new.len());
        assert_eq!(fs::read(file(&dir, "shop.json.corrupt")).unwrap(), &new[..length]);
        assert!(!file(&dir, "shop.json").exists());
    }
    fs::write(file(&dir, "shop.json"), &new).unwrap();
    assert_eq!(changes(&store), [("shop".to_owned(), 2)]);
    // Blocks that were allocated but never written read as zeros; a file can also be too long.
    for wrong in [vec![0; new.len()], [new.as_slice(), b" "].concat(), [b"\n", new.as_slice()].concat()] {
        fs::write(file(&dir, "shop.json"), &wrong).unwrap();
        assert_eq!(changes(&store), [("shop".to_owned(), 1)]);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("shop", 1)).unwrap();
    let good = fs::read(file(&dir, "shop.json")).unwrap();
    assert!(file::unseal(&good).is_ok());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(file::unseal(&bad).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

#[test]
fn after_a_fallback_the_good_record_is_not_rotated_away_by_the_bad_one() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("shop", 1)).unwrap();
    store.save(&record("shop", 2)).unwrap();
    fs::write(file(&dir, "shop.json"), "torn").unwrap();
    assert_eq!(changes(&store), [("shop".to_owned(), 1)]);
    store.save(&record("shop", 3)).unwrap();
    fs::write(file(&dir, "shop.json"), "torn again").unwrap();
    assert_eq!(changes(&store), [("shop".to_owned(), 1)]);
}

#[test]
fn when_both_are_corrupt_the_service_starts_anew_and_both_are_kept() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("blog", 1)).unwrap();
    store.save(&record("shop", 1)).unwrap();
    store.save(&record("shop", 2)).unwrap();
    fs::write(file(&dir, "shop.json"), "torn").unwrap();
    fs::write(file(&dir, "shop.json.previous"), "too").unwrap();
    assert_eq!(changes(&store), [("blog".to_owned(), 1)]);
    assert_eq!(fs::read(file(&dir, "shop.json.corrupt")).unwrap(), b"torn");
    assert_eq!(fs::read(file(&dir, "shop.json.previous.corrupt")).unwrap(), b"too");
    // It goes on, and what was set aside is not read as a service of its own.
    store.save(&record("shop", 3)).unwrap();
    assert_eq!(changes(&store), [("blog".to_owned(), 1), ("shop".to_owned(), 3)]);
}

#[test]
fn a_whole_file_that_is_not_understood_is_set_aside() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("shop", 1)).unwrap();
    store.save(&record("shop", 2)).unwrap();
    fs::write(file(&dir, "shop.json"), file::seal(b"{\"service\":\"shop\",\"from\":\"the future\"}")).unwrap();
    assert_eq!(changes(&store), [("shop".to_owned(), 1)]);
    // A copy made by hand under another name is not that other service.
    fs::copy(file(&dir, "shop.json.previous"), file(&dir, "blog.json")).unwrap();
    assert_eq!(changes(&store), [("shop".to_owned(), 1)]);
    assert!(file(&dir, "blog.json.corrupt").exists());
}

/// The moments at which `kill -9` can come, as the files that it leaves.
#[test]
fn a_crash_at_any_step_of_a_save_loses_nothing() {
    let new = record("shop", 3).encode().unwrap().bytes;
    for step in ["writing", "written", "first rename", "second rename"] {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&record("shop", 1)).unwrap();
        store.save(&record("shop", 2)).unwrap();
        drop(store);
        let (temp, current, previous) =
            (file(&dir, "shop.json.temp"), file(&dir, "shop.json"), file(&dir, "shop.json.previous"));
        fs::write(&temp, if step == "writing" { &new[..new.len() / 2] } else { &new }).unwrap();
        if step.ends_with("rename") {
            fs::rename(&current, &previous).unwrap();
        }
        if step == "second rename" {
            fs::rename(&temp, &current).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        let want = if step == "second rename" { 3 } else { 2 };
        assert_eq!(changes(&store), [("shop".to_owned(), want)], "{step}");
        assert!(!temp.exists(), "{step}: what was left over is still there");
        store.save(&record("shop", 4)).unwrap();
        assert_eq!(changes(&store), [("shop".to_owned(), 4)], "{step}");
    }
}

#[test]
fn a_second_proxy_is_refused_and_told_who_has_the_folder() {
    let dir = TempDir::new().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StateError::InUse { .. }), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains("state_dir"), "{text}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let text = Store::open(&dir.path().join("file/state")).unwrap_err().to_string();
    assert!(text.contains("file/state") && text.contains("state_dir"), "{text}");
}

#[test]
fn a_full_disk_is_an_error_and_the_old_record_stays() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record("shop", 1)).unwrap();
    symlink("/dev/full", file(&dir, "shop.json.temp")).unwrap();
    let text = store.save(&record("shop", 2)).unwrap_err().to_string();
    assert!(text.contains("shop") && text.contains("No space left"), "{text}");
    assert_eq!(changes(&store), [("shop".to_owned(), 1)]);
    store.save(&record("shop", 3)).unwrap();
    assert_eq!(changes(&store), [("shop".to_owned(), 3)]);
}

#[test]
fn one_failing_record_does_not_fail_the_others_of_its_batch() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    symlink("/dev/full", file(&dir, "b.json.temp")).unwrap();
    let batch: Vec<_> = ["a", "b", "c"].iter().map(|name| record(name, 1).encode().unwrap()).collect();
    let ok: Vec<bool> = store.write_all(&batch).iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, true]);
    assert_eq!(changes(&store), [("a".to_owned(), 1), ("c".to_owned(), 1)]);
}

#[test]
fn only_the_newest_history_is_kept() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut record = record("shop", 1);
    record.history = (0..250).map(entry).collect();
    store.save(&record).unwrap();
    let loaded = store.load_all::<Value>().remove(0);
    assert_eq!(loaded.history, (150..250).map(entry).collect::<Vec<_>>());
}

#[test]
fn odd_names_have_files_of_their_own_inside_the_folder() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let long = "long".repeat(100);
    let longer = format!("{long}x");
    let wide = "ラ".repeat(100);
    let names = [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/",
        "a/b",
        "a%2Fb",
        "shop",
        "Shop",
        "shop.json",
        "shop.json.previous",
        "shop.json.temp",
        "shop.corrupt",
        "with space",
        "line\nbreak",
        "nul\0",
        "é",
        "%",
        "~",
        &long,
        &longer,
        &wide,
    ];
    for (change, name) in (1..).zip(names) {
        store.save(&record(name, change)).unwrap();
        store.save(&record(name, change)).unwrap();
    }
    let mut want: Vec<_> = names.iter().map(|name| (*name).to_owned()).zip(1..).collect();
    let mut have = changes(&store);
    want.sort();
    have.sort();
    assert_eq!(have, want);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "only the lock and the services");
}

proptest! {
    #[test]
    fn two_names_never_share_a_file(a in "\\PC{0,80}", b in "\\PC{0,80}") {
        let (first, second) = (file::stem(&a.as_str().into()), file::stem(&b.as_str().into()));
        prop_assert_eq!(a == b, first.eq_ignore_ascii_case(&second));
        prop_assert!(first.len() + "json.previous.corrupt".len() < 255 && !first.contains(['/', '.']));
    }
}

#[tokio::test]
async fn the_writer_makes_the_newest_record_durable() {
    let dir = TempDir::new().unwrap();
    let writer = Writer::start(Store::open(dir.path()).unwrap()).unwrap();
    for change in 1..=500 {
        writer.save(record("shop", change).encode().unwrap());
    }
    writer.save(record("blog", 1).encode().unwrap());
    writer.flush(&"shop".into(), SECONDS).await.unwrap();
    let saved = file::read::<Record<Value>>(&file(&dir, "shop.json")).unwrap().unwrap();
    assert_eq!(saved.change, 500);
    writer.remove(&"blog".into());
    writer.flush(&"blog".into(), SECONDS).await.unwrap();
    assert!(!file(&dir, "blog.json").exists());
    writer.flush(&"never known".into(), SECONDS).await.unwrap();
    assert_eq!(writer.last_error(), None);
}

#[test]
fn a_writer_that_is_dropped_writes_what_waits() {
    let dir = TempDir::new().unwrap();
    let writer = Writer::start(Store::open(dir.path()).unwrap()).unwrap();
    // More than one batch.
    for n in 0..70 {
        writer.save(record(&format!("s{n}"), n).encode().unwrap());
    }
    drop(writer);
    assert_eq!(changes(&Store::open(dir.path()).unwrap()).len(), 70);
}

#[tokio::test]
async fn whoever_waits_for_a_record_does_not_wait_for_all_the_others() {
    let dir = TempDir::new().unwrap();
    let writer = Writer::start(Store::open(dir.path()).unwrap()).unwrap();
    for n in 0..5_000 {
        writer.save(record(&format!("s{n}"), n).encode().unwrap());
    }
    writer.flush(&"s4999".into(), SECONDS).await.unwrap();
    assert!(file(&dir, "s4999.json").exists());
    assert!(writer.flush_all(SECONDS).await);
    // Not whether that one is there by now: on a busy machine we may be the last to hear of it.
    let written = |name| fs::metadata(file(&dir, name)).unwrap().modified().unwrap();
    assert!(written("s4999.json") < written("s4998.json"), "it waited for those before it");
}

#[test]
fn the_end_of_the_process_is_not_held_up_by_what_waits() {
    let dir = TempDir::new().unwrap();
    let writer = Writer::start(Store::open(dir.path()).unwrap()).unwrap();
    // A disk that hangs: nobody ever reads from this pipe, which the next record shall be written to.
    let pipe = file(&dir, "shop.json.temp");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    writer.save(record("shop", 1).encode().unwrap());
    let began = Instant::now();
    drop(writer);
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    // Lets the thread go.
    drop(fs::File::open(&pipe).unwrap());
}

#[tokio::test]
async fn a_disk_error_is_told_and_everything_is_saved_after_the_repair() {
    let dir = TempDir::new().unwrap();
    let writer = Writer::start(Store::open(dir.path()).unwrap()).unwrap();
    let (services, away) = (dir.path().join("services"), dir.path().join("away"));
    fs::rename(&services, &away).unwrap();
    fs::write(&services, "not a folder").unwrap();
    writer.save(record("shop", 1).encode().unwrap());
    writer.save(record("blog", 1).encode().unwrap());
    let text = writer.flush(&"shop".into(), SECONDS).await.unwrap_err().to_string();
    assert!(text.contains("shop") && text.contains("tried again"), "{text}");
    writer.flush(&"blog".into(), SECONDS).await.unwrap_err();
    assert!(writer.last_error().is_some());

    fs::remove_file(&services).unwrap();
    fs::rename(&away, &services).unwrap();
    // The next change, of any service, saves the others too.
    writer.save(record("third", 1).encode().unwrap());
    for service in ["shop", "blog", "third"] {
        writer.flush(&service.into(), SECONDS).await.unwrap();
        assert!(file(&dir, &format!("{service}.json")).exists());
    }
    assert_eq!(writer.last_error(), None);
}

/// Not a gate: prints what it takes, `cargo test --lib ten_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "measures the disk"]
fn ten_thousand_services() {
    let dir = TempDir::new_in(".").unwrap();
    let writer = Writer::start(Store::open(dir.path()).unwrap()).unwrap();
    let began = Instant::now();
    for n in 0..10_000 {
        writer.save(record(&format!("service-{n}"), n).encode().unwrap());
    }
    println!("taken in {:?}", began.elapsed());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(writer.flush_all(10 * SECONDS)));
    drop(writer);
    println!("durable in {:?}", began.elapsed());
    let store = Store::open(dir.path()).unwrap();
    let began = Instant::now();
    assert_eq!(store.load_all::<Value>().len(), 10_000);
    println!("loaded in {:?}", began.elapsed());
    let began = Instant::now();
    store.save(&record("service-5", 2)).unwrap();
    println!("one saved in {:?}", began.elapsed());
}
