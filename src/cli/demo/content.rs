//! The bytes that origins and load exchange, and how both check them.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::header::HeaderName;
use xxhash_rust::xxh3::Xxh3;

/// Which version answered; on every response of an origin.
pub(super) const VERSION: HeaderName = HeaderName::from_static("x-version");
/// The id of an order: what the ledger counts.
pub(super) const ORDER: HeaderName = HeaderName::from_static("x-order");
/// [`checksum`] of the body, on requests and responses; sent before the body, so that a cut is seen.
pub(super) const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum");

/// Size of the block that bodies are cut from.
const BLOCK: usize = 64 * 1024;

/// `length` bytes from a fixed block, beginning at `from`; without a copy. At most 32 KiB.
pub(super) fn piece(from: usize, length: usize) -> Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    let block = BYTES.get_or_init(|| {
        let mut random = fastrand::Rng::with_seed(7);
        // Letters only, so that a body is readable in a capture.
        (0..BLOCK).map(|_| random.alphanumeric() as u8).collect()
    });
    let length = length.min(BLOCK / 2);
    let start = from % (BLOCK - length);
    block.slice(start..start + length)
}

/// A body of `length` bytes in pieces of at most `size`, determined by `from`.
pub(super) fn pieces(from: usize, length: usize, size: usize) -> impl Iterator<Item = Bytes> {
    let size = size.clamp(1, BLOCK / 2);
    (0..length.div_ceil(size)).map(move |index| piece(from + index * 977, size.min(length - index * size)))
}

/// The checksum of whole bodies as it stands in the header: XXH3, 64 bits, in hexadecimal.
pub(super) fn checksum<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Xxh3::new();
    for piece in pieces {
        hash.update(piece);
    }
    format(&hash)
}

/// The same of a hash that was fed piece by piece.
pub(super) fn format(hash: &Xxh3) -> String {
    format!("{:016x}", hash.digest())
}

/// The checksum of [`pieces`].
pub(super) fn checksum_of(from: usize, length: usize, size: usize) -> String {
    let mut hash = Xxh3::new();
    for piece in pieces(from, length, size) {
        hash.update(&piece);
    }
    format(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_length_that_was_asked_for_and_one_checksum() {
        let whole: Vec<u8> = pieces(5, 100_001, 16_384).flatten().collect();
        assert_eq!(whole.len(), 100_001);
        assert_eq!(checksum([&whole[..]]), checksum_of(5, 100_001, 16_384));
        assert_ne!(
            checksum([&whole[..]]),
            checksum_of(6, 100_001, 16_384),
            "another place in the block gives another body"
        );
        assert_ne!(checksum([&whole[1..]]), checksum([&whole[..]]));
    }
}
