//! Paths that are elsewhere now: redirects, which tell the client, and rewrites, which do not.

use http::StatusCode;

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::{At, Field, Table};
use super::super::units::shorten;
use super::super::words;
use super::checked;

/// Each is looked at for each request, one after another.
const MOST: usize = 1000;

/// Which paths: one, or one and all below it. What is compared is the path as routing understands it: dot segments are
/// resolved, runs of slashes are one, letters and digits are not percent-encoded. The query does not count; case does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Begins with `/`; does not end with it if `below` is set, so it is empty for all paths.
    path: String,
    /// It was written with `/*` at its end.
    below: bool,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |why: &str| Fault::new(format!("`{}` is not a path: {why}", shorten(text)));
        if !text.starts_with('/') {
            return Err(fault("it must begin with `/`"));
        }
        let (path, below) = text.strip_suffix("/*").map_or((text, false), |path| (path, true));
        if path.contains('*') {
            return Err(fault("`*` stands at its end only, behind a `/`").hint("write it like \"/old/*\""));
        }
        words::path(path).map_err(|why| fault(&why))?;
        Ok(Self { path: path.to_owned(), below })
    }

    /// What `*` stands for in this path, without the slash before it; empty if the pattern has none. `None`: no match.
    pub fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.path)?;
        match rest.strip_prefix('/') {
            _ if rest.is_empty() => Some(rest),
            Some(rest) if self.below => Some(rest),
            _ => None,
        }
    }
}

/// Where something is now: text, and in it the place of what `*` stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Before the `*`; all of it if there is none.
    pub before: String,
    /// After the `*`, if there is one.
    pub after: Option<String>,
}

impl Target {
    /// The text with `rest` in place of `*`.
    pub fn with(&self, rest: &str) -> String {
        match &self.after {
            Some(after) => format!("{}{rest}{after}", self.before),
            None => self.before.clone(),
        }
    }
}

/// `[[service.NAME.rewrite]]`: the node is asked for another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// Which paths; compared behind `strip_prefix`.
    pub from: Pattern,
    /// The path in their place; a query goes along.
    pub to: Target,
}

/// `[[service.NAME.redirect]]`: the client is sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Which paths.
    pub from: Pattern,
    /// The path, or the URL, in their place. A query goes along, unless this has one.
    pub to: Target,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

pub(super) fn redirects(t: &mut Table<'_>) -> Vec<Redirect> {
    rules(t, "redirect", "service.*.redirect", |t| {
        let status = t.count("status", 300..=399);
        let (from, to) = ends(t, location)?;
        if is_circle(&from, &to) {
            t.findings().add(&t.span, Fault::new("this sends clients to where they come from, again and again"));
        }
        let status = match status.get() {
            None => StatusCode::TEMPORARY_REDIRECT,
            Some(at) => match StatusCode::from_u16(at.value as u16) {
                Ok(status) if [301, 302, 303, 307, 308].contains(&at.value) => status,
                _ => {
                    let fault = Fault::new(format!("{} does not send a client elsewhere", at.value));
                    t.findings().add(&at.span, fault.hint("write 301 or 308 for ever, 302, 303 or 307 for now"));
                    return None;
                }
            },
        };
        Some(Redirect { from, to, status })
    })
}

pub(super) fn rewrites(t: &mut Table<'_>) -> Vec<PathRule> {
    rules(t, "rewrite", "service.*.rewrite", |t| {
        let (from, to) = ends(t, |text| {
            if text.starts_with('/') && !text.contains(['?', '#']) {
                return Ok(());
            }
            Err(Fault::new(format!("`{}` is not a path", shorten(text)))
                .hint("it begins with `/` and has neither query nor fragment: the query of the request goes along"))
        })?;
        Some(PathRule { from, to })
    })
}

fn rules<'t, T>(
    t: &mut Table<'t>,
    key: &'static str,
    shape: &'static str,
    read: impl Fn(&mut Table<'t>) -> Option<T>,
) -> Vec<T> {
    let tables = t.tables(key, shape);
    if let Some(extra) = tables.get(MOST) {
        t.findings().add(&extra.span, Fault::new(format!("a service has at most {MOST} of these")));
    }
    let one = |mut t: Table<'t>| {
        let rule = read(&mut t);
        t.finish(misplaced);
        rule
    };
    tables.into_iter().filter_map(one).collect()
}

fn ends(t: &mut Table<'_>, check: impl Fn(&str) -> Result<(), Fault>) -> Option<(Pattern, Target)> {
    let (from, to) = (t.string("from"), t.string("to"));
    for (key, field) in [("from", &from), ("to", &to)] {
        if field.is_missing() {
            t.findings().add(&t.span, Fault::new(format!("`{key}` is missing here")));
        }
    }
    let pattern = from.get().and_then(|at| checked(at, t.findings(), Pattern::parse));
    let (Field::Is(to), Some(pattern)) = (&to, &pattern) else {
        return None;
    };
    checked(to, t.findings(), &check)?;
    let target = target(to, t)?;
    if target.after.is_some() && !pattern.below {
        let fault = Fault::new("`to` has a `*`, and `from` has none");
        t.findings().add(&to.span, fault.hint("let `from` end with `/*`, or remove the `*`"));
        return None;
    }
    Some((pattern.clone(), target))
}

/// Whether it sends clients to where they come from; the query does not count.
fn is_circle(from: &Pattern, to: &Target) -> bool {
    match &to.after {
        Some(after) => {
            let ends = after.is_empty() || after.starts_with(['?', '#']);
            from.below && ends && to.before.strip_suffix('/') == Some(&from.path)
        }
        None => !from.below && to.before.split(['?', '#']).next() == Some(&from.path),
    }
}

fn target(to: &At<&str>, t: &Table<'_>) -> Option<Target> {
    if let Some(c) = to.value.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c)) {
        let fault = Fault::new(format!("`to` cannot have {c:?} in it"));
        t.findings().add(&to.span, fault.hint("write it percent-encoded"));
        return None;
    }
    let mut parts = to.value.splitn(3, '*');
    let before = parts.next().unwrap_or_default().to_owned();
    let after = parts.next().map(str::to_owned);
    if parts.next().is_some() {
        t.findings().add(&to.span, Fault::new("`to` has more than one `*`"));
        return None;
    }
    Some(Target { before, after })
}

/// A place that a client can be sent to. What `*` stands for must not become a part of the host: anybody could then send
/// clients anywhere in our name.
fn location(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| {
        Fault::new(format!("clients cannot be sent to `{}`: {why}", shorten(text)))
            .hint("write a path like \"/new/*\", or a URL like \"https://example.com/new/*\"")
    };
    let rest = match text.split_once("://") {
        Some(("http" | "https", rest)) => {
            let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            if host.contains('*') || (path.is_empty() && rest.contains('*')) {
                return Err(fault("`*` cannot stand in the host"));
            }
            words::probe_host(host).map_err(|_| fault("the host is malformed"))?;
            path
        }
        Some(_) => return Err(fault("the scheme is neither `http` nor `https`")),
        None if text.starts_with("//") || text.starts_with("/*") && text.len() > 2 => {
            return Err(fault("it could be read as a host"));
        }
        None if text.starts_with('/') => text,
        None => return Err(fault("it is neither a path nor a URL")),
    };
    rest.parse::<http::uri::PathAndQuery>().map(drop).map_err(|_| fault("the path is malformed"))
}
