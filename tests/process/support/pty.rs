//! A terminal without a window: what a program draws on it is read back as a screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{PATIENCE, eventually};

/// A program on a terminal. Dropping it kills the program.
pub struct Pty {
    child: Child,
    /// The window's side; none once it is closed.
    window: Option<File>,
    /// The program's side, so that the terminal outlives the program.
    line: OwnedFd,
    closed: Arc<AtomicBool>,
    screen: Arc<Mutex<Screen>>,
}

impl Pty {
    /// Starts a program on a terminal of this size.
    pub fn start(mut command: Command, width: u16, height: u16) -> Self {
        command.env("TERM", "xterm-256color");
        Self::of_kind(command, width, height)
    }

    /// The same, with a `TERM` that the command brings.
    pub fn of_kind(mut command: Command, width: u16, height: u16) -> Self {
        let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&window).expect("a terminal of ours");
        unlockpt(&window).expect("an open terminal");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let line = ioctl_tiocgptpeer(&window, flags).expect("its other side");
        tcsetwinsize(&window, size(width, height)).expect("a size");
        let end = || Stdio::from(line.try_clone().expect("one more of it"));
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("a process");
        // Its copies of the terminal's side must not keep it open.
        drop(command);
        let screen = Arc::new(Mutex::new(Screen::new(width, height)));
        let window = File::from(window);
        let closed = Arc::new(AtomicBool::new(false));
        let (mut reader, seen, gone) =
            (window.try_clone().expect("one more of it"), Arc::clone(&screen), Arc::clone(&closed));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The window is closed only when nobody reads it.
            while !gone.load(Ordering::SeqCst) {
                let mut ready = [PollFd::new(&reader, PollFlags::IN)];
                match poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })) {
                    Ok(0) => {}
                    Ok(_) => match reader.read(&mut bytes) {
                        Ok(count @ 1..) => seen.lock().expect("a screen").take(&bytes[..count]),
                        _ => return,
                    },
                    Err(_) => return,
                }
            }
        });
        Self { child, window: Some(window), line, closed, screen }
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.screen.lock().expect("a screen").text()
    }

    /// Bytes that were sent so far.
    pub fn sent(&self) -> usize {
        self.screen.lock().expect("a screen").sent
    }

    /// Waits until the screen shows all of this.
    pub fn shows(&self, what: &[&str]) -> String {
        let began = std::time::Instant::now();
        loop {
            let text = self.text();
            if what.iter().all(|what| text.contains(what)) {
                return text;
            }
            assert!(began.elapsed() < PATIENCE, "not on the screen: {what:?}\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    }

    /// Types.
    pub fn types(&mut self, keys: &str) {
        self.window.as_mut().expect("a window").write_all(keys.as_bytes()).expect("a keyboard");
    }

    /// Makes the window another size.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.screen.lock().expect("a screen").resize(width, height);
        tcsetwinsize(self.window.as_ref().expect("a window"), size(width, height)).expect("a size");
        self.signal(Signal::WINCH);
    }

    /// Writes in the middle of the screen, as another program would.
    pub fn scribbles(&self, text: &str) {
        let mut line = File::from(self.line.try_clone().expect("one more of it"));
        line.write_all(format!("\x1b[9;1H{text}").as_bytes()).expect("a terminal");
        self.shows(&[text]);
    }

    /// Closes the window.
    pub fn close(&mut self) {
        self.window = None;
        self.closed.store(true, Ordering::SeqCst);
    }

    /// How often a colour was set.
    pub fn colors(&self) -> usize {
        self.screen.lock().expect("a screen").colors
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a process");
    }

    /// Waits for the program's end.
    pub fn exit(&mut self) -> ExitStatus {
        eventually("the program ends", || self.child.try_wait().expect("a process"))
    }

    /// What is wrong with the terminal for whoever uses it next; empty if nothing is.
    pub fn left_behind(&self) -> Vec<&'static str> {
        let modes = tcgetattr(&self.line).expect("modes").local_modes;
        let screen = self.screen.lock().expect("a screen");
        let usual = [
            (modes.contains(LocalModes::ECHO), "it does not echo"),
            (modes.contains(LocalModes::ICANON), "it does not read lines"),
            (modes.contains(LocalModes::ISIG), "Ctrl-C does nothing"),
            (!screen.alternate, "the other screen is shown"),
            (screen.cursor, "the cursor is hidden"),
            (!screen.bracketed, "pasted text is bracketed"),
        ];
        usual.into_iter().filter(|(well, _)| !well).map(|(_, what)| what).collect()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.closed.store(true, Ordering::SeqCst);
    }
}

fn size(width: u16, height: u16) -> Winsize {
    Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }
}

/// As much of a terminal as `sluice top` uses.
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    alternate: bool,
    cursor: bool,
    bracketed: bool,
    sent: usize,
    colors: usize,
    /// The beginning of a sign or a command whose rest is not there yet.
    rest: Vec<u8>,
}

impl Screen {
    fn new(width: u16, height: u16) -> Self {
        let cells = vec![vec![' '; usize::from(width)]; usize::from(height)];
        let rest = Vec::new();
        Self { cells, row: 0, column: 0, alternate: false, cursor: true, bracketed: false, sent: 0, colors: 0, rest }
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.cells = vec![vec![' '; usize::from(width)]; usize::from(height)];
    }

    fn text(&self) -> String {
        let lines = self.cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        self.sent += bytes.len();
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            self.rest = bytes[error.valid_up_to()..].to_vec();
            text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        }
        let mut signs = text.char_indices();
        while let Some((at, sign)) = signs.next() {
            match sign {
                '\x1b' => {
                    let mut command = signs.clone().map(|(_, sign)| sign);
                    let Some('[') = command.next() else {
                        self.rest.splice(0..0, text[at..].bytes());
                        return;
                    };
                    let command: String = command.collect();
                    let Some(end) = command.find(|sign: char| sign.is_ascii_alphabetic()) else {
                        self.rest.splice(0..0, text[at..].bytes());
                        return;
                    };
                    self.obey(&command[..end], &command[end..=end]);
                    signs.nth(end + 1);
                }
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                sign => {
                    if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
                        *cell = sign;
                    }
                    self.column += 1;
                }
            }
        }
    }

    fn obey(&mut self, parameters: &str, command: &str) {
        match (parameters, command) {
            (place, "H") => {
                let mut places = place.split(';').map(|number| number.parse().unwrap_or(1_usize).max(1) - 1);
                (self.row, self.column) = (places.next().unwrap_or(0), places.next().unwrap_or(0));
            }
            ("2", "J") => self.cells.iter_mut().for_each(|row| row.fill(' ')),
            ("?1049", _) => self.alternate = command == "h",
            ("?25", _) => self.cursor = command == "h",
            ("?2004", _) => self.bracketed = command == "h",
            (style, "m") => {
                // 30 to 38, but not back to the usual one.
                let color = |code: &str| code.len() == 2 && code.starts_with('3') && code != "39";
                self.colors += usize::from(style.split(';').any(color));
            }
            (_, "J" | "K") => {}
            other => panic!("the program sends {other:?}"),
        }
    }
}
