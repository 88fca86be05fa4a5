//! The code of RFC 7541 Appendix B.
//!
//! It is canonical: codes of one length follow each other in the order of their symbols, and so the lengths say it all.

use super::Malformed;

/// Bits of the code of each byte, and of the end of a string, which never stands in one.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const END: usize = 256;
const LONGEST: usize = 30;

/// Codes up to this length are looked up. All that is frequent in a head is among them, and the next longer ones have two more.
const QUICK: usize = 8;

/// What a lookup of the next [`QUICK`] bits finds.
#[derive(Clone, Copy)]
struct Found {
    symbol: u8,
    /// Bits of its code; none if it is longer than what was looked up.
    length: u8,
}

/// All symbols, in the order of their codes.
struct Code {
    symbols: [u16; 257],
    /// Of each length: where its codes end, as the upper bits of 32.
    ends: [u64; LONGEST + 1],
    /// Of each length: what added to a code gives its place among the symbols.
    places: [u32; LONGEST + 1],
    quick: [Found; 1 << QUICK],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        symbols: [0; 257],
        ends: [0; LONGEST + 1],
        places: [0; LONGEST + 1],
        quick: [Found { symbol: 0, length: 0 }; 1 << QUICK],
    };
    let (mut next, mut place, mut length) = (0_u64, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.places[length] = (place as u32).wrapping_sub(next as u32);
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol] as usize == length {
                code.symbols[place] = symbol as u16;
                if length <= QUICK {
                    let spare = QUICK - length;
                    let mut at = 0;
                    while at < 1 << spare {
                        code.quick[((next as usize) << spare) + at] =
                            Found { symbol: symbol as u8, length: length as u8 };
                        at += 1;
                    }
                }
                place += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.ends[length] = next << (32 - length);
        length += 1;
    }
    // Every sequence of bits is a code, or the beginning of one.
    assert!(place == END + 1 && next == 1 << LONGEST);
    code
}

/// So many codes are decoded of what is loaded at once, which has 57 bits at least.
const AT_ONCE: usize = 7;

/// The most bytes that so many are the code of, and what [`decode`] needs to have room for.
pub(super) const fn most(length: usize) -> usize {
    // The shortest codes have five bits. The last ones may be more than there are, before that is known.
    length * 8 / 5 + 8
}

/// Decodes a string into `out`, which has room for [`most`]. Returns how many bytes it has.
pub(super) fn decode(input: &[u8], out: &mut [u8]) -> Result<usize, Malformed> {
    let total = 8 * input.len();
    // Bits that are decoded, and bytes that they were.
    let (mut done, mut length) = (0, 0);
    while done < total {
        let mut bits = load(input, done / 8) << (done % 8);
        let Some(room) = out.get_mut(length..).and_then(|out| out.first_chunk_mut::<8>()) else {
            return Err(Malformed("a string is longer than it can be"));
        };
        for (count, room) in room[..AT_ONCE].iter_mut().enumerate() {
            let found = CODE.quick[(bits >> (64 - QUICK)) as usize];
            if found.length == 0 {
                if count == 0 {
                    // The end, or one code that may have all the bits that were loaded.
                    if is_padding(bits, total - done) {
                        return Ok(length);
                    }
                    let (symbol, more) = long(bits)?;
                    *room = symbol;
                    length += 1;
                    done += more;
                }
                break;
            }
            *room = found.symbol;
            length += 1;
            done += usize::from(found.length);
            bits <<= found.length;
        }
    }
    // What is behind the end was taken for ones.
    if done > total { Err(Malformed("a string ends within a code")) } else { Ok(length) }
}

/// The 64 bits from this byte on; ones behind the end.
#[inline]
fn load(input: &[u8], at: usize) -> u64 {
    let next = &input[at..];
    if let Some(next) = next.first_chunk() {
        u64::from_be_bytes(*next)
    } else if let Some(last) = input.last_chunk() {
        let missing = 64 - 8 * next.len();
        (u64::from_be_bytes(*last) << missing) | ((1 << missing) - 1)
    } else {
        next.iter().rev().fold(u64::MAX, |bits, byte| bits >> 8 | u64::from(*byte) << 56)
    }
}

/// Whether so many bits that are left are the beginning of the end's code, which is ones, and no whole byte of it (RFC 7541 §5.2).
fn is_padding(bits: u64, left: usize) -> bool {
    left < 8 && bits.leading_ones() as usize >= left
}

/// The symbol whose code is more than [`QUICK`] bits, and its length.
fn long(bits: u64) -> Result<(u8, usize), Malformed> {
    let next = bits >> 32;
    for length in QUICK + 1..=LONGEST {
        if next < CODE.ends[length] {
            let place = ((next >> (32 - length)) as u32).wrapping_add(CODE.places[length]);
            let symbol = CODE.symbols[place as usize];
            return u8::try_from(symbol)
                .map(|symbol| (symbol, length))
                .map_err(|_| Malformed("a string has an end within"));
        }
    }
    Err(Malformed("a string has an end within"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// The code of each symbol, and its length.
    static CODES: LazyLock<Vec<(u32, u32)>> = LazyLock::new(|| {
        let mut codes = vec![(0, 0); 257];
        let mut order: Vec<usize> = (0..257).collect();
        order.sort_by_key(|symbol| LENGTHS[*symbol]);
        let (mut code, mut length) = (0, 0);
        for symbol in order {
            code <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            codes[symbol] = (code, u32::from(length));
            code += 1;
        }
        codes
    });

    /// These symbols, without padding: a byte for each bit.
    fn bits(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let bits = |symbol: usize| {
            let (code, length) = CODES[symbol];
            (0..length).rev().map(move |at| (code >> at & 1) as u8)
        };
        symbols.into_iter().flat_map(bits).collect()
    }

    fn bytes(bits: &[u8]) -> Vec<u8> {
        bits.chunks(8).map(|byte| (0..8).fold(0, |all, at| 2 * all + byte.get(at).copied().unwrap_or(1))).collect()
    }

    pub(in super::super) fn encode(text: &[u8]) -> Vec<u8> {
        bytes(&bits(text.iter().map(|byte| usize::from(*byte))))
    }

    pub(in super::super) fn decoded(input: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = vec![0; most(input.len())];
        let length = decode(input, &mut out)?;
        out.truncate(length);
        Ok(out)
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (10, 0x3fff_fffc, 30),
            (usize::from(b' '), 0x14, 6),
            (usize::from(b'0'), 0, 5),
            (usize::from(b'?'), 0x3fc, 10),
            (usize::from(b'\\'), 0x7fff0, 19),
            (usize::from(b'z'), 0x7b, 7),
            (127, 0x0fff_fffc, 28),
            (128, 0xfffe6, 20),
            (199, 0x1ff_ffec, 25),
            (255, 0x3ff_ffee, 26),
            (END, 0x3fff_ffff, 30),
        ] {
            assert_eq!(CODES[symbol], (code, length), "{symbol}");
        }
    }

    #[test]
    fn every_byte_is_decoded_wherever_it_stands() {
        for byte in 0..=255 {
            for before in 0..20 {
                for behind in [0, 1, 7, 8, 30] {
                    let text: Vec<u8> = std::iter::repeat_n(b'a', before)
                        .chain([byte])
                        .chain(std::iter::repeat_n(b'?', behind))
                        .collect();
                    assert_eq!(decoded(&encode(&text)).as_deref(), Ok(&text[..]), "{byte} behind {before}");
                }
            }
        }
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encode(&all)), Ok(all));
    }

    #[test]
    fn the_shortest_codes_fit_into_their_room() {
        for length in 0..200 {
            let text = vec![b'0'; length];
            assert_eq!(decoded(&encode(&text)), Ok(text));
        }
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(b""), Ok(Vec::new()));
        for count in 0..24 {
            let text = vec![b'a'; count];
            let code = bits(text.iter().map(|byte| usize::from(*byte)));
            let padding = (8 - code.len() % 8) % 8;
            let padded = [&code[..], &vec![1; padding]].concat();
            assert_eq!(decoded(&bytes(&padded)), Ok(text));
            for more in [8, 16, 64] {
                let padded = [&padded[..], &vec![1; more]].concat();
                assert!(decoded(&bytes(&padded)).is_err(), "{more} more behind {count}");
            }
            // Fewer than five bits are no code, and so these are padding with a zero in it.
            for zero in (0..padding).filter(|_| padding < 5) {
                let mut padded = padded.clone();
                padded[code.len() + zero] = 0;
                assert!(decoded(&bytes(&padded)).is_err(), "{padded:?}");
            }
        }
    }

    #[test]
    fn an_end_within_a_string_is_an_error() {
        for count in 0..24 {
            let a = usize::from(b'a');
            let symbols = std::iter::repeat_n(a, count).chain([END]);
            assert!(decoded(&bytes(&bits(symbols.clone()))).is_err());
            assert!(decoded(&bytes(&bits(symbols.chain([a; 8])))).is_err());
        }
    }
}
