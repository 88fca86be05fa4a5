//! The short way of a message: a tunnel at rest is not run as a task when one of its sockets has something. Who notices it, the
//! runtime's look at its sockets, passes the message on at once; the task runs when there is anything else to do.
//!
//! To enter a task in a queue, find it there and run it is a seventh of what a message costs outside the kernel.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

use slab::Slab;

/// What can be done without a task.
pub trait Pass {
    /// Does what there is to do. False: it is for the task.
    fn pass(&self) -> bool;

    /// It came to a panic, so that nobody knows where it stands.
    fn spoil(&self);
}

thread_local! {
    /// By the place of their [`Entry`], with its number.
    static OPEN: RefCell<Slab<(u64, Rc<dyn Pass>)>> = const { RefCell::new(Slab::new()) };
}

/// Numbers are never given twice: a waker may outlast its entry, and may come to another thread.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Keeps a short way open, on the thread that opened it.
#[derive(Debug)]
pub struct Entry {
    place: usize,
    number: u64,
}

impl Entry {
    /// Opens a short way. For what waits for sockets, which only the runtime wakes: while a task is at work it may hold what the
    /// other end of the way needs.
    pub fn open(pass: Rc<dyn Pass>) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = OPEN.with_borrow_mut(|open| open.insert((number, pass)));
        Self { place, number }
    }

    /// What takes the short way when it is woken, and wakes `task` if that does not lead to the end.
    pub fn waker(&self, task: Waker) -> Waker {
        Arc::new(Shortcut { place: self.place, number: self.number, task }).into()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A thread that ends has let go of it already.
        let pass = OPEN.try_with(|open| open.borrow_mut().try_remove(self.place));
        // Dropped when nothing is borrowed any more: it may be the last that knew of it.
        drop(pass);
    }
}

struct Shortcut {
    place: usize,
    number: u64,
    task: Waker,
}

impl Shortcut {
    fn take(&self) -> bool {
        let found = OPEN.try_with(|open| match open.try_borrow().ok()?.get(self.place) {
            Some((number, pass)) if *number == self.number => Some(Rc::clone(pass)),
            _ => None,
        });
        let Ok(Some(pass)) = found else { return false };
        // A panic ends what it happens in, as in a task, and not the thread.
        catch_unwind(AssertUnwindSafe(|| pass.pass())).unwrap_or_else(|_| {
            pass.spoil();
            false
        })
    }
}

impl Wake for Shortcut {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.take() {
            self.task.wake_by_ref();
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// In a task's place: counts how often it was woken.
    #[derive(Default)]
    pub struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        pub fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        /// Resolves when it was woken so many times.
        pub async fn woken(&self, times: usize) {
            while self.times() < times {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Does its work so many times, then leaves it to the task; panics at the end.
    struct Work {
        left: Cell<i32>,
        spoilt: Cell<bool>,
    }

    impl Pass for Work {
        fn pass(&self) -> bool {
            self.left.set(self.left.get() - 1);
            assert!(self.left.get() > -2, "nothing is left");
            self.left.get() >= 0
        }

        fn spoil(&self) {
            self.spoilt.set(true);
        }
    }

    fn opened(left: i32) -> (Rc<Work>, Entry, Arc<Count>, Waker) {
        let work = Rc::new(Work { left: Cell::new(left), spoilt: Cell::default() });
        let (entry, task) = (Entry::open(Rc::clone(&work) as Rc<dyn Pass>), Arc::new(Count::default()));
        let waker = entry.waker(Arc::clone(&task).into());
        (work, entry, task, waker)
    }

    #[test]
    fn the_task_is_woken_for_what_cannot_be_passed_on_and_after_a_panic() {
        let (work, _entry, task, waker) = opened(2);
        let woken = [1, 2, 3, 4].map(|_| {
            waker.wake_by_ref();
            (task.times(), work.spoilt.get())
        });
        assert_eq!(woken, [(0, false), (0, false), (1, false), (2, true)]);
    }

    #[test]
    fn a_waker_that_outlasts_its_entry_or_comes_to_another_thread_wakes_the_task() {
        let (work, entry, task, waker) = opened(9);
        let other = waker.clone();
        std::thread::spawn(move || {
            // The place is taken there, too, by somebody else.
            let (else_work, _else_entry, ..) = opened(5);
            other.wake();
            assert_eq!(else_work.left.get(), 5);
        })
        .join()
        .expect("no panic");
        drop(entry);
        let (next, _next_entry, ..) = opened(7);
        waker.wake();
        assert_eq!((work.left.get(), next.left.get(), task.times()), (9, 7, 2));
        assert_eq!(Rc::strong_count(&work), 1);
    }
}
