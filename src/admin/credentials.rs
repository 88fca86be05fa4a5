//! Who shows a token. Only its hash is known, and it is compared in a time that tells nothing.

use std::fmt::Write as _;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::answer::Fault;
use crate::config::Token;

/// What every token begins with, so that those who look for leaked secrets find it.
const PREFIX: &str = "sluice_";

/// Random bytes in a token. Nobody guesses 256 bits, so that a quick hash is enough.
const RANDOM: usize = 32;

/// A new token, and its hash as the configuration wants it.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_token() -> Result<(String, String), String> {
    let mut random = [0; RANDOM];
    rand::fill(&mut random).map_err(|_| "the system gives no random numbers".to_owned())?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let mut hash = "sha256:".to_owned();
    for byte in digest(&SHA256, token.as_bytes()).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    Ok((token, hash))
}

/// Whose token a request shows; none if it shows none.
///
/// # Errors
/// It shows one that nobody has: no answer, not even to what needs no token.
pub(super) fn who<'a>(tokens: &'a [Token], headers: &HeaderMap) -> Result<Option<&'a Token>, Fault> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let shown = match (shown.next(), shown.next()) {
        (None, _) => return Ok(None),
        (Some(shown), None) => shown,
        _ => return Err(Fault::bad_request("one Authorization header is enough")),
    };
    let token = shown.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let Some(token) = token else {
        return Err(Fault::unauthorized("write `Authorization: Bearer TOKEN`"));
    };
    let hash = digest(&SHA256, token.as_bytes());
    // All are compared, whichever fits.
    let mut found = None;
    for known in tokens {
        if verify_slices_are_equal(hash.as_ref(), &known.hash).is_ok() {
            found = Some(known);
        }
    }
    found.map(Some).ok_or_else(|| Fault::unauthorized("nobody has this token; `sluice token NAME` makes one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    #[test]
    fn a_token_is_known_by_its_hash_and_nothing_else_is() {
        let (token, hash) = new_token().unwrap();
        assert!(token.starts_with(PREFIX) && token.len() == PREFIX.len() + 43, "{token}");
        assert_ne!(new_token().unwrap().0, token);
        let hash: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hash[7 + at * 2..9 + at * 2], 16).unwrap()).collect();
        let known = [Token { name: "ci".into(), hash: hash.try_into().unwrap(), role: Role::Operator }];
        let ask = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            who(&known, &headers)
                .map(|who| who.map(|token| token.name.clone()))
                .map_err(|fault| fault.status().as_u16())
        };
        let good = format!("Bearer {token}");
        assert_eq!(ask(&[]), Ok(None));
        assert_eq!(ask(&[&good]), Ok(Some("ci".into())));
        assert_eq!(ask(&[&good.replace("Bearer", "bearer")]), Ok(Some("ci".into())));
        for bad in [
            &good[..good.len() - 1],
            &format!("{good}x"),
            "Bearer",
            "Bearer ",
            &token,
            &good.replace("Bearer", "Basic"),
        ] {
            assert_eq!(ask(&[bad]), Err(401), "{bad}");
        }
        assert_eq!(ask(&[&good, &good]), Err(400));
    }
}
