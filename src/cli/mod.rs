//! The command line: one file a verb, and what they share.
//!
//! | shared | what |
//! |---|---|
//! | [`client`] | the admin API, asked |
//! | [`edit`], [`mod@file`], [`differences`] | the configuration file, changed as text, replaced whole, and shown |
//! | [`change`], [`follow`] | an edit carried through: wait, show, put back |
//! | [`view`], [`trial`], [`words`], [`screen`] | what people see |
//! | [`failure`] | exit codes |

mod args;
pub mod change;
pub mod check;
pub mod client;
pub mod demo;
pub mod deploy;
pub mod differences;
pub mod drain;
pub mod edit;
pub mod failure;
pub mod file;
pub mod follow;
pub mod halt;
pub mod history;
pub mod limit;
pub mod plan;
pub mod planned;
pub mod rollback;
pub mod run;
pub mod schema;
pub mod screen;
pub mod shell;
pub mod status;
pub mod steer;
#[cfg(feature = "top")]
pub mod top;
pub mod trial;
pub mod view;
pub mod wait;
pub mod words;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::api::Steering;
use crate::app::paths::{self, Environment};
pub use args::{Cli, Verb};
use client::Client;
use failure::{Failure, PROXY};
use screen::{Screen, Terminal};

/// What a verb that asks the proxy works with.
pub struct Session<'a> {
    /// Where it writes.
    pub screen: Screen<'a>,
    /// Whom it asks.
    pub client: Client,
}

/// The command: reads the process's arguments and gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let color = anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
    let screen = Screen::new(&mut out, &mut err, color, terminal());
    ExitCode::from(execute(cli, screen, &Environment::real()))
}

/// Carries out one verb; everything it depends on is given.
pub fn execute(cli: Cli, mut screen: Screen<'_>, environment: &Environment) -> u8 {
    let json = cli.verb.json();
    let result = match cli.verb {
        Verb::Run(args) => run::run(args, cli.socket, environment),
        Verb::Demo(args) => return demo::run(args),
        Verb::DemoOrigin(args) => return demo::run_origin_process(args),
        Verb::Check(args) => match paths::config(args.config, environment) {
            Ok(path) => {
                return check::run(&path, args.json, &mut anstream::stdout(), &mut anstream::stderr());
            }
            Err(message) => Err(Failure::usage(message)),
        },
        Verb::Schema(args) => shell::schema(&args, &mut screen),
        Verb::Token(args) => shell::token(&args, &mut screen),
        Verb::Completions(args) => Ok(shell::completions(&args, &mut screen)),
        Verb::Man(args) => shell::man(&args, &mut screen),
        verb => {
            let socket = paths::socket_to_ask(cli.socket, || configured(environment), environment);
            let mut session = Session { screen, client: Client::new(socket) };
            let result = ask(verb, &mut session);
            screen = session.screen;
            result
        }
    };
    let code = result.unwrap_or_else(|failure| {
        if json {
            screen.line(&failure.json());
        } else {
            screen.complain(&format!("error: {}", failure.message));
        }
        failure.code
    });
    match screen.lost() {
        // `| head` took what it wanted; what the verb found out still counts.
        None | Some(io::ErrorKind::BrokenPipe) => code,
        Some(why) => {
            screen.complain(&format!("error: the output could not be written: {why}"));
            if code == 0 { PROXY } else { code }
        }
    }
}

fn ask(verb: Verb, session: &mut Session<'_>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(PROXY, "internal", format!("cannot start: {error}")))?;
    let (patience, asked) = (verb.patience(), verb.asks());
    runtime.block_on(patience.within(asked, async {
        match verb {
            Verb::Plan(args) => plan::run(&args, session).await,
            Verb::Status(args) => status::run(&args, session).await,
            #[cfg(feature = "top")]
            Verb::Top(args) => top::run(&args, session).await,
            Verb::Deploy(args) => deploy::run(&args, session).await,
            Verb::Wait(args) => wait::run(&args, session).await,
            Verb::Rollback(args) => rollback::run(&args, session).await,
            Verb::History(args) => history::run(&args, session).await,
            Verb::Promote(args) => {
                let steering = if args.full { Steering::PromoteFull } else { Steering::Promote };
                steer::run_waiting(steering, &args.more, session).await
            }
            Verb::Pause(args) => steer::run(Steering::Pause, &args, session).await,
            Verb::Resume(args) => steer::run(Steering::Resume, &args, session).await,
            Verb::Abort(args) => steer::run_waiting(Steering::Abort, &args, session).await,
            Verb::Retry(args) => steer::run_waiting(Steering::Retry, &args, session).await,
            Verb::Hold(args) => halt::hold(&args, session).await,
            Verb::Release(args) => halt::release(&args, session).await,
            Verb::Maintenance(args) => halt::maintenance(&args, session).await,
            Verb::Drain(args) => drain::run(&args, session).await,
            // Answered without a proxy.
            Verb::Run(_) | Verb::Demo(_) | Verb::DemoOrigin(_) | Verb::Check(_) => Ok(0),
            Verb::Schema(_) | Verb::Token(_) | Verb::Completions(_) | Verb::Man(_) => Ok(0),
        }
    }))
}

/// `admin.socket` of the configuration that `sluice run` would take.
fn configured(environment: &Environment) -> Option<PathBuf> {
    let named = (environment.variable)("SLUICE_CONFIG").map(PathBuf::from);
    let path = paths::config(named, environment).ok()?;
    paths::configured_socket(&std::fs::read_to_string(path).ok()?)
}

/// Standard output's measures, if it is a terminal that can move its cursor.
fn terminal() -> Option<Terminal> {
    let out = io::stdout();
    if !out.is_terminal() || std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok();
    let measure = |value: Option<u16>, usual: usize| match value {
        Some(value) if value > 0 => usize::from(value),
        _ => usual,
    };
    Some(Terminal {
        width: measure(size.map(|size| size.ws_col), 80),
        height: measure(size.map(|size| size.ws_row), 24),
    })
}
