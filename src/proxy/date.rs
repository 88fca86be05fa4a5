//! The `Date` of a response that came without one (RFC 9110 §6.6.1).

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;

thread_local! {
    /// When it was written, and the text: it changes once a second.
    static WRITTEN: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
}

/// The time, at most a second old.
pub fn now() -> HeaderValue {
    WRITTEN.with_borrow_mut(|written| {
        if let Some((at, value)) = written
            && at.elapsed() < Duration::from_secs(1)
        {
            return value.clone();
        }
        let text = httpdate::fmt_http_date(SystemTime::now());
        let value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        *written = Some((Instant::now(), value.clone()));
        value
    })
}
