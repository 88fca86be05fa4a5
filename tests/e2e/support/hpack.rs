//! HPACK for tests (RFC 7541): a decoder that lets an encoder get away with nothing, and an encoder that uses all there is. It
//! shares no line with what it judges.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

/// A list of fields, in order.
pub type Fields = Vec<(String, String)>;

/// What an entry costs beyond its text (§4.1).
const OVERHEAD: usize = 32;
/// The size of a table that nobody has spoken of.
pub const USUAL: usize = 4096;

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// How many bits each byte has in Appendix B, and the end of a string, which is no byte. The codes follow from that: they are
/// given out in order of length, and among equals in order of bytes.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

/// The code of each symbol.
static CODES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut codes = vec![0; LENGTHS.len()];
    for pair in order.windows(2) {
        codes[pair[1]] = (codes[pair[0]] + 1) << (LENGTHS[pair[1]] - LENGTHS[pair[0]]);
    }
    codes
});

/// The symbol for a length and a code.
static SYMBOLS: LazyLock<HashMap<(u8, u32), usize>> =
    LazyLock::new(|| (0..LENGTHS.len()).map(|symbol| ((LENGTHS[symbol], CODES[symbol]), symbol)).collect());

/// A text as a Huffman string, without its length (§5.2).
pub fn squeeze(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for byte in text {
        let length = LENGTHS[usize::from(*byte)];
        bits.extend((0..length).rev().map(|bit| CODES[usize::from(*byte)] >> bit & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit))).collect()
}

fn expand(text: &[u8]) -> Result<Vec<u8>, String> {
    let (mut out, mut code, mut length) = (Vec::new(), 0, 0_u8);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(symbol) = SYMBOLS.get(&(length, code)) {
            out.push(u8::try_from(*symbol).map_err(|_| "the end of a string within one")?);
            (code, length) = (0, 0);
        }
    }
    // Less than a byte, all ones.
    if length < 8 && code == (1 << length) - 1 { Ok(out) } else { Err("bad padding of a Huffman string".into()) }
}

/// An integer behind the first bits of a byte (§5.1).
pub fn integer(first: u8, bits: u8, mut value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut out = vec![first | most as u8];
    value -= most;
    while value >= 128 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A string as it is.
pub fn plain(text: &str) -> Vec<u8> {
    [integer(0, 7, text.len()), text.into()].concat()
}

/// A field that is in no table and shall be in none, of any length.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    [vec![0], plain(name), plain(value)].concat()
}

/// A change of the table's size.
pub fn resize(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

#[derive(Debug, Default)]
struct Table {
    /// The newest in front.
    entries: VecDeque<(String, String)>,
    size: usize,
    max: usize,
}

impl Table {
    fn evict(&mut self, max: usize) {
        while self.size > max {
            let (name, value) = self.entries.pop_back().expect("an entry for its size");
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }

    fn add(&mut self, name: String, value: String) {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(self.max.saturating_sub(size));
        if size <= self.max {
            self.size += size;
            self.entries.push_front((name, value));
        }
    }

    fn get(&self, index: usize) -> Option<(String, String)> {
        let index = index.checked_sub(1)?;
        let fixed = STATIC.get(index).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        fixed.or_else(|| self.entries.get(index - STATIC.len()).cloned())
    }

    fn find(&self, is: impl Fn(&str, &str) -> bool) -> Option<usize> {
        let own = self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        STATIC.into_iter().chain(own).position(|(name, value)| is(name, value)).map(|index| index + 1)
    }
}

/// Writes heads with a table of its own: what it knows goes by number, all else is added.
#[derive(Debug)]
pub struct Encoder(Table);

impl Encoder {
    pub fn new(max: usize) -> Self {
        Self(Table { max, ..Table::default() })
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Changes the size of the table.
    pub fn resize(&mut self, max: usize) -> Vec<u8> {
        self.0.max = max;
        self.0.evict(max);
        resize(max)
    }

    /// A field, its texts by turns plain and as Huffman strings.
    pub fn field(&mut self, name: &str, value: &str) -> Vec<u8> {
        if let Some(index) = self.0.find(|n, v| (n, v) == (name, value)) {
            return integer(0x80, 7, index);
        }
        let text = |text: &str| {
            let short = squeeze(text.as_bytes());
            if text.len().is_multiple_of(2) { plain(text) } else { [integer(0x80, 7, short.len()), short].concat() }
        };
        let mut out = match self.0.find(|n, _| n == name) {
            Some(index) => integer(0x40, 6, index),
            None => [vec![0x40], text(name)].concat(),
        };
        out.extend(text(value));
        self.0.add(name.to_owned(), value.to_owned());
        out
    }
}

/// Reads heads, strictly.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What the other side was told last, and has acknowledged.
    limit: usize,
    /// The lowest limit since the last block, if the table was larger: the next block must begin by making it that small.
    owed: Option<usize>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table { max: USUAL, ..Table::default() }, limit: USUAL, owed: None }
    }
}

impl Decoder {
    /// The other side has acknowledged SETTINGS_HEADER_TABLE_SIZE.
    pub fn limit(&mut self, limit: usize) {
        self.limit = limit;
        if limit < self.table.max {
            self.owed = Some(self.owed.map_or(limit, |owed| owed.min(limit)));
        }
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.table.entries.len()
    }

    /// Reads a block whole.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Fields, String> {
        let mut fields = Vec::new();
        while let Some(first) = block.first() {
            if first & 0xE0 == 0x20 {
                let size = number(&mut block, 5)?;
                if !fields.is_empty() || size > self.limit {
                    return Err(format!("a table of {size} behind {} fields, {} allowed", fields.len(), self.limit));
                }
                self.owed = self.owed.filter(|owed| size > *owed);
                self.table.max = size;
                self.table.evict(size);
                continue;
            }
            if let Some(owed) = self.owed {
                return Err(format!("the table was not made {owed} small"));
            }
            let known = |index| self.table.get(index).ok_or(format!("nothing at {index}"));
            if first & 0x80 != 0 {
                let index = number(&mut block, 7)?;
                fields.push(known(index)?);
                continue;
            }
            let added = first & 0x40 != 0;
            let name = match number(&mut block, if added { 6 } else { 4 })? {
                0 => string(&mut block)?,
                index => known(index)?.0,
            };
            let value = string(&mut block)?;
            if added {
                self.table.add(name.clone(), value.clone());
            }
            fields.push((name, value));
        }
        Ok(fields)
    }
}

fn number(block: &mut &[u8], bits: u8) -> Result<usize, String> {
    let mut next = || {
        let (first, rest) = block.split_first().ok_or("a number is cut off")?;
        *block = rest;
        Ok::<_, String>(usize::from(*first))
    };
    let most = (1 << bits) - 1;
    let mut value = next()? & most;
    let mut shift = 0;
    while value >= most {
        let byte = next()?;
        value += (byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 28 {
            return Err("a number is too large".into());
        }
    }
    Ok(value)
}

fn string(block: &mut &[u8]) -> Result<String, String> {
    let squeezed = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or("a string is cut off")?;
    *block = rest;
    let text = if squeezed { expand(text)? } else { text.to_vec() };
    String::from_utf8(text).map_err(|error| error.to_string())
}

#[test]
fn the_examples_of_the_standard_are_read_and_written() {
    // Appendix C.4.
    assert_eq!(squeeze(b"www.example.com"), [0xF1, 0xE3, 0xC2, 0xE5, 0xF2, 0x3A, 0x6B, 0xA0, 0xAB, 0x90, 0xF4, 0xFF]);
    let mut decoder = Decoder::default();
    let first = [&[0x82, 0x86, 0x84, 0x41, 0x8C][..], &squeeze(b"www.example.com")].concat();
    assert_eq!(decoder.decode(&first).expect("a head").last().expect("a field").1, "www.example.com");
    let second = [&[0x82, 0x86, 0x84, 0xBE, 0x58, 0x86][..], &squeeze(b"no-cache")].concat();
    assert_eq!(
        decoder.decode(&second).expect("a head")[3..],
        [(":authority".to_owned(), "www.example.com".to_owned()), ("cache-control".to_owned(), "no-cache".to_owned())]
    );
    assert_eq!((decoder.len(), integer(0xE0, 5, 1337)), (2, vec![0xFF, 0x9A, 0x0A]));
}
