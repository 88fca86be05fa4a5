//! A panic gives the terminal back, and only then says what happened.
//!
//! It needs a process of its own, since a panic's hook is the whole process's: this test program, run again on a terminal.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::super::terminal::Taken;

#[test]
#[ignore = "run by the next one, on a terminal"]
fn child() {
    let _taken = Taken::new().unwrap();
    panic!("as if something were wrong");
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_says_why() {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let window = openpt(flags).unwrap();
    grantpt(&window).unwrap();
    unlockpt(&window).unwrap();
    let line = ioctl_tiocgptpeer(&window, flags).unwrap();
    let end = || Stdio::from(line.try_clone().unwrap());
    let test = concat!(module_path!(), "::child").split_once("::").unwrap().1;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    // A backtrace is more than a terminal holds.
    command.env("RUST_BACKTRACE", "0");
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(command);
    // Far less than a terminal holds, so that nobody must read meanwhile.
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_mins(1) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    let modes = tcgetattr(&line).unwrap().local_modes;
    assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "{modes:?}");
    drop(line);
    let (mut window, mut said, mut bytes) = (File::from(window), Vec::new(), [0; 4096]);
    // Its end is an error: nobody has the other side any more.
    while let Ok(count @ 1..) = window.read(&mut bytes) {
        said.extend_from_slice(&bytes[..count]);
    }
    let said = String::from_utf8_lossy(&said);
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text:?} in {said:?}"));
    assert!(place("\x1b[?1049h") < place("\x1b[?1049l"), "{said:?}");
    assert!(place("\x1b[?1049l") < place("as if something were wrong"), "{said:?}");
    assert!(place("\x1b[?25l") < place("\x1b[?25h"), "{said:?}");
    assert_eq!(said.matches("\x1b[?1049l").count(), 1, "given back once: {said:?}");
}
