//! Tasks that serve streams. One that is done waits for the next stream: a task of its own for each would be an allocation
//! of several KB, filled and moved, for what is often a matter of microseconds.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::stream::{self, Work};

/// No more tasks of a worker than this wait for a stream.
const WAITING: usize = 64;

/// The tasks of a worker that wait, those behind that worked last.
#[derive(Default)]
pub struct Runners(RefCell<Vec<Rc<Post>>>);

impl std::fmt::Debug for Runners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Runners").field(&self.0.borrow().len()).finish()
    }
}

/// Where a task gets its work.
#[derive(Default)]
struct Post {
    /// Put there by a connection, taken by the task.
    work: Cell<Option<Work>>,
    /// The task; written by itself when it waits.
    waker: RefCell<Option<Waker>>,
}

impl Post {
    fn give(&self, work: Work) {
        self.work.set(Some(work));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Work> {
        if let Some(work) = self.work.take() {
            return Poll::Ready(work);
        }
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            // A task has one waker for its life.
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Has a stream served by a task that waits, or by a new one.
pub fn start(work: Work) {
    let waiting = work.worker.runners.0.borrow_mut().pop();
    let Some(post) = waiting else {
        let post = Rc::new(Post::default());
        post.give(work);
        // In a box of its own: tokio moves what it is given half a dozen times.
        tokio::task::spawn_local(Box::pin(run(post)));
        return;
    };
    post.give(work);
}

async fn run(post: Rc<Post>) {
    loop {
        let work = poll_fn(|cx| post.poll(cx)).await;
        let worker = Rc::clone(&work.worker);
        // Pinned first, it is made in its place; awaited at once, it would be made elsewhere and moved.
        pin!(stream::run(work)).await;
        let mut waiting = worker.runners.0.borrow_mut();
        if waiting.len() >= WAITING {
            return;
        }
        waiting.push(Rc::clone(&post));
    }
}
