//! What ten thousand followed files cost.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;

use super::super::Watcher;
use super::super::arm::Arms;
use super::{NEVER, PATIENCE};

/// notify asks the kernel for every open and close as well, so reading the files makes twenty thousand events, and the
/// kernel's queue holds sixteen thousand: an overflow must not make the caller read them again, and again.
#[tokio::test]
#[ignore = "takes ten seconds, and prints times"]
async fn reading_ten_thousand_files_gives_no_hint_and_an_edit_of_one_is_told_soon() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("services");
    fs::create_dir(&folder).unwrap();
    let files: Vec<_> = (0..10_000).map(|n| folder.join(format!("service-{n}.toml"))).collect();
    for file in &files {
        fs::write(file, "release = \"v1\"\n".repeat(20)).unwrap();
    }
    let mut watcher = Watcher::build(NEVER, Duration::from_millis(50), Duration::ZERO, Arms::new());
    let began = Instant::now();
    watcher.follow(&files, std::slice::from_ref(&folder));
    println!("followed in {:?}", began.elapsed());
    for edit in 0..3 {
        let began = Instant::now();
        fs::write(&files[5000], format!("edit {edit}")).unwrap();
        timeout(PATIENCE, watcher.changed()).await.expect("an edit was not seen");
        println!("told after {:?}", began.elapsed());
        for file in &files {
            fs::read(file).unwrap();
        }
        // The look that the overflow asks for finds the edit once more.
        let _ = timeout(Duration::from_secs(1), watcher.changed()).await;
        timeout(Duration::from_secs(1), watcher.changed()).await.expect_err("a hint because of our own reads");
    }
}
