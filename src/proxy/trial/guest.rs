//! Which version a request belongs to while two serve: by its cohort, or as a preview.

use std::fmt::Write as _;

use http::header::{CACHE_CONTROL, COOKIE, EXPIRES, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Method, Response};

use super::super::body::RespBody;
use super::super::call::Call;
use super::super::door::{client_address, client_is_https};
use super::super::key::{cookies, hash_of};
use super::super::view::{ServiceLocal, View};
use crate::config::{self, Cohort, CohortBy, OwnCookie, Preview, PreviewBy};
use crate::pool::balance::point_of;
use crate::pool::meters::client_key;
use crate::pool::router::normalised;
use crate::pool::{CohortKey, ServiceView, cohort};

/// Tells a node that a request is a copy.
pub(super) const SHADOW: HeaderName = HeaderName::from_static("x-sluice-shadow");

/// A request to a service of which two versions serve.
#[derive(Debug, Default)]
pub struct Guest {
    /// Where its user stands in the division between versions; none: it goes by its turn.
    pub point: Option<u32>,
    /// It goes to the version on trial, because it knows the secret.
    pub preview: bool,
    /// A 404 for it is asked of the other version.
    pub asset: bool,
    /// For a user that has no place yet.
    cookie: Option<HeaderValue>,
}

/// Removes from a request what no node may see. Whether it knows the secret of the preview.
pub fn conceal(trial: &config::Trial, headers: &mut HeaderMap) -> bool {
    if trial.shadow.is_some() {
        // A client must not make a node believe that its request does not count.
        headers.remove(SHADOW);
    }
    trial.preview.as_ref().is_some_and(|preview| take_secret(preview, headers))
}

fn take_secret(preview: &Preview, headers: &mut HeaderMap) -> bool {
    let opens = |tried: &[u8]| preview.secrets.iter().any(|secret| secret.is(tried));
    match &preview.by {
        PreviewBy::Header(name) => {
            let opened = headers.get_all(name).iter().any(|value| opens(value.as_bytes()));
            headers.remove(name);
            opened
        }
        PreviewBy::Cookie(name) => {
            if cookies(headers, name).next().is_none() {
                return false;
            }
            let opened = cookies(headers, name).any(opens);
            remove_cookie(headers, name);
            opened
        }
    }
}

/// Removes every cookie of this name, and leaves the others as they stand.
fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_it = |pair: &[u8]| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    };
    let without = |value: &HeaderValue| {
        let pairs = value.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_it(pair));
        let kept = pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join(&b"; "[..]);
        // Parts of a value are one as well.
        HeaderValue::from_bytes(&kept).ok().filter(|value| !value.is_empty())
    };
    let kept: Vec<_> = headers.get_all(COOKIE).iter().filter_map(without).collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

impl Guest {
    /// What a request is; none while one version serves alone. `preview`: it knows the secret.
    pub fn of(
        call: &Call,
        view: &View,
        (service, local): (&ServiceView, &ServiceLocal),
        preview: bool,
        request: (&Method, &str, &HeaderMap),
    ) -> Option<Box<Self>> {
        let trial = service.settings.trial.as_deref()?;
        if service.slices.len() < 2 {
            return None;
        }
        let (method, path, headers) = request;
        let mut guest = Self { preview: preview && service.trial.is_some(), ..Self::default() };
        let Some(cohort) = &trial.cohort else {
            return guest.preview.then(|| Box::new(guest));
        };
        guest.asset = service.trial.is_some()
            && !cohort.assets.is_empty()
            && matches!(*method, Method::GET | Method::HEAD)
            && cohort.is_asset(&normalised(path));
        if !guest.preview {
            guest.settle(cohort, call, view, (service, local), headers);
        }
        Some(Box::new(guest))
    }

    /// Finds the user's place, or gives it one.
    fn settle(
        &mut self,
        cohort: &Cohort,
        call: &Call,
        view: &View,
        (service, local): (&ServiceView, &ServiceLocal),
        headers: &HeaderMap,
    ) {
        let name = &service.settings.name;
        let (peer, trusted) = (call.front.remote().ip().to_canonical(), &view.edge().trusted_proxies);
        let place = match &cohort.by {
            CohortBy::Key(by) => {
                let client = || client_key(client_address(peer, headers, trusted));
                hash_of(by, headers, client).map(|key| cohort::place_of(name, key))
            }
            CohortBy::Own(cookie) => {
                let own = cookie.secret.as_ref().and_then(|secret| secret.bytes()).map(CohortKey::new);
                let Some(key) = own.as_ref().or(view.edge().cohort_key.as_deref()) else { return };
                let called = cookie.name.as_ref().map_or_else(|| format!("sluice-{name}"), Clone::clone);
                let known = cookies(headers, &called).find_map(|value| key.verify(name, value));
                Some(known.unwrap_or_else(|| {
                    // By its turn, so that first visits meet the shares exactly.
                    let place = cohort::place_at(point_of(local.turn()));
                    let secure = client_is_https(&call.front, peer, headers, trusted);
                    self.cookie = set_cookie(cookie, &called, &key.sign(name, place), secure);
                    place
                }))
            }
        };
        self.point = place.map(cohort::point_at);
    }

    /// Why it goes to the version that it goes to; none if by its turn.
    pub fn cohort(&self) -> Option<&'static str> {
        if self.preview { Some("preview") } else { self.point.map(|_| "pinned") }
    }

    /// Adds to a node's answer what concerns the client.
    pub fn mark(&mut self, response: &mut Response<RespBody>) {
        let headers = response.headers_mut();
        if self.preview {
            // Neither a cache between nor the browser may show it to somebody who did not ask for it.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        }
        if let Some(cookie) = self.cookie.take()
            && !is_for_all(headers)
        {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

fn set_cookie(cookie: &OwnCookie, name: &str, value: &str, secure: bool) -> Option<HeaderValue> {
    let mut text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
    if !cookie.max_age.is_zero() {
        // Never fails.
        let _ = write!(text, "; Max-Age={}", cookie.max_age.as_secs().max(1));
    }
    if secure {
        text.push_str("; Secure");
    }
    HeaderValue::from_str(&text).ok()
}

/// Whether caches may hand an answer to others: a cookie in it would be handed to them, too, and all of them would be one cohort.
fn is_for_all(headers: &HeaderMap) -> bool {
    let words = || {
        let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::trim)
    };
    let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
    if words().any(|word| is(word, "private") || is(word, "no-store") || is(word, "no-cache")) {
        return false;
    }
    let lasts = |word: &str| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        is(name, "public") || ((is(name, "max-age") || is(name, "s-maxage")) && value.trim_matches('"') != "0")
    };
    words().any(lasts) || (headers.contains_key(EXPIRES) && words().next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_goes_and_the_others_stay_as_they_are() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; peek=x;b=2", "peek=y", "peeks=3; xpeek=4 ;peek", "", "c=\"; peek=z"] {
            headers.append(COOKIE, line.parse().expect("a value"));
        }
        remove_cookie(&mut headers, "peek");
        let left: Vec<_> = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
        assert_eq!(left, ["a=1; b=2", "peeks=3; xpeek=4", "c=\""]);
    }

    #[test]
    fn what_caches_may_hand_to_others_gets_no_cookie() {
        for (control, expires, for_all) in [
            ("", false, false),
            ("", true, true),
            ("public", false, true),
            ("max-age=60", false, true),
            ("max-age=0", false, false),
            ("max-age=0, s-maxage=60", false, true),
            ("private, max-age=60", true, false),
            ("no-cache", true, false),
            ("No-Store", false, false),
            ("must-revalidate", true, false),
        ] {
            let mut headers = HeaderMap::new();
            if !control.is_empty() {
                headers.insert(CACHE_CONTROL, control.parse().expect("a value"));
            }
            if expires {
                headers.insert(EXPIRES, "Thu, 01 Dec 2050 16:00:00 GMT".parse().expect("a value"));
            }
            assert_eq!(is_for_all(&headers), for_all, "{control} {expires}");
        }
    }
}
