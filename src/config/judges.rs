//! Who else judges a version on trial: `[service.NAME.rollout.guard.webhook]` and `[[service.NAME.rollout.guard.prometheus]]`; and
//! what is needed to ask anybody over HTTP.

use std::time::Duration;

use http::Uri;
use http::header::{HOST, HeaderName, HeaderValue};
use toml::de::DeValue;

use super::error::Fault;
use super::file::misplaced;
use super::reader::Table;
use super::units::shorten;
use super::words;
use crate::model::NodeAddress;

/// Each is a task and a connection while a step holds.
const MOST_JUDGES: usize = 32;

/// Somebody who can be asked over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub address: NodeAddress,
    /// The host as written, for the `Host` field.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Further fields of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one answer may take, with the connection.
    pub timeout: Duration,
}

/// An outside judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Judge {
    /// What is asked.
    pub question: Question,
    /// Who is asked.
    pub endpoint: Endpoint,
    /// From one answer to the next question.
    pub interval: Duration,
    /// What it means that nobody answers, or that the answer cannot be used.
    pub unavailable: Unavailable,
}

/// What an outside judge is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// What it thinks of the trial, which it is told of.
    Webhook,
    /// Each value of a PromQL query must lie between bounds.
    Prometheus {
        /// With `{service}`, `{version}` and `{window}` in it.
        query: String,
        /// The least that is well.
        min: Option<f64>,
        /// The most.
        max: Option<f64>,
    },
}

/// Who is told what happens in rollouts: `[service.NAME.rollout.events]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Who.
    pub endpoint: Endpoint,
    /// What could not be told for this long is not told any more.
    pub give_up: Duration,
}

/// What it means that a judge cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The step does not pass before it can.
    Hold,
    /// Nothing.
    Ignore,
}

pub(super) fn judges(t: &mut Table<'_>) -> Vec<Judge> {
    let webhook = t.table("webhook", "service.*.rollout.guard.webhook");
    let webhook = webhook.and_then(|t| judge(t, |_| Some(Question::Webhook)));
    let span = t.span.clone();
    let written = t.tables("prometheus", "service.*.rollout.guard.prometheus");
    if written.len() >= MOST_JUDGES {
        t.findings().add(&span, Fault::new(format!("a version has at most {MOST_JUDGES} outside judges")));
    }
    webhook.into_iter().chain(written.into_iter().filter_map(|t| judge(t, prometheus))).collect()
}

pub(super) fn events(mut t: Table<'_>) -> Option<Events> {
    let endpoint = endpoint(&mut t, Duration::from_secs(5));
    let give_up = t.some_duration("give_up", Duration::from_mins(10));
    t.finish(misplaced);
    Some(Events { endpoint: endpoint?, give_up })
}

fn judge(mut t: Table<'_>, question: impl FnOnce(&mut Table<'_>) -> Option<Question>) -> Option<Judge> {
    let endpoint = endpoint(&mut t, Duration::from_secs(5));
    let interval = t.some_duration("interval", Duration::from_secs(10));
    let answers = [("hold", Unavailable::Hold), ("ignore", Unavailable::Ignore)];
    let unavailable = t.choice("unavailable", Unavailable::Hold, &answers, |_| None);
    let question = question(&mut t);
    t.finish(misplaced);
    Some(Judge { question: question?, endpoint: endpoint?, interval, unavailable })
}

fn prometheus(t: &mut Table<'_>) -> Option<Question> {
    let query = t.string("query");
    let (min, max) = (number(t, "min"), number(t, "max"));
    if query.is_missing() {
        let hint = "write a PromQL query like `query = 'sum(rate(errors_total{version=\"{version}\"}[1m]))'`";
        t.findings().add(&t.span, Fault::new("this judge has no `query`").hint(hint));
    }
    let at = query.get()?;
    if at.value.trim().is_empty() {
        t.findings().add(&at.span, Fault::new("`query` is empty"));
    }
    if t.lacks("min") && t.lacks("max") {
        let fault = Fault::new("nothing says which values are well").hint("write `max`, `min`, or both");
        t.findings().add(&at.span, fault);
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        t.findings().add(&at.span, Fault::new(format!("no value lies between `min` {min} and `max` {max}")));
    }
    Some(Question::Prometheus { query: at.value.to_owned(), min, max })
}

fn number(t: &mut Table<'_>, key: &'static str) -> Option<f64> {
    let value = t.take(key)?;
    let text = match value.get_ref() {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        _ => {
            t.wrong::<()>(value, "a number");
            return None;
        }
    };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    if number.is_none() {
        t.findings().add(&value.span(), Fault::new(format!("`{key}` must be a finite number")));
    }
    number
}

/// `url`, `headers` and `timeout`.
pub(super) fn endpoint(t: &mut Table<'_>, timeout: Duration) -> Option<Endpoint> {
    let url = t.string("url");
    if url.is_missing() {
        let fault = Fault::new("nothing says who is asked");
        t.findings().add(&t.span, fault.hint("write `url = \"http://127.0.0.1:9000/path\"`"));
    }
    let timeout = t.some_duration("timeout", timeout);
    let list = t.strings("headers");
    let mut headers = Vec::new();
    for at in list.get().map(|at| &at.value[..]).unwrap_or_default() {
        match header(at.value) {
            Ok(field) => headers.push(field),
            Err(fault) => t.findings().add(&at.span, fault.secret()),
        }
    }
    let at = url.get()?;
    match parsed(at.value) {
        Ok((address, host, path)) => Some(Endpoint { address, host, path, headers, timeout }),
        Err(fault) => {
            t.findings().add(&at.span, fault);
            None
        }
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), Fault> {
    let fault = || Fault::new("this is not a header").hint("write it like \"Authorization: Bearer …\"");
    let (name, value) = words::header(text).map_err(|_| fault())?;
    let name: HeaderName = name.parse().map_err(|_| fault())?;
    if words::frames(&name) || name == HOST {
        return Err(Fault::new(format!("`{name}` cannot be set: it belongs to the message")));
    }
    let mut value = HeaderValue::from_str(&value).map_err(|_| fault())?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Where a URL leads: the address with its scheme, the host, and the path with its query.
fn parsed(text: &str) -> Result<(NodeAddress, String, String), Fault> {
    let fault = |why: &str| {
        Fault::new(format!("`{}` is not a URL that can be asked: {why}", shorten(text)))
            .hint("write it like \"http://127.0.0.1:9000/path\" or \"https://judge.example.com/path\"")
    };
    let uri: Uri = text.parse().map_err(|_| fault("it cannot be read"))?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http") => ("", 80),
        Some("https") => ("https://", 443),
        _ => return Err(fault("it begins with neither `http://` nor `https://`")),
    };
    let authority = uri.authority().ok_or_else(|| fault("it has no host"))?;
    if authority.as_str().contains('@') {
        let fault = Fault::new("this URL has a user name in it");
        return Err(fault.hint("write `headers = [\"Authorization: …\"]`").secret());
    }
    let node = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => format!("{}:{port}", authority.host()),
        _ => authority.as_str().to_owned(),
    };
    let node = words::node(&node).map_err(|_| fault("its host or its port is wrong"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    words::probe_path(path).map_err(|_| fault("its path is wrong"))?;
    Ok((NodeAddress::new(format!("{scheme}{node}")), authority.as_str().to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_an_address_a_host_and_a_path() {
        let parts = |text| parsed(text).map(|(address, host, path)| (address.to_string(), host, path));
        let is = |address: &str, host: &str, path: &str| Ok((address.to_owned(), host.to_owned(), path.to_owned()));
        assert_eq!(parts("http://127.0.0.1:9000/a?b=c"), is("127.0.0.1:9000", "127.0.0.1:9000", "/a?b=c"));
        assert_eq!(parts("https://Judge.example.com"), is("https://judge.example.com:443", "Judge.example.com", "/"));
        assert_eq!(parts("http://[::1]:80/"), is("[::1]:80", "[::1]:80", "/"));
        for wrong in [
            "",
            "127.0.0.1:9000",
            "ftp://a/",
            "http://",
            "http://a:0/",
            "http://a:90900/",
            "http://a:/",
            "http://::1/",
            "http://user:secret@a/",
            "http://a b/",
            "/x",
        ] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
