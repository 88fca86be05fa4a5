//! The documentation, tried out: links lead somewhere, configurations are valid, commands run, tables say what the code says.
//!
//! A block that begins with ```` ```sh ```` or ```` ```console ```` is executed, in a folder of its own with a proxy and two toy nodes. What cannot run here
//! says so where readers see it: ```` ```sh not-run ````. A block of TOML that is no configuration and no part of one is marked
//! ```` ```toml fragment ````.

mod commands;
mod keys;
mod links;
mod messages;
mod page;
mod ports;
mod scripts;
mod settings;
mod tables;
mod verbs;

use std::path::PathBuf;

/// The folder of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
