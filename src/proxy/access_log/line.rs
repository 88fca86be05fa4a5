//! One line: fields as text, safe in their form whatever a client sent.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{LogField, LogFormat, LogPiece};
use crate::net::http1::decimal;

/// A field of one request.
pub(super) enum Value<'a> {
    /// Nothing is known: `null`, or `-`.
    None,
    Text(&'a [u8]),
    /// Text that holds nothing but letters, digits and other marks that need no care in any form.
    Word(&'a [u8]),
    Number(u64),
    /// In milliseconds, with microseconds behind the point.
    Time(Duration),
    Flag(bool),
}

/// The fields of the JSON form, and what stands before each.
static KEYS: LazyLock<Vec<(Vec<u8>, LogField)>> = LazyLock::new(|| {
    let key = |(place, field): (usize, &LogField)| {
        let start = if place == 0 { '{' } else { ',' };
        (format!("{start}\"{}\":", field.name()).into_bytes(), *field)
    };
    LogField::JSON.iter().enumerate().map(key).collect()
});

/// Writes a line with its end.
pub(super) fn write<'a>(out: &mut Vec<u8>, format: &LogFormat, value: impl Fn(LogField) -> Value<'a>) {
    match format {
        LogFormat::Json => {
            for (key, field) in &*KEYS {
                out.extend_from_slice(key);
                json(out, &value(*field));
            }
            out.push(b'}');
        }
        LogFormat::Pieces(pieces) => {
            for piece in pieces {
                match piece {
                    LogPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
                    LogPiece::Field(field) => plain(out, &value(*field)),
                }
            }
        }
    }
    out.push(b'\n');
}

/// With its quotes.
pub(super) fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().copied().all(is_harmless) {
        return quoted(out, text);
    }
    out.push(b'"');
    // What is no UTF-8 is no JSON either.
    for chunk in text.utf8_chunks() {
        json_text(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.push(b'"');
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Whether it can stand in any form as it is, as nearly all does.
fn is_harmless(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

fn json(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::None => out.extend_from_slice(b"null"),
        Value::Text(text) => json_string(out, text),
        Value::Word(word) => quoted(out, word),
        other => bare(out, other),
    }
}

fn json_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7F)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// As nginx and Apache do it: what could end a quoted field or a line is written as `\xHH`.
fn plain(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::None => out.push(b'-'),
        Value::Word(word) => out.extend_from_slice(word),
        Value::Text(text) => {
            if text.is_empty() {
                out.push(b'-');
            }
            let mut rest = *text;
            while let Some(at) = rest.iter().position(|byte| !is_harmless(*byte)) {
                out.extend_from_slice(&rest[..at]);
                let _ = write!(out, "\\x{:02X}", rest[at]);
                rest = &rest[at + 1..];
            }
            out.extend_from_slice(rest);
        }
        other => bare(out, other),
    }
}

fn bare(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Number(value) => number(out, *value),
        Value::Time(time) => {
            let micros = time.subsec_micros();
            number(out, time.as_secs().saturating_mul(1000).saturating_add(u64::from(micros / 1000)));
            out.push(b'.');
            digits(out, u64::from(micros % 1000), 3);
        }
        Value::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::None | Value::Text(_) | Value::Word(_) => {}
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

/// The last digits of a number; zeros before it, if it has fewer.
fn digits(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut text = [b'0'; 4];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[text.len() - width..]);
}

/// An address as `Display` writes it.
pub(super) fn address(ip: IpAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = ip else { return ip.to_string().into_bytes() };
    let mut out = Vec::with_capacity(15);
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        number(&mut out, u64::from(octet));
    }
    out
}

/// A moment in UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    seconds: u64,
    millis: u64,
}

/// Howard Hinnant's algorithm, for days since 1970.
fn civil(at: SystemTime) -> Civil {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = since.as_secs() / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: of_year - (153 * shifted + 2) / 5 + 1,
        seconds: since.as_secs() % 86_400,
        millis: u64::from(since.subsec_millis()),
    }
}

/// `2026-11-22T19:28:05.123Z`
pub(super) fn rfc3339(at: SystemTime) -> Vec<u8> {
    let time = civil(at);
    let mut out = Vec::with_capacity(24);
    let parts = [
        (time.year, 4, b'-'),
        (time.month, 2, b'-'),
        (time.day, 2, b'T'),
        (time.seconds / 3600, 2, b':'),
        (time.seconds / 60 % 60, 2, b':'),
        (time.seconds % 60, 2, b'.'),
        (time.millis, 3, b'Z'),
    ];
    for (number, width, end) in parts {
        digits(&mut out, number, width);
        out.push(end);
    }
    out
}

/// `22/Nov/2026:19:28:05 +0000`
pub(super) fn common(at: SystemTime) -> Vec<u8> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = civil(at);
    let mut out = Vec::with_capacity(26);
    digits(&mut out, time.day, 2);
    let _ = write!(out, "/{}/", MONTHS[(time.month as usize - 1).min(11)]);
    digits(&mut out, time.year, 4);
    for number in [time.seconds / 3600, time.seconds / 60 % 60, time.seconds % 60] {
        out.push(b':');
        digits(&mut out, number, 2);
    }
    out.extend_from_slice(b" +0000");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_moment_is_written_in_utc() {
        for (secs, rfc, clf) in [
            (0, "1970-01-01T00:00:00.007Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_399, "2000-02-28T23:59:59.007Z", "28/Feb/2000:23:59:59 +0000"),
            (951_868_799, "2000-02-29T23:59:59.007Z", "29/Feb/2000:23:59:59 +0000"),
            (1_795_375_685, "2026-11-22T19:28:05.007Z", "22/Nov/2026:19:28:05 +0000"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z", "01/Mar/2100:00:00:00 +0000"),
        ] {
            let at = UNIX_EPOCH + Duration::from_millis(secs * 1000 + 7);
            assert_eq!((text(rfc3339(at)), text(common(at))), (rfc.to_owned(), clf.to_owned()));
        }
    }

    #[test]
    fn nothing_that_a_client_sends_ends_a_field_or_a_line() {
        let evil = "a\"b\\c\n\u{7f}\u{e9}".as_bytes();
        let format = LogFormat::Pieces(vec![LogPiece::Field(LogField::Path), LogPiece::Text(" x".into())]);
        let mut out = Vec::new();
        write(&mut out, &format, |_| Value::Text(evil));
        assert_eq!(text(out), "a\\x22b\\x5Cc\\x0A\\x7F\\xC3\\xA9 x\n");
        let mut out = Vec::new();
        write(&mut out, &LogFormat::Json, |_| Value::Text(b"\"\\\n\xff\x01"));
        let line = text(out);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["path"], "\"\\\n\u{FFFD}\u{1}");
    }

    #[test]
    fn numbers_and_times_are_written_whole() {
        let mut out = Vec::new();
        for value in [
            Value::Number(0),
            Value::Number(10),
            Value::Number(u64::MAX),
            Value::Time(Duration::from_micros(1_002)),
            Value::Flag(true),
        ] {
            bare(&mut out, &value);
            out.push(b' ');
        }
        assert_eq!(text(out), "0 10 18446744073709551615 1.002 true ");
        let mut out = Vec::new();
        bare(&mut out, &Value::Time(Duration::MAX));
        assert_eq!(text(out), "18446744073709551615.999");
    }

    #[test]
    fn an_address_is_written_as_everywhere() {
        for ip in ["0.0.0.0", "127.0.0.1", "10.20.30.40", "255.255.255.255", "::1", "2001:db8::7"] {
            assert_eq!(text(address(ip.parse().expect("an address"))), ip);
        }
    }
}
