//! What the front door does with a service's requests besides passing them on: one file a policy, in the order in which a
//! request meets them. Each file holds the policy's type, its reading from TOML and its checks.

mod access;
mod auth;
mod compression;
mod errors;
mod fields;
mod paths;
mod rate;

use super::error::{Fault, Findings};
use super::file::misplaced;
use super::reader::{At, Table};
use super::words;

pub use access::Access;
pub use auth::{BasicAuth, ForwardAuth, User};
pub use compression::{Coding, Compression};
pub use errors::{Errors, Page, PageSource, Statuses};
pub use fields::{Field, FieldRules, FieldValue, Part, Placeholder};
pub use paths::{PathRule, Pattern, Redirect, Target};
pub use rate::{Rate, RateKey};

pub(super) use errors::{Attachments, errors};

/// A service's policies. What is not written is not there, and a service with nothing written has no `Door` at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Door {
    /// Which clients may ask at all.
    pub access: Option<Access>,
    /// How often they may ask.
    pub rates: Vec<Rate>,
    /// Passwords that Sluice checks itself.
    pub basic_auth: Option<BasicAuth>,
    /// Somebody else who decides.
    pub forward_auth: Option<ForwardAuth>,
    /// The one host, and port if it has one, under which the service wants to be known.
    pub canonical_host: Option<String>,
    /// Paths that are elsewhere now.
    pub redirects: Vec<Redirect>,
    /// Bytes of a request body; in place of `limits.body` of the process.
    pub body: Option<u64>,
    /// Requests under way at once, over all workers.
    pub requests: Option<usize>,
    /// Paths that the node knows under another name.
    pub rewrites: Vec<PathRule>,
    /// What becomes of the fields of a request.
    pub request_headers: FieldRules,
    /// What becomes of the fields of an answer, be it a node's or Sluice's own.
    pub response_headers: FieldRules,
    /// What clients see when something goes wrong.
    pub errors: Option<Errors>,
    /// What is compressed on its way out.
    pub compression: Option<Compression>,
}

/// Reads the keys of a service that are policies; `None` if there are none.
pub(super) fn read(t: &mut Table<'_>) -> Option<Door> {
    let mut door = Door {
        access: t.table("access", "service.*.access").and_then(access::read),
        rates: rate::read(t),
        basic_auth: t.table("basic_auth", "service.*.basic_auth").and_then(auth::basic),
        forward_auth: t.table("forward_auth", "service.*.forward_auth").and_then(auth::forward),
        canonical_host: canonical_host(t),
        redirects: paths::redirects(t),
        rewrites: paths::rewrites(t),
        errors: t.table("errors", "service.*.errors").and_then(errors),
        compression: compression::read(t),
        ..Door::default()
    };
    if let Some(table) = t.table("request_headers", "service.*.request_headers") {
        door.request_headers = fields::read(table, fields::Side::Request);
    }
    if let Some(table) = t.table("response_headers", "service.*.response_headers") {
        door.response_headers = fields::read(table, fields::Side::Response);
    }
    if let Some(mut limits) = t.table("limits", "service.*.limits") {
        door.body = limits.some_size("body", 1..=1 << 40).map(|size| size as u64);
        door.requests = limits.count("requests", 1..=10_000_000).get().map(|at| at.value);
        limits.finish(misplaced);
    }
    (door != Door::default()).then_some(door)
}

fn canonical_host(t: &mut Table<'_>) -> Option<String> {
    let at = t.string("canonical_host").get()?.clone();
    checked(&at, t.findings(), |text| {
        words::probe_host(text)?;
        let port = text.rsplit_once(':').map(|(_, port)| port).filter(|_| !text.ends_with(']'));
        if text.contains('*') || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            let fault = Fault::new(format!("clients cannot be sent to `{text}`"));
            return Err(fault.hint("it is one host, with a port if need be: \"shop.example.com\""));
        }
        Ok(())
    })?;
    Some(at.value.to_ascii_lowercase())
}

/// The parsed value, or nothing and a finding.
fn checked<T>(at: &At<&str>, findings: &Findings<'_>, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
    parse(at.value).map_err(|fault| findings.add(&at.span, fault)).ok()
}

/// A list of strings, each parsed; those that are wrong are reported and left out.
fn checked_list<T>(t: &mut Table<'_>, key: &'static str, parse: impl Fn(&str) -> Result<T, Fault>) -> Vec<T> {
    let list = t.strings(key);
    let list = list.get().map(|at| &at.value[..]).unwrap_or_default();
    list.iter().filter_map(|at| checked(at, t.findings(), &parse)).collect()
}

#[cfg(test)]
mod tests;
