//! The poll alone, without inotify.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::time::timeout;

use super::super::Watcher;
use super::super::arm::Arms;
use super::{PATIENCE, SETTLE, Scene};

fn polling(root: TempDir, file: PathBuf, folders: &[PathBuf]) -> Scene {
    let mut watcher = Watcher::build(Duration::from_millis(30), SETTLE, Duration::ZERO, Arms::without_inotify());
    watcher.follow(std::slice::from_ref(&file), folders);
    Scene { root, file, watcher }
}

#[tokio::test]
async fn without_inotify_the_poll_finds_every_change() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("sluice.toml");
    let folder = root.path().join("services");
    let mut scene = polling(root, file, std::slice::from_ref(&folder));
    timeout(SETTLE * 10, scene.watcher.changed()).await.expect_err("a hint without a change");
    // Same length each time: it is the contents that are compared.
    for text in ["one", "two", "six"] {
        fs::write(&scene.file, text).unwrap();
        scene.sees(text).await;
    }
    fs::remove_file(&scene.file).unwrap();
    scene.sees("").await;
    fs::create_dir(&folder).unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("the folder was not seen");
    fs::write(folder.join("shop.toml"), "shop").unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("the file in the folder was not seen");
}

#[tokio::test]
async fn the_poll_does_not_wait_for_a_fifo_or_read_a_device() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("sluice.toml");
    mknodat(CWD, &file, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mut scene = polling(root, file, &[PathBuf::from("/dev/zero")]);
    timeout(SETTLE * 10, scene.watcher.changed()).await.expect_err("a hint without a change");
    fs::remove_file(&scene.file).unwrap();
    symlink("/dev/zero", &scene.file).unwrap();
    timeout(SETTLE * 10, scene.watcher.changed()).await.expect_err("there is nothing to read");
    fs::remove_file(&scene.file).unwrap();
    fs::write(&scene.file, "a file at last").unwrap();
    scene.sees("a file at last").await;
}

#[tokio::test]
async fn a_huge_file_is_compared_by_its_beginning_and_its_length() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("sluice.toml");
    let huge = fs::File::create(&file).unwrap();
    huge.set_len(1 << 40).unwrap();
    let mut scene = polling(root, file, &[]);
    huge.set_len((1 << 40) + 1).unwrap();
    timeout(PATIENCE, scene.watcher.changed()).await.expect("the length was not compared");
}
