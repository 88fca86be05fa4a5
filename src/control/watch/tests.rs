//! Every way of saving a file, against the real file system. The poll is an hour away here.

mod polling;
mod scale;
mod way;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, timeout, timeout_at};

use super::arm::Arms;
use super::{BURST, Watcher};

const PATIENCE: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_hours(1);

/// A folder `etc` with the followed file `sluice.toml` in it, in a folder of its own.
struct Scene {
    root: TempDir,
    file: PathBuf,
    watcher: Watcher,
}

impl Scene {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let file = root.path().join("etc/sluice.toml");
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(&file, "one").unwrap();
        Self::following(root, file)
    }

    fn following(root: TempDir, file: PathBuf) -> Self {
        let mut watcher = Watcher::build(NEVER, SETTLE, Duration::ZERO, Arms::new());
        watcher.follow(std::slice::from_ref(&file), &[]);
        Self { root, file, watcher }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Waits for hints until the file holds `text`; a missing file holds nothing.
    async fn sees(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            timeout_at(end, self.watcher.changed()).await.unwrap_or_else(|_| panic!("no hint that showed {text:?}"));
            if fs::read_to_string(&self.file).unwrap_or_default() == text {
                return;
            }
        }
    }

    /// Takes the hints that are still on their way.
    async fn calm(&mut self) {
        while timeout(SETTLE * 10, self.watcher.changed()).await.is_ok() {}
    }
}

#[tokio::test]
async fn a_write_in_place_is_seen() {
    let mut scene = Scene::new();
    fs::write(&scene.file, "two").unwrap();
    scene.sees("two").await;
    fs::write(&scene.file, "three").unwrap();
    scene.sees("three").await;
}

#[tokio::test]
async fn a_truncation_and_a_later_write_are_seen() {
    let mut scene = Scene::new();
    let mut file = fs::File::create(&scene.file).unwrap();
    scene.sees("").await;
    file.write_all(b"two").unwrap();
    scene.sees("two").await;
}

#[tokio::test]
async fn both_halves_of_a_file_written_in_two_steps_are_seen() {
    let mut scene = Scene::new();
    let mut file = fs::File::create(&scene.file).unwrap();
    file.write_all(b"first ").unwrap();
    scene.sees("first ").await;
    file.write_all(b"second").unwrap();
    scene.sees("first second").await;
}

#[tokio::test]
async fn renames_over_the_file_are_seen_again_and_again() {
    let mut scene = Scene::new();
    for text in ["two", "three", "four"] {
        let temp = scene.path("etc/sluice.toml.tmp");
        fs::write(&temp, text).unwrap();
        fs::rename(&temp, &scene.file).unwrap();
        scene.sees(text).await;
    }
    // And a write to the file that stands there now.
    fs::write(&scene.file, "five").unwrap();
    scene.sees("five").await;
}

#[tokio::test]
async fn a_file_moved_in_from_elsewhere_is_seen() {
    let mut scene = Scene::new();
    let temp = scene.path("elsewhere");
    fs::write(&temp, "two").unwrap();
    fs::rename(&temp, &scene.file).unwrap();
    scene.sees("two").await;
}

#[tokio::test]
async fn the_way_sed_saves_is_seen() {
    let mut scene = Scene::new();
    for text in ["two", "three"] {
        let mut temp = tempfile::Builder::new().prefix("sed").tempfile_in(scene.path("etc")).unwrap();
        temp.write_all(text.as_bytes()).unwrap();
        temp.persist(&scene.file).unwrap();
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn the_way_vim_saves_is_seen() {
    let mut scene = Scene::new();
    for text in ["two", "three"] {
        let backup = scene.path("etc/sluice.toml~");
        fs::rename(&scene.file, &backup).unwrap();
        fs::write(&scene.file, text).unwrap();
        fs::remove_file(&backup).unwrap();
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn a_swapped_symlink_is_seen_and_so_is_a_write_behind_it() {
    let root = TempDir::new().unwrap();
    for release in ["r1", "r2"] {
        fs::create_dir(root.path().join(release)).unwrap();
        fs::write(root.path().join(release).join("sluice.toml"), release).unwrap();
    }
    fs::create_dir(root.path().join("etc")).unwrap();
    symlink("r1", root.path().join("current")).unwrap();
    let file = root.path().join("etc/sluice.toml");
    symlink("../current/sluice.toml", &file).unwrap();
    let mut scene = Scene::following(root, file);

    symlink("r2", scene.path("next")).unwrap();
    fs::rename(scene.path("next"), scene.path("current")).unwrap();
    scene.sees("r2").await;
    fs::write(scene.path("r2/sluice.toml"), "r2 edited").unwrap();
    scene.sees("r2 edited").await;
}

/// What the kubelet's AtomicWriter does.
fn config_map(dir: &Path, generation: &str, text: &str) {
    let data = dir.join(format!("..{generation}"));
    let old = fs::read_link(dir.join("..data")).ok();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("sluice.toml"), text).unwrap();
    symlink(format!("..{generation}"), dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).unwrap();
    } else {
        symlink("..data/sluice.toml", dir.join("sluice.toml")).unwrap();
    }
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_swaps() {
    let root = TempDir::new().unwrap();
    config_map(root.path(), "2024_1", "one");
    let file = root.path().join("sluice.toml");
    let mut scene = Scene::following(root, file);
    for (generation, text) in [("2024_2", "two"), ("2024_3", "three"), ("2024_4", "four")] {
        config_map(scene.root.path(), generation, text);
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn a_deleted_and_recreated_file_is_seen() {
    let mut scene = Scene::new();
    for text in ["two", "three"] {
        fs::remove_file(&scene.file).unwrap();
        scene.sees("").await;
        fs::write(&scene.file, text).unwrap();
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn a_replaced_folder_is_seen_and_so_are_edits_in_the_new_one() {
    let mut scene = Scene::new();
    for (old, text) in [("etc.1", "two"), ("etc.2", "three")] {
        fs::create_dir(scene.path("new")).unwrap();
        fs::write(scene.path("new/sluice.toml"), text).unwrap();
        fs::rename(scene.path("etc"), scene.path(old)).unwrap();
        fs::rename(scene.path("new"), scene.path("etc")).unwrap();
        scene.sees(text).await;
        scene.calm().await;
        let edited = format!("{text}, edited");
        fs::write(&scene.file, &edited).unwrap();
        scene.sees(&edited).await;
    }
}

#[tokio::test]
async fn a_replaced_grandparent_is_seen() {
    let root = TempDir::new().unwrap();
    for tree in ["app", "app.new"] {
        fs::create_dir_all(root.path().join(tree).join("etc")).unwrap();
        fs::write(root.path().join(tree).join("etc/sluice.toml"), tree).unwrap();
    }
    let file = root.path().join("app/etc/sluice.toml");
    let mut scene = Scene::following(root, file);
    fs::rename(scene.path("app"), scene.path("app.old")).unwrap();
    fs::rename(scene.path("app.new"), scene.path("app")).unwrap();
    scene.sees("app.new").await;
    fs::write(&scene.file, "edited").unwrap();
    scene.sees("edited").await;
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_comes_back_later_is_seen() {
    let mut scene = Scene::new();
    for text in ["two", "three"] {
        fs::remove_dir_all(scene.path("etc")).unwrap();
        scene.sees("").await;
        scene.calm().await;
        fs::create_dir(scene.path("etc")).unwrap();
        scene.calm().await;
        fs::write(&scene.file, text).unwrap();
        scene.sees(text).await;
    }
}

#[tokio::test]
async fn a_file_whose_folders_do_not_exist_yet_is_seen_when_it_comes() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("a/b/c/sluice.toml");
    let mut scene = Scene::following(root, file);
    fs::create_dir_all(scene.path("a/b/c")).unwrap();
    fs::write(&scene.file, "here").unwrap();
    scene.sees("here").await;
    fs::write(&scene.file, "edited").unwrap();
    scene.sees("edited").await;
}

#[tokio::test]
async fn a_burst_of_writes_gives_few_hints_and_the_last_one_shows_the_end() {
    let mut scene = Scene::new();
    let file = scene.file.clone();
    let began = Instant::now();
    let writer = std::thread::spawn(move || {
        for n in 0..200 {
            fs::write(&file, format!("write {n}")).unwrap();
        }
    });
    let mut hints = 0;
    while fs::read_to_string(&scene.file).unwrap() != "write 199" || !writer.is_finished() {
        timeout(PATIENCE, scene.watcher.changed()).await.expect("no hint for the end of the burst");
        hints += 1;
    }
    // A hint takes at least one settle time, so a slow machine, on which the burst takes long, may give more of them.
    let most = 2 + began.elapsed().as_millis() / SETTLE.as_millis();
    assert!(hints <= most.min(100), "{hints} hints for one burst");
    writer.join().unwrap();
}

#[tokio::test]
async fn an_endless_burst_is_cut() {
    let mut scene = Scene::new();
    let file = scene.file.clone();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&file, "again").unwrap();
                std::thread::sleep(SETTLE / 10);
            }
        })
    };
    let hint = timeout(PATIENCE.max(SETTLE * BURST), scene.watcher.changed()).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    hint.expect("a burst without an end kept the hint back");
}

#[tokio::test]
async fn a_new_file_in_an_include_folder_is_seen() {
    let mut scene = Scene::new();
    let folder = scene.path("services");
    // The folder itself may come later.
    scene.watcher.follow(std::slice::from_ref(&scene.file), std::slice::from_ref(&folder));
    fs::create_dir(&folder).unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("the folder was not seen");
    scene.calm().await;
    fs::write(folder.join("shop.toml"), "shop").unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("the new file was not seen");
    scene.calm().await;
    fs::remove_file(folder.join("shop.toml")).unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("the removal was not seen");
}

#[tokio::test]
async fn what_is_no_longer_followed_gives_no_hint() {
    let mut scene = Scene::new();
    fs::create_dir(scene.path("other")).unwrap();
    let other = scene.path("other/sluice.toml");
    scene.watcher.follow(&[scene.file.clone(), other.clone()], &[]);
    fs::write(&other, "one").unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("a followed file was not seen");
    scene.watcher.follow(std::slice::from_ref(&scene.file), &[]);
    scene.calm().await;
    fs::write(&other, "two").unwrap();
    timeout(SETTLE * 10, scene.watcher.changed()).await.expect_err("a hint for a file that is not followed");
}

#[tokio::test]
async fn reading_gives_no_hint_and_neither_do_the_neighbours_of_a_file() {
    let mut scene = Scene::new();
    scene.watcher.follow(std::slice::from_ref(&scene.file), &[scene.path("etc")]);
    scene.calm().await;
    for _ in 0..20 {
        fs::read(&scene.file).unwrap();
        fs::read_dir(scene.path("etc")).unwrap().count();
        fs::write(scene.path("a log beside the folder"), "line").unwrap();
    }
    timeout(SETTLE * 15, scene.watcher.changed()).await.expect_err("a hint without a change");
    // It is quiet because nothing happened, not because it is deaf.
    fs::write(&scene.file, "two").unwrap();
    scene.sees("two").await;
}

#[tokio::test]
async fn a_hint_is_not_lost_when_the_caller_stops_waiting_for_it() {
    let mut scene = Scene::new();
    fs::write(&scene.file, "two").unwrap();
    // Dropped while it settles.
    let end = Instant::now() + PATIENCE;
    while scene.watcher.stirred.is_none() && Instant::now() < end {
        if timeout(SETTLE / 4, scene.watcher.changed()).await.is_ok() {
            return;
        }
    }
    scene.sees("two").await;
}

#[tokio::test]
async fn an_overflow_counts_only_if_the_contents_differ() {
    let mut scene = Scene::new();
    scene.watcher.arms.shared().overflow();
    timeout(SETTLE * 10, scene.watcher.changed()).await.expect_err("a hint for an overflow that lost nothing");
    scene.watcher.arms = Arms::without_inotify();
    fs::write(&scene.file, "two").unwrap();
    scene.watcher.arms.shared().overflow();
    scene.sees("two").await;
}

#[tokio::test]
async fn a_file_that_was_just_written_when_it_is_first_followed_gives_a_hint() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("sluice.toml");
    fs::write(&file, "one").unwrap();
    let mut watcher = Watcher::new(NEVER, SETTLE);
    watcher.follow(std::slice::from_ref(&file), &[]);
    timeout(PATIENCE, watcher.changed()).await.expect("a change before the first look would be missed");
    watcher.follow(std::slice::from_ref(&file), &[]);
    timeout(SETTLE * 10, watcher.changed()).await.expect_err("the file is not new any more");
}

#[tokio::test]
async fn a_file_that_is_named_twice_is_new_once() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("cert.pem");
    fs::write(&file, "one").unwrap();
    let mut watcher = Watcher::new(NEVER, SETTLE);
    let twice = [file.clone(), file];
    watcher.follow(&twice, &[]);
    timeout(PATIENCE, watcher.changed()).await.expect("a change before the first look would be missed");
    watcher.follow(&twice, &[]);
    timeout(SETTLE * 10, watcher.changed()).await.expect_err("the file is not new any more");
}
