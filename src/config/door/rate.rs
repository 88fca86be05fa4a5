//! How often a client may ask.

use std::time::Duration;

use http::HeaderName;

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::Table;
use super::super::units::shorten;
use super::checked;
use super::paths::Pattern;

/// More rules would each be looked at for each request.
const MOST: usize = 8;

/// `[[service.NAME.rate]]`: a token bucket (GCRA) for each key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// This many requests...
    pub requests: u32,
    /// ...in this time.
    pub per: Duration,
    /// This many may come at once.
    pub burst: u32,
    /// What is counted apart.
    pub by: RateKey,
    /// Only requests for these paths are counted.
    pub path: Option<Pattern>,
}

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// Each client address; in IPv6 each /64, because that is what one client is given.
    Client,
    /// Each value of this header; requests without it by their client's address.
    Header(HeaderName),
}

pub(super) fn read(t: &mut Table<'_>) -> Vec<Rate> {
    let tables = t.tables("rate", "service.*.rate");
    if let Some(extra) = tables.get(MOST) {
        t.findings().add(&extra.span, Fault::new(format!("a service has at most {MOST} rates")));
    }
    tables.into_iter().filter_map(rate).collect()
}

fn rate(mut t: Table<'_>) -> Option<Rate> {
    let requests = t.count("requests", 1..=1_000_000_000);
    if requests.is_missing() {
        let fault = Fault::new("this rate has no `requests`");
        t.findings().add(&t.span, fault.hint("write how many requests a client may send, like `requests = 100`"));
    }
    let per = t.some_duration("per", Duration::from_secs(1));
    let burst = t.count("burst", 1..=1_000_000_000).get().map(|at| at.value);
    let by = match t.string("by").get() {
        Some(at) => checked(at, t.findings(), key),
        None => Some(RateKey::Client),
    };
    let path = t.string("path").get().and_then(|at| checked(at, t.findings(), Pattern::parse));
    let rate = requests.get().and_then(|requests| {
        let requests = requests.value;
        if per.as_nanos() < requests as u128 {
            t.findings().add(&t.span, Fault::new("this is more than one request in a nanosecond"));
            return None;
        }
        let burst = burst.unwrap_or(requests) as u32;
        Some(Rate { requests: requests as u32, per, burst, by: by?, path })
    });
    t.finish(misplaced);
    rate
}

fn key(text: &str) -> Result<RateKey, Fault> {
    if text == "client" {
        return Ok(RateKey::Client);
    }
    let fault = || {
        Fault::new(format!("requests cannot be counted by `{}`", shorten(text)))
            .hint("write \"client\", or a header like \"header X-Api-Key\"")
    };
    let name = text.strip_prefix("header ").ok_or_else(fault)?;
    name.trim().parse().map(RateKey::Header).map_err(|_| fault())
}
