//! An origin as a process of its own: for tests that kill one with a real SIGKILL. A hidden verb.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Ledger, Origin, OriginOptions};

/// The hidden verb's flags.
#[derive(Clone, Debug, clap::Args)]
pub struct OriginArgs {
    /// The version it tells.
    #[arg(long, default_value = "v1")]
    pub version: String,
    /// The port; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Milliseconds until it is ready; everything is answered 503 before.
    #[arg(long, default_value_t = 0)]
    pub ready_after_ms: u64,
    /// Answer everything 503, for ever.
    #[arg(long)]
    pub unhealthy: bool,
    /// Close connections that are idle for this many milliseconds.
    #[arg(long)]
    pub idle_close_ms: Option<u64>,
    /// Milliseconds between a request and its answer.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Append each executed order to this file.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
}

/// Prints its port on a line of its own, and serves until SIGTERM (or SIGINT), and then until what it has begun is done. Gives
/// the exit code.
pub fn run_origin_process(args: OriginArgs) -> u8 {
    let options = OriginOptions {
        port: args.port,
        ready_after: Duration::from_millis(args.ready_after_ms),
        unhealthy: args.unhealthy,
        idle_close: args.idle_close_ms.map(Duration::from_millis),
        delay: Duration::from_millis(args.delay_ms),
        ledger_file: args.ledger,
        ..OriginOptions::new(args.version, &Ledger::new())
    };
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve(options)));
    match served {
        Ok(()) => 0,
        Err(error) => {
            anstream::eprintln!("error: the toy service cannot be started: {error}");
            1
        }
    }
}

async fn serve(options: OriginOptions) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let origin = Origin::start(options)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", origin.address().port())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    origin.stop_gracefully();
    while !origin.is_ended() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
