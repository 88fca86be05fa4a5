//! Where the fields of a head stand in it, as httparse has found them: to be taken out when the head is nobody else's any more.
#![allow(unsafe_code)]

use bytes::Bytes;
use http::HeaderValue;

/// Where a field's name and value stand.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    name: (u32, u32),
    value: (u32, u32),
}

/// More places than this cost an allocation, and less than that to clear.
const FEW: usize = 16;

/// The places of a head's fields.
pub(super) struct Places {
    base: usize,
    count: usize,
    few: [Place; FEW],
    rest: Vec<Place>,
}

impl Places {
    /// None yet, of a head that stands here.
    pub(super) fn within(text: &[u8]) -> Self {
        Self { base: text.as_ptr() as usize, count: 0, few: [Place::default(); FEW], rest: Vec::new() }
    }

    /// Notes where these fields stand: those that httparse has found in the text, and no others.
    #[inline]
    pub(super) fn note(&mut self, fields: &[httparse::Header<'_>]) {
        let base = self.base;
        let place = |field: &httparse::Header<'_>| Place {
            name: range(base, field.name.as_bytes()),
            value: range(base, field.value),
        };
        for (at, field) in self.few.iter_mut().zip(fields) {
            *at = place(field);
        }
        self.count = fields.len().min(FEW);
        if fields.len() > FEW {
            self.rest.extend(fields[FEW..].iter().map(place));
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count + self.rest.len()
    }

    /// One after another.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.few[..self.count].iter().chain(&self.rest)
    }

    /// Where a part of the text stands.
    pub(super) fn range(&self, part: &[u8]) -> (u32, u32) {
        range(self.base, part)
    }
}

impl Place {
    /// The name that stands here, as it was sent.
    pub(super) fn name<'a>(&self, text: &'a Bytes) -> &'a [u8] {
        &text[self.name.0 as usize..self.name.1 as usize]
    }

    /// The value that stands here.
    #[inline]
    pub(super) fn value(&self, text: &Bytes) -> HeaderValue {
        // SAFETY: `http` wants a value without control characters, which would end its line where it is written; no memory
        // depends on that. Here stands what httparse has taken for a value, which has none either: a test below compares the two
        // byte by byte, and debug builds check each value. To look at all of it again would cost three instructions a byte,
        // the most of what a large cookie costs.
        unsafe { HeaderValue::from_maybe_shared_unchecked(part(text, self.value)) }
    }
}

/// Where a part of a text stands that begins at `base`.
fn range(base: usize, part: &[u8]) -> (u32, u32) {
    let start = part.as_ptr() as usize - base;
    (start as u32, (start + part.len()) as u32)
}

/// The part of a text at a place.
pub(super) fn part(text: &Bytes, (start, end): (u32, u32)) -> Bytes {
    text.slice(start as usize..end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_httparse_takes_for_a_value_http_takes_too() {
        let mut taken = 0;
        for byte in 0..=u8::MAX {
            let line = [b"a: x", &[byte][..], b"y\r\n\r\n"].concat();
            let mut fields = [httparse::EMPTY_HEADER; 4];
            if let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&line, &mut fields) {
                for field in fields {
                    assert!(HeaderValue::from_bytes(field.value).is_ok(), "{byte:#x}");
                }
                taken += 1;
            }
            // The same of heads, long enough to be looked at in larger steps, at each place of a step.
            for lead in 0..70 {
                let line = format!("a: {}", "x".repeat(lead));
                let text = [b"HTTP/1.1 200 OK\r\n", line.as_bytes(), &[byte], &[b'y'; 70], b"\r\n\r\n"].concat();
                let mut fields = [httparse::EMPTY_HEADER; 4];
                let mut response = httparse::Response::new(&mut fields);
                if response.parse(&text).is_ok_and(|parsed| parsed.is_complete()) {
                    assert!(
                        response.headers.iter().all(|field| HeaderValue::from_bytes(field.value).is_ok()),
                        "{byte:#x}"
                    );
                }
            }
        }
        assert!(taken > 200, "{taken}");
    }
}
