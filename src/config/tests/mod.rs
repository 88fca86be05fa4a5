//! What operators see of the configuration: accepted, refused, and in which words.

mod again;
mod files;
mod patch;
mod reference;
mod refused;
mod taken;

use std::fmt::Write as _;
use std::path::Path;

use super::{Config, Loaded, load_str, render};

const LISTENER: &str = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n";

/// Every problem, as text.
fn rendered(loaded: &Loaded) -> String {
    loaded.problems.iter().fold(String::new(), |mut out, problem| {
        let _ = write!(out, "{}", render(problem));
        out
    })
}

/// A configuration that must be valid.
fn valid(text: &str) -> Config {
    let loaded = load_str(text, Path::new("sluice.toml"));
    let problems = rendered(&loaded);
    loaded.config.unwrap_or_else(|| panic!("refused:\n{problems}"))
}
