//! Why a verb failed, with its exit code.

use std::fmt::Display;

use serde::Deserialize;

use super::words::clean;

/// The proxy could not be reached, or failed.
pub const PROXY: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// A newer change took over.
pub const SUPERSEDED: u8 = 5;
/// `--timeout` passed.
pub const TIMED_OUT: u8 = 7;
/// Ctrl-C, as shells count it (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// One word for scripts: the `kind` of the JSON error.
    pub kind: String,
    /// What happened, why, and what to do next.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: u8, kind: &str, message: impl Into<String>) -> Self {
        Self { code, kind: kind.to_owned(), message: message.into() }
    }

    /// Something wrong with the command line or a file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "usage", message)
    }

    /// What cannot happen, and happened.
    pub fn internal(error: impl Display) -> Self {
        Self::new(PROXY, "internal", error.to_string())
    }

    /// Reads the API's `{"error": …}`; none if the text is something else.
    pub fn from_json(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: Error,
        }
        #[derive(Deserialize)]
        struct Error {
            kind: String,
            message: String,
        }
        let Body { error } = serde_json::from_str(text).ok()?;
        let code = match error.kind.as_str() {
            "superseded" => SUPERSEDED,
            "not-found" | "invalid-config" | "conflict" | "changed" | "bad-request" => USAGE,
            _ => PROXY,
        };
        Some(Self::new(code, &error.kind, clean(&error.message)))
    }

    /// As one line of JSON, in the API's own shape.
    pub fn json(&self) -> String {
        serde_json::json!({"error": {"kind": self.kind, "message": self.message}}).to_string()
    }
}
