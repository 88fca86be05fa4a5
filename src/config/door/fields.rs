//! Header fields that are set, added or removed.

use http::header::{HeaderName, HeaderValue};

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::{At, Table};
use super::super::template::{self, Piece};
use super::super::units::shorten;
use super::super::words;
use super::checked;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// `[service.NAME.request_headers]` and `[service.NAME.response_headers]`; carried out in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldRules {
    /// These go.
    pub remove: Vec<HeaderName>,
    /// These have this value and no other.
    pub set: Vec<Field>,
    /// These get one more value.
    pub add: Vec<Field>,
}

impl FieldRules {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// A field and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: FieldValue,
}

/// A value, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// The same for every message.
    Fixed(HeaderValue),
    /// Put together for each.
    Made(Vec<Part>),
}

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// What this stands for.
    Placeholder(Placeholder),
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The client's address, as trusted proxies tell it.
    Client,
    /// The host that was asked for, with its port if it had one.
    Host,
    /// The path that was asked for, without its query, as the client wrote it.
    Path,
    /// `http` or `https`.
    Scheme,
    /// The service's name.
    Service,
    /// The user's name, if `basic_auth` asked for it.
    User,
    /// 32 random hexadecimal digits, the same wherever they stand for one request.
    RequestId,
}

const PLACEHOLDERS: [(&str, Placeholder); 7] = [
    ("client", Placeholder::Client),
    ("host", Placeholder::Host),
    ("path", Placeholder::Path),
    ("scheme", Placeholder::Scheme),
    ("service", Placeholder::Service),
    ("user", Placeholder::User),
    ("request_id", Placeholder::RequestId),
];

pub(super) fn read(mut t: Table<'_>, side: Side) -> FieldRules {
    let remove = t.strings("remove");
    let remove = remove.get().map(|at| &at.value[..]).unwrap_or_default();
    let remove = remove.iter().filter_map(|at| name(at, &t, side, "remove")).collect();
    let mut values = |key| {
        let written = t.named_texts(key);
        let field = |(at, value): &(At<&str>, At<&str>)| {
            let name = name(at, &t, side, key)?;
            Some(Field { value: self::value(&name, value, &t)?, name })
        };
        written.iter().filter_map(field).collect()
    };
    let rules = FieldRules { remove, set: values("set"), add: values("add") };
    t.finish(misplaced);
    rules
}

fn name(at: &At<&str>, t: &Table<'_>, side: Side, key: &str) -> Option<HeaderName> {
    let refuse = |fault| t.findings().add(&at.span, fault);
    let Ok(name) = at.value.parse::<HeaderName>() else {
        refuse(Fault::new(format!("`{}` is not the name of a header", shorten(at.value))));
        return None;
    };
    if words::frames(&name) {
        let fault = Fault::new(format!("`{name}` cannot be changed: it says how this message is framed"));
        refuse(fault.hint("Sluice sets it for each connection as it must be; remove the line"));
        return None;
    }
    match (name.as_str(), side) {
        ("host", Side::Request) if key == "set" => {}
        ("host", Side::Request) => {
            refuse(Fault::new("a request has exactly one `host`").hint("write it under `set`"));
            return None;
        }
        ("host", Side::Response) => {
            refuse(Fault::new("an answer has no `host`"));
            return None;
        }
        ("x-sluice-error", Side::Response) => {
            refuse(Fault::new("`x-sluice-error` cannot be changed: it tells Sluice's errors from a node's"));
            return None;
        }
        _ => {}
    }
    Some(name)
}

fn value(name: &HeaderName, at: &At<&str>, t: &Table<'_>) -> Option<FieldValue> {
    let parts = checked(at, t.findings(), parts)?;
    // What stands for something is checked when it is known; in a host, letters are as good as anything.
    let sample: String = parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect();
    let Ok(fixed) = HeaderValue::from_str(&sample) else {
        t.findings().add(&at.span, Fault::new(format!("`{}` is not a value of a header", shorten(at.value))));
        return None;
    };
    if *name == http::header::HOST {
        checked(&At { value: &*sample, span: at.span.clone() }, t.findings(), words::probe_host)?;
    }
    let plain = parts.iter().all(|part| matches!(part, Part::Text(_)));
    Some(if plain { FieldValue::Fixed(fixed) } else { FieldValue::Made(parts) })
}

fn parts(text: &str) -> Result<Vec<Part>, Fault> {
    let parts = template::pieces(text).into_iter().map(|piece| match piece {
        Piece::Text(text) => Ok(Part::Text(text.into())),
        Piece::Word(word) => {
            template::meaning(word, PLACEHOLDERS.iter().copied(), "stands for nothing").map(Part::Placeholder)
        }
    });
    parts.collect()
}
