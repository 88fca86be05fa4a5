//! The short way of a message: a tunnel at rest is not run as a task when one of its sockets has something. Who notices it, the
//! runtime's look at its sockets, passes the message on at once; the task runs when there is anything else to do.
//!
//! To enter a task in a queue, find it there and run it is a seventh of what a message costs outside the kernel.
//!
//! What the runtime is given to wake is a number, a ticket, and no pointer: it takes a waker and gives it back for each message, and the
//! holders of a shared one (`Arc`) would be counted each time, by two locked instructions. That the functions of such a waker
//! are sound is the `unsafe` of this file; they take the ticket for nothing but a number.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{RawWaker, RawWakerVTable, Waker};

use slab::Slab;

/// What can be done without a task.
pub trait Pass {
    /// Does what there is to do. False: it is for the task.
    fn pass(&self) -> bool;

    /// It came to a panic, so that nobody knows where it stands.
    fn spoil(&self);
}

/// A way of this thread.
struct Way {
    ticket: usize,
    pass: Rc<dyn Pass>,
    task: Waker,
}

thread_local! {
    /// By the place in their tickets.
    static OPEN: RefCell<Slab<Way>> = const { RefCell::new(Slab::new()) };
}

/// Whom a ticket wakes on a thread that is not its own, where nobody wakes it but a runtime that ends. Locked when a way opens and
/// ends, and for no message.
static TASKS: Mutex<BTreeMap<usize, Waker>> = Mutex::new(BTreeMap::new());

/// The next number. A waker may outlast its entry, and may come to another thread.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// The lower bits of a ticket are its place, those above it its number, which is given again after 10^12 others.
const PLACE_BITS: u32 = 24;

/// Keeps a short way open, on the thread that opened it.
#[derive(Debug)]
pub struct Entry {
    ticket: usize,
    /// Another thread has somebody else's way in that place.
    _here: PhantomData<Rc<()>>,
}

impl Entry {
    /// Opens a short way. For what waits for sockets, which only the runtime wakes: while a task is at work it may hold what the
    /// other end of the way needs. None where a ticket is too narrow for all of them.
    pub fn open(pass: Rc<dyn Pass>) -> Option<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        OPEN.with_borrow_mut(|open| {
            let vacant = open.vacant_entry();
            if vacant.key() >> PLACE_BITS > 0 || usize::BITS < 64 {
                return None;
            }
            let ticket = number << PLACE_BITS | vacant.key();
            vacant.insert(Way { ticket, pass, task: Waker::noop().clone() });
            Some(Self { ticket, _here: PhantomData })
        })
    }

    /// What takes the short way when it is woken, and wakes `task` if that does not lead to the end.
    pub fn waker(&self, task: Waker) -> Waker {
        // What was there is dropped when nothing is borrowed any more: it may be the last that knew of a task.
        let _before = tasks().insert(self.ticket, task.clone());
        let _before = OPEN.with_borrow_mut(|open| mem::replace(&mut open[place(self.ticket)].task, task));
        // SAFETY: the functions of the table use what they are given as a number only, own nothing, and may be called on any thread.
        unsafe { Waker::from_raw(raw(ptr::without_provenance(self.ticket))) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let task = tasks().remove(&self.ticket);
        // A thread that ends has let go of it already.
        let way = OPEN.try_with(|open| open.borrow_mut().try_remove(place(self.ticket)));
        // Dropped when nothing is borrowed any more: they may be the last that knew of something.
        drop((task, way));
    }
}

fn place(ticket: usize) -> usize {
    ticket & ((1 << PLACE_BITS) - 1)
}

fn tasks() -> MutexGuard<'static, BTreeMap<usize, Waker>> {
    TASKS.lock().unwrap_or_else(PoisonError::into_inner)
}

static TABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| ());

fn raw(ticket: *const ()) -> RawWaker {
    RawWaker::new(ticket, &TABLE)
}

fn wake(ticket: *const ()) {
    let ticket = ticket.addr();
    let found = OPEN.try_with(|open| match open.try_borrow().ok()?.get(place(ticket)) {
        Some(way) if way.ticket == ticket => Some(Rc::clone(&way.pass)),
        _ => None,
    });
    let Ok(Some(pass)) = found else {
        let task = tasks().get(&ticket).cloned();
        return task.map(Waker::wake).unwrap_or_default();
    };
    // A panic ends what it happens in, as in a task, and not the thread.
    let passed = catch_unwind(AssertUnwindSafe(|| pass.pass())).unwrap_or_else(|_| {
        pass.spoil();
        false
    });
    if !passed {
        // A task may let go of its way when it is woken, but not before it runs.
        let task = OPEN
            .with_borrow(|open| open.get(place(ticket)).filter(|way| way.ticket == ticket).map(|way| way.task.clone()));
        task.map(Waker::wake).unwrap_or_default();
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::task::Wake;

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
        let entry = Entry::open(Rc::clone(&work) as Rc<dyn Pass>).expect("there is a place");
        let task = Arc::new(Count::default());
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
    fn on_another_thread_a_waker_wakes_the_task_and_takes_no_way_that_is_in_its_place_there() {
        let (work, _entry, task, waker) = opened(9);
        std::thread::spawn(move || {
            let (here, _entry, ..) = opened(5);
            waker.wake();
            assert_eq!(here.left.get(), 5);
        })
        .join()
        .expect("no panic");
        assert_eq!((work.left.get(), task.times()), (9, 1));
    }

    #[test]
    fn a_waker_that_outlasts_its_entry_wakes_nobody_and_nothing_is_kept_for_it() {
        let (work, entry, task, waker) = opened(9);
        drop(entry);
        let (next, _entry, ..) = opened(7);
        waker.wake();
        assert_eq!((work.left.get(), next.left.get(), task.times()), (9, 7, 0));
        assert_eq!((Rc::strong_count(&work), Arc::strong_count(&task)), (1, 1));
    }

    #[test]
    fn a_task_that_takes_its_place_is_woken_instead() {
        let (_work, entry, former, _) = opened(0);
        let task = Arc::new(Count::default());
        entry.waker(Arc::clone(&task).into()).wake_by_ref();
        assert_eq!((former.times(), Arc::strong_count(&former), task.times()), (0, 1, 1));
    }
}
