//! The terminal itself: taken, drawn on, and given back however this ends.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};

use super::app::App;
use super::draw::draw;

/// Bytes of a screen that go out in one piece.
const PIECE: usize = 64 * 1024;

/// Whether the terminal is ours now; a panic anywhere must know.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether there is one to draw on and to read keys from.
pub fn is_there() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdin().is_terminal() && stdout().is_terminal() && !dumb
}

/// The terminal while it is ours. Dropping it gives it back; so does a panic, before its message is written.
pub struct Taken {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Taken {
    /// Takes it.
    pub fn new() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                usual(panic);
            }));
        });
        take()?;
        empty().map(|terminal| Self { terminal }).inspect_err(|_| give_back())
    }

    /// Draws what differs from what is there.
    pub fn draw(&mut self, app: &mut App) -> io::Result<()> {
        self.terminal.draw(|frame| draw(app, frame.buffer_mut()))?;
        Ok(())
    }

    /// Makes the next drawing draw everything: somebody else wrote on the screen.
    pub fn forget(&mut self) -> io::Result<()> {
        // Not by `Terminal::clear`, which asks the terminal where its cursor is, and waits for an answer that the keys' thread reads.
        execute!(stdout(), Clear(ClearType::All))?;
        self.terminal = empty()?;
        Ok(())
    }

    /// Takes it again, after a shell had it.
    pub fn again(&mut self) -> io::Result<()> {
        // Whatever modes are set now are not ours.
        give_back();
        take()?;
        self.forget()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// One on which nothing was drawn yet.
fn empty() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(PIECE, stdout())))
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    // Pasted text must not be taken for commands.
    let entered = execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide, Clear(ClearType::All));
    entered.inspect_err(|_| give_back())
}

/// Gives it back, once. That it cannot be written to any more is no reason to stop half-way, and there is nobody to tell.
pub fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = stdout();
    let _ = queue!(out, ResetColor, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}
