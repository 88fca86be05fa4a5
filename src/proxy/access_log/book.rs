//! Lines of a worker on their way to whoever writes them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::telemetry::lines::{Batch, Sink};

/// Bytes that are handed over at once.
const BATCH: usize = 32 * 1024;

/// Bytes that wait in a worker while nobody has room for them; lines beyond that are lost.
const MOST: usize = 256 * 1024;

/// A worker's part of what goes to one sink.
#[derive(Debug)]
pub struct Book {
    sink: Sink,
    lines: RefCell<Batch>,
    /// Another one is written now: nobody will flush this one.
    closed: Cell<bool>,
}

/// Where a worker keeps its book.
#[derive(Debug, Default)]
pub struct Desk(RefCell<Option<Rc<Book>>>);

impl Desk {
    /// The book for what goes there.
    pub(super) fn book(&self, sink: &Sink) -> Rc<Book> {
        let mut desk = self.0.borrow_mut();
        if let Some(book) = desk.as_ref().filter(|book| book.sink.is(sink)) {
            return Rc::clone(book);
        }
        let book = Rc::new(Book {
            sink: sink.clone(),
            lines: RefCell::new(Batch { bytes: Vec::new(), lines: 0 }),
            closed: Cell::new(false),
        });
        if let Some(old) = desk.replace(Rc::clone(&book)) {
            old.closed.set(true);
            old.flush();
        }
        book
    }

    /// Hands over what has been written. Told by the watchdog, and when the worker ends.
    pub fn flush(&self) {
        if let Some(book) = &*self.0.borrow() {
            book.flush();
        }
    }
}

impl Book {
    fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if lines.bytes.is_empty() {
            return;
        }
        let full = std::mem::replace(&mut *lines, Batch { bytes: Vec::new(), lines: 0 });
        if let Err(full) = self.sink.send(full) {
            *lines = full;
        }
    }

    /// `line` writes one, with its end.
    pub(super) fn write(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = self.lines.borrow_mut();
        if lines.bytes.len() >= MOST {
            self.sink.fate().lose(1);
            return;
        }
        if lines.bytes.capacity() == 0 {
            lines.bytes.reserve(BATCH + 1024);
        }
        line(&mut lines.bytes);
        lines.lines += 1;
        let full = lines.bytes.len() >= BATCH || self.closed.get();
        drop(lines);
        if full {
            self.flush();
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        self.flush();
    }
}
