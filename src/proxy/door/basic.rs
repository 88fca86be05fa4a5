//! Passwords (RFC 7617). They are compared on a thread of their own, one after another; one that was right is known again.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use base64::Engine as _;
use http::header::{AUTHORIZATION, HeaderMap};

use super::super::call::Call;
use super::super::error::Fault;
use crate::config::BasicAuth;
use crate::pool::passwords::Passwords;

/// How long a request waits for its password to be compared.
const PATIENCE: Duration = Duration::from_secs(10);
/// Passwords that are known again; 16 bytes each.
const KNOWN: usize = 4096;

/// Passwords that were right, as this worker knows them again: by two keyed hashes, together 128 bits, of name, password
/// and stored hash. The keys are drawn at the start, so nobody can look for a second password with the same ones; the
/// password itself is not kept. A user whose hash is changed or who is removed is not known any more.
#[derive(Debug, Default)]
pub(super) struct Verified {
    keys: [RandomState; 2],
    known: RefCell<HashSet<u128>>,
}

impl Verified {
    /// The user's name, if the request says who it is.
    pub(super) async fn check(
        &self,
        auth: &BasicAuth,
        passwords: &Passwords,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<String, Fault> {
        let refused = || Fault::Unauthorized(auth.challenge.clone());
        let (name, password) = credentials(headers).ok_or_else(refused)?;
        let user = auth.users.iter().find(|user| user.name.as_bytes() == name);
        // For a name that is not known a hash is made, too: time must not tell which names there are.
        let hash = &user.or(auth.users.first()).ok_or_else(refused)?.hash;
        let print = self.print(&name, &password, hash);
        if let Some(user) = user.filter(|_| self.known.borrow().contains(&print)) {
            return Ok(user.name.clone());
        }
        let verdict = passwords.compare(password, hash).ok_or(Fault::AuthBusy)?;
        let verdict = tokio::time::timeout(PATIENCE, verdict);
        let right = match call.unless_judged(verdict).await {
            Ok(Ok(Ok(right))) => right,
            Ok(_) => return Err(Fault::AuthBusy),
            Err(_) => return Err(Fault::Shutdown),
        };
        let user = user.filter(|_| right).ok_or_else(refused)?;
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN {
            // They are hashed once more, as they come; that is rare enough to need no better order.
            known.clear();
        }
        known.insert(print);
        Ok(user.name.clone())
    }

    fn print(&self, name: &[u8], password: &[u8], hash: &str) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one((name, password, hash))));
        high << 64 | low
    }
}

/// Name and password. More than one `Authorization` could be read in two ways.
fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let value = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut name = base64::engine::general_purpose::STANDARD.decode(token.trim()).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    // bcrypt ends at a NUL; what follows one would not count.
    (!password.contains(&0)).then_some((name, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, line.parse().expect("a value"));
        }
        credentials(&headers)
    }

    #[test]
    fn credentials_are_read_in_one_way_only() {
        let anna = Some((b"anna".to_vec(), b"a:b".to_vec()));
        assert_eq!(parse(&["Basic YW5uYTphOmI="]), anna);
        assert_eq!(parse(&["bAsIc  YW5uYTphOmI= "]), anna);
        for bad in [
            &["Bearer YW5uYTphOmI="][..],
            &["Basic"],
            &["Basic !"],
            &["Basic YW5uYQ=="],
            &["Basic YW5uYTphAGI="],
            &["Basic YW5uYTphOmI=", "Basic YW5uYTphOmI="],
            &[],
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_print_is_of_all_three_and_of_where_they_meet() {
        let verified = Verified::default();
        let print = verified.print(b"ab", b"c", "h");
        for (name, password, hash) in [("a", "bc", "h"), ("ab", "c", "g"), ("ab", "d", "h"), ("ab", "", "ch")] {
            assert_ne!(verified.print(name.as_bytes(), password.as_bytes(), hash), print);
        }
        assert_ne!(Verified::default().print(b"ab", b"c", "h"), print, "keys are drawn anew");
    }
}
