//! The fields that both sides know from the beginning (RFC 7541 Appendix A).

use http::{HeaderName, HeaderValue};

use super::table::Field;
use super::{Name, OVERHEAD};

/// How many they are.
pub(super) const COUNT: usize = 61;

macro_rules! fields {
    ($($name:literal $value:literal,)*) => {
        const NAMES: [&str; COUNT] = [$($name),*];

        /// Their first has index 1.
        pub(super) static FIELDS: [Field; COUNT] = [$(field($name, $value)),*];
    };
}

fields! {
    ":authority" "",
    ":method" "GET",
    ":method" "POST",
    ":path" "/",
    ":path" "/index.html",
    ":scheme" "http",
    ":scheme" "https",
    ":status" "200",
    ":status" "204",
    ":status" "206",
    ":status" "304",
    ":status" "400",
    ":status" "404",
    ":status" "500",
    "accept-charset" "",
    "accept-encoding" "gzip, deflate",
    "accept-language" "",
    "accept-ranges" "",
    "accept" "",
    "access-control-allow-origin" "",
    "age" "",
    "allow" "",
    "authorization" "",
    "cache-control" "",
    "content-disposition" "",
    "content-encoding" "",
    "content-language" "",
    "content-length" "",
    "content-location" "",
    "content-range" "",
    "content-type" "",
    "cookie" "",
    "date" "",
    "etag" "",
    "expect" "",
    "expires" "",
    "from" "",
    "host" "",
    "if-match" "",
    "if-modified-since" "",
    "if-none-match" "",
    "if-range" "",
    "if-unmodified-since" "",
    "last-modified" "",
    "link" "",
    "location" "",
    "max-forwards" "",
    "proxy-authenticate" "",
    "proxy-authorization" "",
    "range" "",
    "referer" "",
    "refresh" "",
    "retry-after" "",
    "server" "",
    "set-cookie" "",
    "strict-transport-security" "",
    "transfer-encoding" "",
    "user-agent" "",
    "vary" "",
    "via" "",
    "www-authenticate" "",
}

const fn field(name: &'static str, value: &'static str) -> Field {
    let text = name.as_bytes();
    Field {
        name: if text[0] == b':' { Name::pseudo(text) } else { Name::Regular(HeaderName::from_static(name)) },
        value: Some(HeaderValue::from_static(value)),
        name_length: name.len() as u32,
        size: (name.len() + value.len() + OVERHEAD) as u32,
    }
}

/// Places in [`INDICES`].
const PLACES: usize = 128;

/// Puts each of the names at a place of its own in as many as these. Found by trying; `indices` sees to that.
const SPREAD: u32 = 0x7712_a5ad;

/// The index of the name that has this place, or zero.
static INDICES: [u8; PLACES] = indices();

const fn indices() -> [u8; PLACES] {
    let mut indices = [0; PLACES];
    // From the last one, so that the first of those with the same name stays. Pseudo-headers are not looked up.
    let mut index = COUNT;
    while index > 0 {
        let name = NAMES[index - 1].as_bytes();
        if name[0] != b':' {
            let place = place(mark(name));
            assert!(indices[place] == 0, "two names have the same place");
            indices[place] = index as u8;
        }
        index -= 1;
    }
    indices
}

const fn place(mark: u32) -> usize {
    (mark.wrapping_mul(SPREAD) >> (u32::BITS - PLACES.trailing_zeros())) as usize
}

/// What tells most names apart: their length and both of their ends.
#[inline]
pub(super) const fn mark(name: &[u8]) -> u32 {
    match name {
        [] => 0,
        [first, ..] => {
            let last = name[name.len() - 1];
            name.len() as u32 & 0xff | (*first as u32) << 8 | (last as u32) << 16
        }
    }
}

/// The index of the first field with this name; zero if there is none.
#[inline]
pub(super) fn index(name: &HeaderName) -> u8 {
    let index = INDICES[place(mark(name.as_str().as_bytes()))];
    match FIELDS.get(usize::from(index).wrapping_sub(1)) {
        Some(Field { name: Name::Regular(known), .. }) if known == name => index,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_first_index() {
        for (at, name) in NAMES.iter().enumerate().filter(|(_, name)| !name.starts_with(':')) {
            let known = HeaderName::from_static(name);
            assert_eq!(usize::from(index(&known)), at + 1, "{name}");
            assert_eq!(FIELDS[at].name, Name::of(name.as_bytes()));
            assert_eq!(FIELDS[at].name_length as usize, name.len());
        }
        // As long as `via` and with its ends, and others.
        for name in ["vea", "x", "x-request-id", "content-lengtj"] {
            assert_eq!(index(&HeaderName::from_static(name)), 0, "{name}");
        }
    }

    #[test]
    fn the_fields_stand_where_the_rfc_has_them() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (2, ":method", "GET"),
            (8, ":status", "200"),
            (14, ":status", "500"),
            (16, "accept-encoding", "gzip, deflate"),
            (28, "content-length", ""),
            (40, "if-modified-since", ""),
            (61, "www-authenticate", ""),
        ] {
            let field = &FIELDS[index - 1];
            assert_eq!(field.name, Name::of(name.as_bytes()));
            assert_eq!(field.value.as_ref().expect("a value"), value);
            assert_eq!(field.size as usize, name.len() + value.len() + 32);
        }
    }
}
