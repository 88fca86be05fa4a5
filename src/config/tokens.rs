//! `[[admin.token]]`: who may ask over `admin.http` for more than anybody may.

use super::error::{Fault, Findings};
use super::file::misplaced;
use super::reader::Table;
use super::words;

/// Somebody who has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// How he is called in the audit log.
    pub name: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// What he may do.
    pub role: Role,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look.
    Read,
    /// Look, and change what runs.
    Operator,
}

/// What the hash in the file begins with.
const PREFIX: &str = "sha256:";

pub(super) fn read<'t>(tables: Vec<Table<'t>>, findings: &'t Findings<'t>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for mut t in tables {
        let name = t.string("name");
        let hash = t.string("hash");
        let role = t.choice("role", Role::Read, &[("read", Role::Read), ("operator", Role::Operator)], |_| None);
        for (key, missing) in [("name", name.is_missing()), ("hash", hash.is_missing())] {
            if missing {
                let fault = Fault::new(format!("a token has no `{key}`"));
                findings.add(&t.span, fault.hint("`sluice token NAME` makes a token and prints what to write"));
            }
        }
        let span = t.span.clone();
        t.finish(misplaced);
        let name = name.get().and_then(|at| {
            let checked = words::name(at.value, "token").map_err(|fault| findings.add(&at.span, fault));
            checked.ok().map(|()| at.value.to_owned())
        });
        let hash = hash.get().and_then(|at| {
            let read = digest(at.value);
            if read.is_none() {
                let fault = Fault::new("`hash` is not the hash of a token").hint(
                    "write what `sluice token NAME` prints: `sha256:` and 64 hexadecimal digits, never the token itself",
                );
                findings.add(&at.span, fault.secret());
            }
            read
        });
        let (Some(name), Some(hash)) = (name, hash) else { continue };
        if tokens.iter().any(|other| other.name == name) {
            findings.add(&span, Fault::new(format!("there are two tokens for `{name}`")));
        }
        tokens.push(Token { name, hash, role });
    }
    tokens
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_sixty_four_digits_and_nothing_else() {
        let digits = "0f".repeat(32);
        assert_eq!(digest(&format!("sha256:{digits}")), Some([0x0f; 32]));
        for bad in [
            "",
            "sha256:",
            &digits,
            &format!("sha256:{}", &digits[1..]),
            &format!("sha256:+{}", &digits[1..]),
            &format!("sha256:{digits}0"),
        ] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
