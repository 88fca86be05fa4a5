//! The names of fields that came before: most of the next ones are the same, and need not be read letter by letter. Of those that
//! the `http` crate does not know, each would cost an allocation besides.

use std::cell::RefCell;

use http::HeaderName;

/// So many names are kept, of so many bytes at most: some ten kilobytes a thread, whatever clients and nodes send.
const NAMES: usize = 128;
const LONGEST: usize = 40;

/// A name, and how it was sent: there are several ways to write one.
struct Known {
    text: [u8; LONGEST],
    length: usize,
    name: HeaderName,
}

thread_local! {
    /// Each in the one place where it can be.
    static KNOWN: RefCell<Box<[Option<Known>]>> = RefCell::new((0..NAMES).map(|_| None).collect());
}

/// The name that is sent like this. `None`: it is none (RFC 9110 §5.1).
#[inline]
pub(super) fn name(text: &[u8]) -> Option<HeaderName> {
    if text.is_empty() || text.len() > LONGEST {
        return HeaderName::from_bytes(text).ok();
    }
    KNOWN.with_borrow_mut(|known| {
        let place = &mut known[place(text)];
        if let Some(known) = place
            && known.text[..known.length] == *text
        {
            return Some(known.name.clone());
        }
        let name = HeaderName::from_bytes(text).ok()?;
        let mut kept = [0; LONGEST];
        kept[..text.len()].copy_from_slice(text);
        *place = Some(Known { text: kept, length: text.len(), name: name.clone() });
        Some(name)
    })
}

/// Where a name is kept. Three letters and the length tell common names apart; two that share a place take turns in it.
fn place(text: &[u8]) -> usize {
    let letters = [text[0], text[text.len() / 2], text[text.len() - 1], text.len() as u8];
    (u32::from_le_bytes(letters).wrapping_mul(0x9e37_79b1) >> (u32::BITS - NAMES.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_is_the_same_whether_it_came_before_or_not() {
        let long = "x".repeat(LONGEST + 1);
        let most = "y".repeat(LONGEST);
        for _ in 0..3 {
            for text in ["host", "Host", "HOST", "x-own", "X-Own", "a", &most, &long] {
                assert_eq!(name(text.as_bytes()), Some(HeaderName::try_from(text).expect("a name")), "{text}");
            }
            for text in ["", "a b", "a:", "\u{e9}", "hos\0"] {
                assert_eq!(name(text.as_bytes()), None, "{text:?}");
            }
        }
    }

    #[test]
    fn names_that_share_a_place_are_not_taken_for_each_other() {
        let names: Vec<String> = (0..10 * NAMES).map(|n| format!("x-{n}-y")).collect();
        for text in names.iter().chain(names.iter().rev()) {
            assert_eq!(name(text.as_bytes()).expect("a name").as_str(), text);
        }
    }

    #[test]
    fn common_names_have_places_of_their_own() {
        let common = [
            "Host",
            "Connection",
            "User-Agent",
            "Accept",
            "Accept-Encoding",
            "Accept-Language",
            "Cookie",
            "Referer",
            "Content-Type",
            "Content-Length",
            "Date",
            "Server",
            "Cache-Control",
            "ETag",
            "Vary",
            "Last-Modified",
            "Authorization",
            "Origin",
            "X-Request-Id",
            "Set-Cookie",
            "Transfer-Encoding",
            "Keep-Alive",
        ];
        let places: HashSet<usize> = common.iter().map(|text| place(text.as_bytes())).collect();
        assert!(places.len() + 3 >= common.len(), "{} of {}", places.len(), common.len());
    }
}
