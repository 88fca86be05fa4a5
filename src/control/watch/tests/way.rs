//! Which directories the way to a file leads through.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::hops::Hops;

#[test]
fn a_loop_of_symlinks_ends() {
    let root = TempDir::new().unwrap();
    symlink("b", root.path().join("a")).unwrap();
    symlink("a", root.path().join("b")).unwrap();
    let real = root.path().canonicalize().unwrap();
    let hops = Hops::of(&[root.path().join("a")], &[]);
    assert!(hops.0[&real].contains("a".as_ref()) && hops.0[&real].contains("b".as_ref()));
}

#[test]
fn every_directory_on_the_way_is_watched_for_the_next_step() {
    let root = TempDir::new().unwrap();
    let real = root.path().canonicalize().unwrap();
    fs::create_dir_all(real.join("x/y")).unwrap();
    symlink(real.join("x/y"), real.join("z")).unwrap();
    fs::write(real.join("x/y/f"), "").unwrap();
    let hops = Hops::of(&[real.join("z/../y/f")], &[]);
    for (dir, name) in [(real.clone(), "z"), (real.clone(), "x"), (real.join("x"), "y"), (real.join("x/y"), "f")] {
        assert!(hops.0.get(&dir).is_some_and(|names| names.contains(name.as_ref())), "{name} in {}", dir.display());
    }
    assert!(!hops.0[&real].contains("other".as_ref()));
}

#[test]
fn links_among_many_files_are_followed_too() {
    let root = TempDir::new().unwrap();
    let real = root.path().canonicalize().unwrap();
    let files: Vec<PathBuf> = (0..200).map(|n| real.join(n.to_string())).collect();
    for file in &files[..100] {
        fs::write(file, "").unwrap();
    }
    fs::create_dir(real.join("far")).unwrap();
    symlink("far/away", real.join("150")).unwrap();
    let hops = Hops::of(&files, &[]);
    assert!(files.iter().all(|file| hops.0[&real].contains(file.file_name().unwrap())));
    assert!(hops.0[&real].contains("far".as_ref()) && hops.0[&real.join("far")].contains("away".as_ref()));
}
