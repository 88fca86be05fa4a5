//! The time of the control plane: wall clock at the start plus what passed since, so that it never jumps within a process.

use tokio::time::Instant;

use crate::model::Timestamp;

/// Gives [`Timestamp`]s that only grow. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    origin: Instant,
}

impl Clock {
    /// A clock that says `now` at this moment.
    pub fn starting_at(now: Timestamp) -> Self {
        Self { wall: now, origin: Instant::now() }
    }

    /// A clock that starts at the system's time.
    pub fn system() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(Timestamp::default().plus(since))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.wall.plus(self.origin.elapsed())
    }

    /// When `at` will be; now if it has been.
    pub fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }
}
