//! Following a change to its end, and showing it on the way: what `wait`, `deploy`, `rollback` and `drain` share.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::client::Client;
use super::failure::{Failure, INTERRUPTED, PROXY, TIMED_OUT};
use super::screen::Screen;
use super::view;
use super::words::{clean, dim, duration};
use crate::api::{Ended, Outcome, Progress, ServiceStatus};
use crate::model::Timestamp;

/// Nodes that the live view shows at most.
const NODES: usize = 20;

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct Follow<'a> {
    /// The API's path, to POST to.
    pub target: String,
    /// When the verb gives up waiting.
    pub timeout: Option<Duration>,
    /// Write the API's own lines.
    pub json: bool,
    /// What goes on without the verb, and how to follow it again; for `--timeout` and Ctrl-C.
    pub goes_on: &'a str,
    /// Which end is what was asked for; [`Outcome::Done`], but for an abort.
    pub wants: Outcome,
}

/// How following ended: the change with an outcome of its own, or before that.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The change ended.
    Ended(Box<Ended>),
    /// `--timeout` passed; the change goes on.
    TimedOut,
    /// Ctrl-C; the change goes on.
    Interrupted,
}

impl End {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Ended(ended) => ended.outcome.exit_code(),
            Self::TimedOut => TIMED_OUT,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

/// Follows, shows, and tells the end.
pub async fn follow(client: &Client, how: &Follow<'_>, screen: &mut Screen<'_>) -> Result<End, Failure> {
    let begun = Instant::now();
    let deadline = begun + how.timeout.unwrap_or(Duration::from_hours(24 * 366));
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut last: Option<ServiceStatus> = None;

    let mut opening = std::pin::pin!(client.stream(&how.target));
    let mut lines = tokio::select! {
        lines = &mut opening => lines?,
        () = sleep_until(deadline) => return Ok(timed_out(how, last, screen)),
        _ = &mut interrupt => return Ok(interrupted(how, screen)),
    };
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let live = screen.terminal().is_some() && !how.json;
    loop {
        tokio::select! {
            line = lines.next() => {
                let Some(line) = line? else {
                    return Err(Failure::new(
                        PROXY,
                        "unreachable",
                        format!("the proxy ended the connection before the change ended; {}", how.goes_on),
                    ));
                };
                let moment: Progress = match serde_json::from_str(&line) {
                    Ok(moment) => moment,
                    Err(error) => return Err(Failure::from_json(&line).unwrap_or_else(|| {
                        Failure::new(PROXY, "protocol", format!("the proxy sent a line that this sluice does not understand ({error})"))
                    })),
                };
                if how.json {
                    screen.line(&line);
                } else if live && moment.ended.is_some() {
                    screen.draw(&view::service(&moment.service, now(), NODES).join("\n"));
                } else if live {
                    draw(&moment.service, begun, screen);
                } else {
                    for change in view::changes(last.as_ref(), &moment.service) {
                        screen.line(&format!("{} {change}", dim(clock(begun))));
                    }
                }
                last = Some(moment.service);
                if let Some(ended) = moment.ended {
                    tell(&ended, how, screen);
                    return Ok(End::Ended(Box::new(ended)));
                }
            }
            _ = tick.tick(), if live => {
                if let Some(service) = &last {
                    draw(service, begun, screen);
                }
            }
            () = sleep_until(deadline) => return Ok(timed_out(how, last, screen)),
            _ = &mut interrupt => return Ok(interrupted(how, screen)),
        }
    }
}

fn clock(begun: Instant) -> String {
    format!("{:>6.1}s", begun.elapsed().as_secs_f64())
}

fn draw(service: &ServiceStatus, begun: Instant, screen: &mut Screen<'_>) {
    let mut lines = view::service(service, now(), NODES);
    lines.push(dim(format!("waiting for {}; Ctrl-C stops the waiting, not the rollout", duration(begun.elapsed()))));
    screen.draw(&lines.join("\n"));
}

/// The machine's clock: the proxy is on the same machine, that is what a Unix socket means.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

fn tell(ended: &Ended, how: &Follow<'_>, screen: &mut Screen<'_>) {
    if how.json {
        return;
    }
    if ended.outcome.is_done() {
        screen.line(&clean(&ended.message));
    } else if ended.outcome == how.wants {
        // What to do about it is for those who did not want it.
        screen.line(&clean(ended.message.lines().next().unwrap_or_default()));
    } else {
        screen.complain(&format!("error: {}", clean(&ended.message)));
    }
    let cut = ended.entry.iter().flat_map(|entry| view::cut(&entry.cut));
    for line in cut.filter(|line| !ended.message.contains(line.trim())) {
        screen.complain(&line);
    }
}

fn timed_out(how: &Follow<'_>, last: Option<ServiceStatus>, screen: &mut Screen<'_>) -> End {
    let message = match &last {
        Some(_) => format!("--timeout passed; {}", how.goes_on),
        None => format!("--timeout passed, and the proxy has not answered; as far as is known {}", how.goes_on),
    };
    match last {
        Some(service) if how.json => {
            let ended = Ended { outcome: Outcome::TimedOut, message, entry: None };
            let moment = Progress { service, ended: Some(ended) };
            if let Ok(line) = serde_json::to_string(&moment) {
                screen.line(&line);
            }
        }
        _ if how.json => screen.line(&Failure::new(TIMED_OUT, "timed-out", message).json()),
        _ => screen.complain(&format!("error: {message}")),
    }
    End::TimedOut
}

fn interrupted(how: &Follow<'_>, screen: &mut Screen<'_>) -> End {
    let message = format!("interrupted; {}", how.goes_on);
    if how.json {
        screen.line(&Failure::new(INTERRUPTED, "interrupted", message).json());
    } else {
        screen.complain(&message);
    }
    End::Interrupted
}
