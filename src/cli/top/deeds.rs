//! What can be done to the service under the cursor: its key, what is asked before, whom it asks, what is said after. Pure.

use crate::api::{HaltKind, ServiceStatus, Steering};
use crate::cli::client::of_service;
use crate::cli::words::percent;
use crate::cli::{halt, steer};

/// Something that a verb does, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Steer its rollout.
    Steer(Steering),
    /// Keep its requests waiting, for as long as `sluice hold` does by itself.
    Hold,
    /// Let them go.
    Release,
    /// Answer them with the maintenance page.
    Close,
    /// Answer them again.
    Open,
}

/// Each key, with its verb and what that does.
pub const KEYS: [(char, &str, &str); 8] = [
    ('p', "promote", "end the hold of this step"),
    ('P', "promote", "end this hold and all further ones"),
    ('z', "pause", "keep the rollout where it is"),
    ('r', "resume", "let a paused rollout go on"),
    ('a', "abort", "go back to what served before, and refuse the new version"),
    ('t', "retry", "try a refused version again"),
    ('h', "hold", "keep new requests waiting for 30s, or release them"),
    ('m', "maintenance", "answer new requests with its page, or no longer"),
];

impl Deed {
    /// What this key does to a service as it is; none if it does nothing.
    pub fn of(key: char, service: &ServiceStatus) -> Option<Self> {
        let halted = service.halt.as_ref().map(|halt| halt.kind);
        Some(match key {
            'p' => Self::Steer(Steering::Promote),
            'P' => Self::Steer(Steering::PromoteFull),
            'z' => Self::Steer(Steering::Pause),
            'r' => Self::Steer(Steering::Resume),
            'a' => Self::Steer(Steering::Abort),
            't' => Self::Steer(Steering::Retry),
            'h' if halted == Some(HaltKind::Hold) => Self::Release,
            'h' => Self::Hold,
            'm' if halted == Some(HaltKind::Maintenance) => Self::Open,
            'm' => Self::Close,
            _ => return None,
        })
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steer(steering) => steering.as_str(),
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Close => "maintenance",
            Self::Open => "end maintenance",
        }
    }

    /// Where the API is asked for it.
    pub fn target(self, service: &str) -> String {
        match self {
            Self::Steer(steering) => steer::target(steering, service),
            Self::Hold => of_service(service, "hold"),
            Self::Release => of_service(service, "release"),
            Self::Close => of_service(service, "maintenance"),
            Self::Open => of_service(service, "maintenance?undo=true"),
        }
    }

    /// Whether it is only right as long as nothing else was decided: nobody promotes a step that they have not seen. The rest is as
    /// right a moment later, and an abort must not come too late.
    pub fn is_of_what_was_seen(self) -> bool {
        matches!(self, Self::Steer(Steering::Promote | Steering::PromoteFull))
    }

    /// What was done, as the verb says it.
    pub fn done(self, service: &ServiceStatus) -> String {
        let done = match self {
            Self::Steer(steering) => steer::next(steering, service),
            Self::Hold => halt::held(service, halt::HOLD),
            Self::Release => halt::released(service),
            Self::Close => halt::closed(service, halt::RETRY_AFTER),
            Self::Open => halt::opened(service),
        };
        service.unsaved.as_ref().map_or_else(|| done.clone(), |why| format!("{done}; but {why}"))
    }

    /// What it would do, for the question before it.
    pub fn consequence(self, service: &ServiceStatus) -> String {
        match self {
            Self::Steer(steering) => steered(service, steering),
            Self::Hold => "new requests wait, for 30s at most".into(),
            Self::Release => match service.waiting {
                1 => "1 request that waits goes on".into(),
                waiting => format!("{waiting} requests that wait go on"),
            },
            Self::Close => "new requests are answered 503".into(),
            Self::Open => "requests are answered again".into(),
        }
    }
}

fn steered(service: &ServiceStatus, steering: Steering) -> String {
    let rollout = service.rollout.as_ref();
    let to = rollout.map_or(&service.release, |rollout| &rollout.to);
    let to = if to.is_unnamed() { "the new nodes".to_owned() } else { to.to_string() };
    let from = rollout.and_then(|rollout| rollout.from.as_ref()).filter(|from| !from.is_unnamed());
    let from = from.map_or("what served before".to_owned(), ToString::to_string);
    let trial = rollout.and_then(|rollout| rollout.trial.as_ref());
    match (steering, trial) {
        (Steering::Promote, Some(trial)) => {
            let next = trial.steps.get(trial.step).map_or(100.0, |step| step.share);
            format!("{to} from {} to {}", percent(trial.share), percent(next))
        }
        (Steering::Promote | Steering::PromoteFull | Steering::Pause | Steering::Resume, None) if rollout.is_none() => {
            "no rollout is in progress; ask all the same".into()
        }
        (Steering::Promote, None) => format!("{to} takes over"),
        (Steering::PromoteFull, _) => format!("{to} to 100% without further holds"),
        (Steering::Pause, Some(trial)) => format!("{to} stays at {}", percent(trial.share)),
        (Steering::Pause, None) => format!("the rollout of {to} stands still"),
        (Steering::Resume, _) => format!("the rollout of {to} goes on"),
        (Steering::Abort, _) => format!("{from} serves again and {to} is refused"),
        (Steering::Retry, _) => format!("{to} is tried again"),
    }
}
