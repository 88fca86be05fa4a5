//! A state folder that cannot be written any more: the proxy goes on, and says so.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{LISTENER, Proxy, QUICK, Site, eventually, get, list, origin};

/// Deploys v2 while nothing can be saved, and back again when something can.
fn deploys_all_the_same(site: &Site, proxy: &Proxy, text: impl Fn(&str) -> String, mend: impl FnOnce()) {
    site.write(&text("v2"));
    // The second one asks when all is over, and must learn no less.
    for _ in 0..2 {
        let waited = site.verb(&["wait", "shop", "--timeout", "60s"]);
        let said = String::from_utf8_lossy(&waited.stdout).into_owned() + &String::from_utf8_lossy(&waited.stderr);
        assert_eq!(waited.status.code(), Some(0), "{said}");
        assert!(said.contains("cannot save the state of service shop"), "{said}");
    }
    assert_eq!(get(proxy.address(), "shop.test", "/").expect("an answer").header("x-version"), Some("v2"));
    for verb in [&["maintenance", "shop", "on"][..], &["maintenance", "shop", "off"]] {
        let done = site.verb(verb);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{said}");
        assert!(said.contains("warning: cannot save the state of service shop"), "{said}");
    }
    let told = eventually("the status tells it", || proxy.status()?.journal);
    let unsaved = proxy.service("shop").expect("a status").unsaved.expect("it is told of the service too");
    assert!(unsaved.starts_with("cannot save the state of service shop"), "{unsaved}");
    assert!(told.contains("cannot save the state of service shop"), "{told}");
    let shown = String::from_utf8_lossy(&site.verb(&["status"]).stdout).into_owned();
    assert!(shown.contains("NOT SAVED"), "{shown}");

    mend();
    site.write(&text("v1"));
    assert!(site.verb(&["wait", "shop", "--timeout", "60s"]).status.success());
    eventually("it is saved again", || proxy.status()?.journal.is_none().then_some(()));
    assert!(proxy.log().contains("state is saved again"), "{}", proxy.log());
}

fn text(v1: &str, v2: &str, release: &str) -> String {
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n{QUICK}versions = {{ v1 = {v1}, v2 = {v2} }}\n"
    )
}

#[test]
fn a_state_folder_that_is_taken_away_stops_no_deploy() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let text = |release: &str| text(&list(&v1), &list(&v2), release);
    let site = Site::new(&text("v1"));
    let proxy = site.start();
    proxy.settled("shop");
    let (services, away) = (site.path("state/services"), site.path("state/away"));
    fs::rename(&services, &away).expect("moved");
    fs::write(&services, "not a folder").expect("a file");
    deploys_all_the_same(&site, &proxy, text, || {
        fs::remove_file(&services).expect("removed");
        fs::rename(&away, &services).expect("moved back");
    });
}

/// A small file system of its own; None where that is not allowed.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        fs::create_dir_all(at).ok()?;
        let options = ["-t", "tmpfs", "-o", "size=64k", "sluice-test"];
        let done = Command::new("mount").args(options).arg(at).output().ok()?;
        done.status.success().then_some(Self(at))
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "remount {how}");
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_stop_no_deploy() {
    let (v1, v2) = ([origin("v1")], [origin("v2")]);
    let text = |release: &str| text(&list(&v1), &list(&v2), release);
    let site = Site::new(&text("v1"));
    let state = site.path("state");
    let Some(disk) = Disk::mount(&state) else {
        println!("no file system can be mounted here; the test beside this one shows the same with a path");
        return;
    };
    let proxy = site.start();
    proxy.settled("shop");
    eventually("the first record is there", || state.join("services/shop.json").exists().then_some(()));

    let filler = state.join("filler");
    let mut size = 1 << 20;
    let mut file = fs::File::create(&filler).expect("a file");
    while size > 0 {
        // What fits is written, and then smaller pieces.
        if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
            size /= 2;
        }
    }
    drop(file);
    deploys_all_the_same(&site, &proxy, text, || fs::remove_file(&filler).expect("removed"));

    // Read-only while it runs is refused by the kernel as long as the lock is open for writing; at the start it is told.
    drop(proxy);
    disk.remount("ro");
    let (code, said) = site.refused(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("state folder") && said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_first_start_with_thousands_of_services_is_ready_and_ends_soon() {
    use std::fmt::Write as _;
    let mut text = format!("shutdown = {{ linger = \"0s\" }}\n{LISTENER}");
    for index in 0..2_000 {
        let _ = write!(
            text,
            "[service.s{index}]\nmatch = \"s{index}.test\"\nnodes = [\"127.0.0.1:1\"]\nhealth = {{ interval = \"1h\" }}\n"
        );
    }
    let site = Site::new(&text);
    let began = Instant::now();
    let mut proxy = site.start();
    println!("ready after {:?}", began.elapsed());
    let told = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().code(), Some(0));
    println!("ended after {:?}", told.elapsed());
    // Seven seconds are given to the journal, whatever the disk does.
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
}
