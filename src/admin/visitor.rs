//! Who asks, and what they may.

use std::fs;
use std::net::SocketAddr;

use super::endpoints::Needs;

/// Bytes of the list of users that are looked at.
const USERS: usize = 1024 * 1024;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process on this machine that may open the socket's file, and whose it is, if the kernel tells.
    Unix(Option<u32>),
    /// Somebody who can reach the listener.
    Tcp(SocketAddr),
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) peer: Peer,
    /// The most that they may ask for.
    pub(super) may: Needs,
    /// The name of the token that they showed.
    pub(super) token: Option<String>,
    /// Whose certificate they showed, as RFC 4514 writes it.
    pub(super) certificate: Option<String>,
}

impl Visitor {
    /// For the visitor: the dashboard shows no button that would be refused.
    pub(super) fn whoami(&self) -> serde_json::Value {
        let role = if self.may >= Needs::Steering { "operator" } else { "read" };
        serde_json::json!({"name": self.name(), "role": role})
    }

    /// In words, for the history and the audit log.
    pub(super) fn name(&self) -> String {
        if let Some(name) = &self.token {
            return format!("token {name}");
        }
        if let Some(subject) = &self.certificate {
            return format!("certificate {subject}");
        }
        match self.peer {
            Peer::Unix(Some(uid)) => match user(uid) {
                Some(name) => format!("{name} (uid {uid})"),
                None => format!("uid {uid}"),
            },
            Peer::Unix(None) => "somebody on this machine".into(),
            Peer::Tcp(address) => address.ip().to_string(),
        }
    }
}

/// The name of a user of this machine. Users that come from elsewhere (LDAP) have only their number.
fn user(uid: u32) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open("/etc/passwd").ok()?.take(USERS as u64).read_to_string(&mut text).ok()?;
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })?;
    (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_nobody_has_the_last_number() {
        assert_eq!(user(0).as_deref(), Some("root"));
        let visitor = |uid| Visitor { peer: Peer::Unix(uid), may: Needs::Steering, token: None, certificate: None };
        assert_eq!(visitor(Some(0)).name(), "root (uid 0)");
        assert_eq!(visitor(Some(u32::MAX - 1)).name(), format!("uid {}", u32::MAX - 1));
    }
}
