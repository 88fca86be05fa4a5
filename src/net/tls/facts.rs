//! Who a client is by its certificate, in words for nodes.

use std::fmt::Write as _;

use http::HeaderValue;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// What nodes are told about a client.
#[derive(Clone, Debug)]
pub struct ClientFacts {
    /// The subject of its certificate, which was verified (RFC 4514); none if it showed no certificate.
    pub subject: Option<HeaderValue>,
}

impl ClientFacts {
    /// `chain` is what the handshake verified.
    pub(super) fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let parsed = chain.and_then(|chain| X509Certificate::from_der(chain.first()?).ok());
        let subject = parsed.map(|(_, certificate)| written(certificate.subject()));
        Self { subject: subject.map(|text| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))) }
    }
}

/// A name as RFC 4514 writes it: the last part first. Whatever could be taken for a part of its own is escaped, and so is all that is not
/// printable ASCII.
fn written(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        for (inner, attribute) in part.iter().enumerate() {
            if index + inner > 0 {
                out.push(if inner > 0 { '+' } else { ',' });
            }
            let oid = attribute.attr_type().to_id_string();
            // Writing into a `String` cannot fail.
            let _ = write!(
                out,
                "{}=",
                SHORT.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, word)| word)
            );
            if let Ok(text) = attribute.as_str() {
                escape(text, &mut out);
            } else {
                out.push('#');
                for byte in attribute.as_slice() {
                    let _ = write!(out, "{byte:02X}");
                }
            }
        }
    }
    out
}

/// The short names that RFC 4514 §3 lists, and the one for e-mail that everybody uses.
const SHORT: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let edge = (byte == b' ' && (at == 0 || at == last)) || (byte == b'#' && at == 0);
        if edge || b",+\"\\<>;=".contains(&byte) {
            out.push('\\');
            out.push(byte as char);
        } else if byte.is_ascii_graphic() || byte == b' ' {
            out.push(byte as char);
        } else {
            let _ = write!(out, "\\{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_be_taken_for_another_one() {
        let cases = [
            ("anna", "anna"),
            ("anna,OU=admin", "anna\\,OU\\=admin"),
            (" a ", "\\ a\\ "),
            ("#a+b\\", "\\#a\\+b\\\\"),
            ("Zoë\r\n", "Zo\\C3\\AB\\0D\\0A"),
        ];
        for (text, expected) in cases {
            let mut out = String::new();
            escape(text, &mut out);
            assert_eq!(out, expected);
        }
    }
}
