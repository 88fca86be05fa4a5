mod decoding;
mod encoding;
mod properties;

use http::{HeaderName, HeaderValue, StatusCode};

use super::huffman::tests as huffman;
use super::*;

/// A field as text. What no field may be stays visible.
type Said = (String, Option<String>);

fn text(name: &Name) -> String {
    match name {
        Name::Authority => ":authority".to_owned(),
        Name::Method => ":method".to_owned(),
        Name::Path => ":path".to_owned(),
        Name::Protocol => ":protocol".to_owned(),
        Name::Scheme => ":scheme".to_owned(),
        Name::Status => ":status".to_owned(),
        Name::Regular(name) => name.to_string(),
        Name::Malformed => "?".to_owned(),
    }
}

fn hear(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Said>, Malformed> {
    let mut said = Vec::new();
    decoder.decode(block, |name, value, size| {
        let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let name = text(&name);
        if let (true, Some(value)) = (name != "?", &value) {
            assert!(size >= name.len() + 32 && (value.contains('\u{fffd}') || size == name.len() + value.len() + 32));
        }
        said.push((name, value));
    })?;
    Ok(said)
}

fn said(fields: &[(&str, &str)]) -> Vec<Said> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A string as a literal has it, in Huffman's code or not.
fn string(text: &[u8], compressed: bool) -> Vec<u8> {
    let code = if compressed { huffman::encode(text) } else { text.to_vec() };
    let mut out = Vec::new();
    integer::write(&mut out, if compressed { 0x80 } else { 0 }, 7, code.len());
    out.extend(code);
    out
}

/// A literal field with its name: a first byte of 0x40 puts it into the table.
fn literal(first: u8, name: &[u8], value: &[u8], compressed: bool) -> Vec<u8> {
    [&[first][..], &string(name, compressed), &string(value, compressed)].concat()
}

fn encoded(encoder: &mut Encoder, fields: &[(HeaderName, HeaderValue)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.status(&mut out, StatusCode::OK);
    for (name, value) in fields {
        encoder.field(&mut out, name, value);
    }
    out
}
