//! What people type, as [`Key`]s. A thread of its own reads it, because reading a terminal blocks.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read};
use tokio::sync::mpsc;

use super::app::Key;

/// Keys that wait while something is drawn; more are left to the terminal.
const WAITING: usize = 64;
/// What belongs to an escape sequence comes this quickly, even if a network tore it into two pieces.
const TOGETHER: Duration = Duration::from_millis(40);

/// What comes from the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(Key),
    /// Pasted text.
    Pasted(String),
    /// It has another size, or got the focus.
    Resized,
    /// It cannot be read any more.
    Lost,
}

/// Reads until the process ends, or nobody listens.
pub fn listen() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(WAITING);
    // It never ends while nothing is typed, so nobody waits for it.
    std::thread::spawn(move || {
        loop {
            let input = match next() {
                Ok(Some(input)) => input,
                Ok(None) => continue,
                Err(_) => Input::Lost,
            };
            let lost = input == Input::Lost;
            if sender.blocking_send(input).is_err() || lost {
                return;
            }
        }
    });
    receiver
}

fn next() -> io::Result<Option<Input>> {
    match read()? {
        Event::Key(event) => {
            let Some(mut key) = key(event) else { return Ok(None) };
            if key == Key::Escape
                && let Some(whole) = rest_of_sequence()?
            {
                key = whole;
            }
            Ok(Some(Input::Key(key)))
        }
        Event::Paste(text) => Ok(Some(Input::Pasted(text))),
        Event::Resize(..) => Ok(Some(Input::Resized)),
        _ => Ok(None),
    }
}

/// An arrow key that came in two packets looks like Escape with letters behind it, which would quit. None if it was Escape alone.
fn rest_of_sequence() -> io::Result<Option<Key>> {
    let mut begun = false;
    while poll(TOGETHER)? {
        let Event::Key(event) = read()? else { break };
        match event.code {
            KeyCode::Char('[' | 'O') if !begun => begun = true,
            KeyCode::Char(sign) if begun && (sign.is_ascii_digit() || sign == ';') => {}
            KeyCode::Char('A') if begun => return Ok(Some(Key::Move(-1))),
            KeyCode::Char('B') if begun => return Ok(Some(Key::Move(1))),
            _ => break,
        }
    }
    // Whatever else it was, it was no Escape.
    Ok(begun.then_some(Key::Move(0)))
}

fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return match event.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            KeyCode::Char('l') => Some(Key::Redraw),
            KeyCode::Char('z') => Some(Key::Suspend),
            KeyCode::Char('f' | 'd') => Some(Key::Page(1)),
            KeyCode::Char('b' | 'u') => Some(Key::Page(-1)),
            KeyCode::Char('h') => Some(Key::Backspace),
            _ => None,
        };
    }
    if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META) {
        return None;
    }
    match event.code {
        KeyCode::Char(letter) => Some(Key::Char(letter)),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Backspace => Some(Key::Backspace),
        KeyCode::Up => Some(Key::Move(-1)),
        KeyCode::Down => Some(Key::Move(1)),
        KeyCode::PageUp => Some(Key::Page(-1)),
        KeyCode::PageDown => Some(Key::Page(1)),
        KeyCode::Home => Some(Key::Home),
        KeyCode::End => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_alt_or_control_are_no_commands() {
        let pressed = |code, modifiers| key(KeyEvent::new(code, modifiers));
        assert_eq!(pressed(KeyCode::Char('a'), KeyModifiers::NONE), Some(Key::Char('a')));
        assert_eq!(pressed(KeyCode::Char('P'), KeyModifiers::SHIFT), Some(Key::Char('P')));
        assert_eq!(pressed(KeyCode::Char('a'), KeyModifiers::ALT), None);
        assert_eq!(pressed(KeyCode::Char('a'), KeyModifiers::CONTROL), None);
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        let released = KeyEvent::new_with_kind(KeyCode::Char('a'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(key(released), None);
    }
}
