//! Who may come in: passwords that Sluice checks itself, and somebody else who is asked.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::{At, Table};
use super::super::units::shorten;
use super::super::words;
use super::{checked, checked_list};

/// One check of a password takes 2 to the power of this: 12 is a quarter of a second, and each more doubles it.
const DEAREST: u32 = 14;

/// `[service.NAME.basic_auth]` (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The whole `WWW-Authenticate`.
    pub challenge: HeaderValue,
    /// At least one; names are unique.
    pub users: Vec<User>,
    /// Whether the node gets the password, too.
    pub forward: bool,
}

/// Somebody with a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password's bcrypt hash, as `htpasswd -B` writes it.
    pub hash: String,
}

/// `[service.NAME.forward_auth]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// Who is asked: `host:port`.
    pub address: String,
    /// For what.
    pub path: String,
    /// How long the answer may take, with the connection.
    pub timeout: Duration,
    /// Fields of a good answer that the node gets. A client cannot send them.
    pub copy: Vec<HeaderName>,
}

pub(super) fn basic(mut t: Table<'_>) -> Option<BasicAuth> {
    let challenge = match t.string("realm").get() {
        Some(at) => checked(at, t.findings(), challenge),
        None => challenge("Restricted").ok(),
    };
    let written = t.some_strings("users", "`users` is empty: nobody could come in");
    if written.is_missing() {
        let fault = Fault::new("`basic_auth` has no `users`");
        t.findings()
            .add(&t.span, fault.hint("write `users = [\"anna:$2y$…\"]`, each as `htpasswd -nB anna` prints it"));
    }
    let forward = t.flag("forward", false);
    let mut users: Vec<User> = Vec::new();
    for at in written.get().map(|at| &at.value[..]).unwrap_or_default() {
        let Some(user) = checked(at, t.findings(), |text| user(text).map_err(Fault::secret)) else { continue };
        if users.iter().any(|other| other.name == user.name) {
            t.findings().add(&at.span, Fault::new(format!("the user `{}` is in this list twice", shorten(&user.name))));
        }
        users.push(user);
    }
    t.finish(misplaced);
    Some(BasicAuth { challenge: challenge?, users, forward })
}

fn challenge(realm: &str) -> Result<HeaderValue, Fault> {
    let fault =
        || Fault::new(format!("`{}` is not the name of a realm", shorten(realm))).hint("write letters and spaces");
    if realm.is_empty()
        || realm.len() > 200
        || realm.bytes().any(|b| !(b' '..=b'~').contains(&b) || b"\"\\".contains(&b))
    {
        return Err(fault());
    }
    HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")).map_err(|_| fault())
}

/// `name:hash`. Errors do not quote it: a password in clear would end in a log.
fn user(text: &str) -> Result<User, Fault> {
    let fault = |why: String| Fault::new(why).hint("write what `htpasswd -nB NAME` prints, like \"anna:$2y$10$…\"");
    let (name, hash) =
        text.split_once(':').ok_or_else(|| fault("a user is a name and a hash, with `:` between".into()))?;
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(fault("the name of this user is empty, or has characters that cannot be typed".into()));
    }
    let shown = shorten(name);
    let mut fields = hash.split('$');
    let known = fields.next() == Some("") && matches!(fields.next(), Some("2a" | "2b" | "2x" | "2y"));
    let cost = fields.next().filter(|cost| cost.len() == 2).and_then(|cost| cost.parse::<u32>().ok());
    let rest = fields.next().unwrap_or_default();
    let well = rest.len() == 53 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    match cost {
        Some(cost) if known && well && fields.next().is_none() && cost >= 4 => {
            if cost > DEAREST {
                let message = format!("the hash of `{shown}` has the cost {cost}: each check would take seconds");
                return Err(Fault::new(message).hint(format!("make one with a cost of at most {DEAREST}")));
            }
            Ok(User { name: name.to_owned(), hash: hash.to_owned() })
        }
        _ => Err(fault(format!("the hash of `{shown}` is not one of bcrypt"))),
    }
}

pub(super) fn forward(mut t: Table<'_>) -> Option<ForwardAuth> {
    let address = t.string("address");
    if address.is_missing() {
        let fault = Fault::new("`forward_auth` has no `address`");
        t.findings().add(&t.span, fault.hint("write who is asked, like `address = \"127.0.0.1:4181\"`"));
    }
    let known = address.get().and_then(|at| checked(at, t.findings(), plain));
    let path = t.string("path");
    let path = match path.get() {
        Some(at) => checked(at, t.findings(), words::probe_path).map(|()| at.value),
        None => Some("/"),
    };
    let timeout = t.some_duration("timeout", Duration::from_secs(2));
    let copy = checked_list(&mut t, "copy", |text| {
        let name = text.parse::<HeaderName>();
        let name = name.map_err(|_| Fault::new(format!("`{}` is not the name of a header", shorten(text))))?;
        if words::frames(&name) || name == http::header::HOST {
            return Err(Fault::new(format!("`{name}` cannot be copied: it belongs to one message")));
        }
        Ok(name)
    });
    t.finish(misplaced);
    known?;
    let At { value: address, .. } = address.get()?;
    Some(ForwardAuth { address: (*address).to_owned(), path: path?.to_owned(), timeout, copy })
}

/// A node's address without TLS.
fn plain(text: &str) -> Result<String, Fault> {
    if text.contains("://") {
        let fault = Fault::new(format!("`{}` is not who can be asked: it is a URL", shorten(text)));
        return Err(fault.hint("write it like \"127.0.0.1:4181\"; over a network, put a TLS tunnel between"));
    }
    words::node(text)
}
