//! `sluice top`: a live view in the terminal.
//!
//! | part | what |
//! |---|---|
//! | `app` | what is shown and what a key does; with `rates` and `rows`, pure |
//! | `draw` | the screen, into a buffer; `table`, `detail`, `problems` are its pages, `paint` its text; pure |
//! | `terminal`, `keys` | the terminal, taken and given back; what is typed |
//! | `poll` | the proxy, asked |

mod app;
mod deeds;
mod detail;
mod draw;
mod keys;
mod paint;
mod poll;
mod problems;
mod rates;
mod rows;
mod table;
mod terminal;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Session;
use super::failure::{Failure, PROXY};
use super::follow::now;
use app::{Act, App, Key};
use keys::Input;
use paint::Look;
use poll::{Answer, Wish};
use terminal::Taken;

/// Ended by a signal: 128 and its number, as shells count it.
const HUNG_UP: u8 = 129;
const TERMINATED: u8 = 143;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: arrows, Enter opens a service, Esc goes back, / filters, s sorts, ? tells them all, q quits. p, z, r, a steer the service under the cursor, h and m hold it or put it in maintenance, after a question.\nIt needs a terminal; into a pipe, `sluice status --watch` tells what changes.\n\nExample: sluice top"
)]
pub struct Args {
    /// Begin with the page of this service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: Option<String>,
}

/// Shows, until somebody quits.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    if !terminal::is_there() {
        return Err(Failure::usage(
            "`sluice top` needs a terminal to draw on and to read keys from: `sluice status --watch` writes what changes, line by line",
        ));
    }
    let mut app = App::new(Look { color: session.screen.color() });
    if let Some(name) = &args.service {
        app.start_with(name.as_str().into());
    }
    let mut signals = Ends::new().map_err(|error| lost(&error))?;
    let mut screen = Taken::new().map_err(|error| lost(&error))?;
    let ended = show(&mut app, &mut screen, &mut signals, session).await;
    // Before anything is written about how it ended.
    drop(screen);
    ended.map_err(|error| lost(&error))
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(PROXY, "terminal", format!("the terminal cannot be used: {error}"))
}

/// Signals that end it, or bring it back.
struct Ends {
    interrupt: Signals,
    terminate: Signals,
    hang_up: Signals,
    /// After a stop that was not asked for by a key.
    again: Signals,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let again = SignalKind::from_raw(Signal::CONT.as_raw());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            again: signal(again)?,
        })
    }
}

async fn show(app: &mut App, screen: &mut Taken, signals: &mut Ends, session: &Session<'_>) -> io::Result<u8> {
    let (wish, wished) = watch::channel(Wish { open: app.open().cloned(), round: 0 });
    let (sender, mut answers) = mpsc::channel(4);
    let looking = tokio::spawn(poll::look(session.client.clone(), wished, sender.clone()));
    let mut keys = keys::listen();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        app.tick(now());
        screen.draw(app)?;
        tokio::select! {
            input = keys.recv() => {
                let mut next = input.or(Some(Input::Lost));
                // All that was typed while it was drawn, before it is drawn again.
                while let Some(input) = next {
                    for act in acts(app, input) {
                        match act {
                            Act::Draw => {}
                            Act::Redraw => screen.forget()?,
                            Act::Ask => wish.send_modify(|wish| wish.open = app.open().cloned()),
                            Act::Do(question) => {
                                tokio::spawn(poll::act(session.client.clone(), question, sender.clone()));
                            }
                            Act::Suspend => suspend(screen)?,
                            Act::Quit => return Ok(0),
                        }
                    }
                    next = keys.try_recv().ok();
                }
            }
            answer = answers.recv() => match answer {
                Some(Answer::Status(status, only)) => app.answered(*status, only.as_ref()),
                Some(Answer::History(name, entries)) => app.history = Some((name, entries)),
                Some(Answer::Failed(why)) => app.failed(why),
                Some(Answer::Done(result)) => {
                    app.done(result);
                    wish.send_modify(|wish| wish.round += 1);
                }
                None => return Err(io::Error::other("nobody asks the proxy any more")),
            },
            _ = tick.tick() => {
                if looking.is_finished() {
                    return Err(io::Error::other("nobody asks the proxy any more"));
                }
            }
            _ = signals.interrupt.recv() => return Ok(0),
            _ = signals.terminate.recv() => return Ok(TERMINATED),
            _ = signals.hang_up.recv() => return Ok(HUNG_UP),
            _ = signals.again.recv() => screen.again()?,
        }
    }
}

/// What the app wants done for something that was typed.
fn acts(app: &mut App, input: Input) -> Vec<Act> {
    match input {
        Input::Key(key) => vec![app.press(key)],
        Input::Pasted(text) => {
            app.paste(&text);
            Vec::new()
        }
        Input::Resized => Vec::new(),
        Input::Lost => vec![app.press(Key::Interrupt)],
    }
}

/// Back to the shell, as Ctrl-Z does with everything else. Goes on here after `fg`.
fn suspend(screen: &mut Taken) -> io::Result<()> {
    terminal::give_back();
    let stopped: Result<(), _> = stop(getpid());
    screen.again()?;
    stopped
}

fn stop(process: Pid) -> io::Result<()> {
    kill_process(process, Signal::TSTP).map_err(io::Error::from)
}
