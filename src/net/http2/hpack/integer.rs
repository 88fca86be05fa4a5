//! Numbers (RFC 7541 §5.1).

use super::Malformed;

/// Bytes behind the first one: a number of more is none that anybody needs.
const MOST_BYTES: usize = 4;

/// Reads the number that begins in the lower `bits` of `first`, which was taken off `input` already.
#[inline]
pub(super) fn read(first: u8, bits: u32, input: &mut &[u8]) -> Result<usize, Malformed> {
    let most = (1_u8 << bits) - 1;
    let number = first & most;
    if number < most { Ok(usize::from(number)) } else { read_on(usize::from(most), input) }
}

/// The rest of a number that does not fit into its first byte.
fn read_on(mut number: usize, input: &mut &[u8]) -> Result<usize, Malformed> {
    for at in 0..MOST_BYTES {
        let Some((byte, rest)) = input.split_first() else { return Err(Malformed("it ends within a number")) };
        *input = rest;
        number += usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed("a number is too large"))
}

/// Writes a number into the lower `bits` of a byte whose upper ones are `upper`, and as many more as it needs.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, upper: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    if number < most {
        out.push(upper | number as u8);
    } else {
        out.push(upper | most as u8);
        write_on(out, number - most);
    }
}

fn write_on(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(upper: u8, bits: u32, number: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, upper, bits, number);
        out
    }

    fn heard(bits: u32, bytes: &[u8]) -> Result<(usize, usize), Malformed> {
        let mut input = &bytes[1..];
        read(bytes[0], bits, &mut input).map(|number| (number, input.len()))
    }

    #[test]
    fn the_examples_of_the_rfc_are_numbers() {
        // RFC 7541 C.1.1 to C.1.3.
        for (upper, bits, number, bytes) in
            [(0xe0, 5, 10, &[0xea][..]), (0xa0, 5, 1337, &[0xbf, 0x9a, 0x0a]), (0, 8 - 1, 42, &[0x2a])]
        {
            assert_eq!(said(upper, bits, number), bytes);
            assert_eq!(heard(bits, bytes), Ok((number, 0)));
        }
    }

    #[test]
    fn what_is_written_is_read_with_each_prefix() {
        for bits in 4..=7 {
            for number in (0..1_000).chain((10..28).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]))
            {
                let mut bytes = said(0, bits, number);
                bytes.push(0xff);
                assert_eq!(heard(bits, &bytes), Ok((number, 1)), "{number} in {bits} bits");
            }
        }
    }

    #[test]
    fn a_number_that_is_too_large_or_has_no_end_is_none() {
        assert_eq!(heard(5, &[0x1f, 0xff, 0xff, 0xff, 0x7f]), Ok((31 + (1 << 28) - 1, 0)));
        assert_eq!(
            heard(5, &[0x1f, 0x80, 0x80, 0x00]),
            Ok((31, 0)),
            "in more bytes than it needs, but not in too many"
        );
        assert!(heard(5, &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00]).is_err());
        assert!(heard(5, &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(heard(5, &[0x1f]).is_err());
        assert!(heard(5, &[0x1f, 0x80]).is_err());
    }
}
