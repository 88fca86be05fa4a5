//! What a peer says.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use super::table::{Field, Table};
use super::{Malformed, Name, OVERHEAD, huffman, integer};

/// Bytes of room for strings, to begin with. The paths of some tens of requests, which share it.
const ROOM: usize = 1024;

/// So much of it at most is kept for the next block.
const MOST_ROOM: usize = 4 * ROOM;

/// So many times may a block change the size of the table: to the smallest that was agreed upon since the last one, and to the
/// one that holds now (RFC 7541 §4.2).
const MOST_UPDATES: usize = 2;

/// The static index of `:path`.
const PATH: usize = 4;

/// A path of more bytes than this is not looked at whether it is that of the last request.
const MOST_PATH: usize = 128;

/// The path of the last request. Most clients keep paths out of the table, so that one who asks for the same thing again says all of
/// it again.
#[derive(Debug, Default)]
struct Path {
    /// As it was said, with its length.
    said: Vec<u8>,
    /// What that means, once it was said twice.
    value: Option<(Option<HeaderValue>, usize)>,
}

/// Decodes the field blocks of one connection, in the order in which they came.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// Where strings are decoded that the table does not keep. Empty between two of them: whoever got one has its part.
    room: BytesMut,
    path: Path,
    /// What the table may have at most.
    most: usize,
}

impl Decoder {
    /// For a connection on which we announced a table of `most` bytes (`SETTINGS_HEADER_TABLE_SIZE`). Until the peer has heard of
    /// that and says so itself, the table may have [`DEFAULT_TABLE`](super::DEFAULT_TABLE) bytes, as RFC 9113 has it.
    pub fn new(most: usize) -> Self {
        Self { table: Table::new(), room: BytesMut::new(), path: Path::default(), most }
    }

    /// Decodes a whole block, and calls `take` with each field in its order: its name, its value, and its size as RFC 7541 §4.1
    /// counts, which is that of its bytes on the wire before any compression. The value is `None` if no field may have it (RFC
    /// 9113 §8.2.1); neither that nor a malformed name is an error here, as the block can still be understood.
    ///
    /// A field that stands in a table costs no memory, however often it is named.
    ///
    /// # Errors
    ///
    /// The block is no HPACK. What follows on this connection cannot be decoded either.
    #[inline]
    pub fn decode(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(Name, Option<HeaderValue>, usize),
    ) -> Result<(), Malformed> {
        let mut input = block;
        if input.first().is_some_and(|first| first & 0xe0 == 0x20) {
            self.update(&mut input)?;
        }
        while let Some((&first, rest)) = input.split_first() {
            input = rest;
            if first & 0x80 != 0 {
                let index = integer::read(first, 7, &mut input)?;
                let field = self.table.field(index)?;
                take(field.name.clone(), field.value.clone(), field.size as usize);
            } else {
                self.literal(first, &mut input, &mut take)?;
            }
        }
        if self.room.capacity() > MOST_ROOM {
            self.room = BytesMut::new();
        }
        Ok(())
    }

    /// Takes what a block begins with if the peer changed the size of its table (RFC 7541 §6.3).
    #[cold]
    fn update(&mut self, input: &mut &[u8]) -> Result<(), Malformed> {
        let mut count = 0;
        while let Some((&first, rest)) = input.split_first()
            && first & 0xe0 == 0x20
        {
            *input = rest;
            let limit = integer::read(first, 5, input)?;
            count += 1;
            if count > MOST_UPDATES {
                return Err(Malformed("the table's size changes more than twice"));
            }
            if limit > self.most {
                return Err(Malformed("the table would be larger than it may be"));
            }
            self.table.resize(limit);
        }
        Ok(())
    }

    /// A field that is said in full, or all but its name (RFC 7541 §6.2).
    #[inline]
    fn literal(
        &mut self,
        first: u8,
        input: &mut &[u8],
        take: &mut impl FnMut(Name, Option<HeaderValue>, usize),
    ) -> Result<(), Malformed> {
        let kept = first & 0x40 != 0;
        if !kept && first & 0x20 != 0 {
            return Err(Malformed("the table's size changes behind a field"));
        }
        let index = integer::read(first, if kept { 6 } else { 4 }, input)?;
        let (name, name_length) = if index == 0 {
            self.name(input)?
        } else {
            let field = self.table.field(index)?;
            (field.name.clone(), field.name_length)
        };
        let (mut value, value_length) =
            if index == PATH && first & 0xf0 == 0 { self.path(input)? } else { self.value(kept, input)? };
        let size = name_length as usize + value_length + OVERHEAD;
        if kept {
            self.table.insert(Field { name: name.clone(), value: value.clone(), name_length, size: size as u32 });
        } else if first & 0x10 != 0
            && let Some(value) = &mut value
        {
            // Whoever says this again must not let it be indexed either (RFC 7541 §6.2.3).
            value.set_sensitive(true);
        }
        take(name, value, size);
        Ok(())
    }

    fn name(&mut self, input: &mut &[u8]) -> Result<(Name, u32), Malformed> {
        let string = string(input)?;
        if !string.huffman {
            return Ok((Name::of(string.bytes), string.bytes.len() as u32));
        }
        let length = self.decompress(string.bytes, input.len())?;
        let name = Name::of(&self.room[..length]);
        self.room.clear();
        Ok((name, length as u32))
    }

    /// The value of a path that the table does not keep, and its length.
    fn path(&mut self, input: &mut &[u8]) -> Result<(Option<HeaderValue>, usize), Malformed> {
        let text = *input;
        let path = &self.path;
        let again = !path.said.is_empty() && text.starts_with(&path.said);
        if again && let Some(found) = &path.value {
            *input = &text[path.said.len()..];
            return Ok(found.clone());
        }
        // What is kept for the next requests has memory of its own.
        let found = self.value(again, input)?;
        let path = &mut self.path;
        if again {
            path.value = Some(found.clone());
        } else {
            path.value = None;
            path.said.clear();
            let said = &text[..text.len() - input.len()];
            if said.len() <= MOST_PATH {
                path.said.extend_from_slice(said);
            }
        }
        Ok(found)
    }

    /// A value and its length. `kept`: the table keeps it, and so it has memory of its own, or it would keep a whole block's.
    fn value(&mut self, kept: bool, input: &mut &[u8]) -> Result<(Option<HeaderValue>, usize), Malformed> {
        let string = string(input)?;
        let length = if string.huffman {
            self.decompress(string.bytes, input.len())?
        } else if kept {
            return Ok((value(Bytes::copy_from_slice(string.bytes)), string.bytes.len()));
        } else {
            self.make_room(string.bytes.len(), input.len());
            self.room.extend_from_slice(string.bytes);
            string.bytes.len()
        };
        let bytes = if length == 0 {
            self.room.clear();
            Bytes::new()
        } else if kept {
            let bytes = Bytes::copy_from_slice(&self.room[..length]);
            self.room.clear();
            bytes
        } else {
            self.room.truncate(length);
            self.room.split().freeze()
        };
        Ok((value(bytes), length))
    }

    /// Decodes a string to the beginning of the room.
    fn decompress(&mut self, code: &[u8], behind: usize) -> Result<usize, Malformed> {
        let most = huffman::most(code.len());
        self.make_room(most, behind);
        self.room.resize(most, 0);
        huffman::decode(code, &mut self.room)
    }

    /// Makes room for `count` bytes, and for all that the `behind` ones that follow may become: it costs an allocation once in
    /// many blocks, and not twice in one.
    #[inline]
    fn make_room(&mut self, count: usize, behind: usize) {
        if self.room.capacity() < count {
            self.room.reserve((count + huffman::most(behind)).max(ROOM));
        }
    }
}

/// A string as it is said.
struct String<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

/// RFC 7541 §5.2.
#[inline]
fn string<'a>(input: &mut &'a [u8]) -> Result<String<'a>, Malformed> {
    const CUT: Malformed = Malformed("it ends within a string");
    let (&first, rest) = input.split_first().ok_or(CUT)?;
    *input = rest;
    let length = integer::read(first, 7, input)?;
    let (bytes, rest) = input.split_at_checked(length).ok_or(CUT)?;
    *input = rest;
    Ok(String { huffman: first & 0x80 != 0, bytes })
}

/// Bytes that a field may have (RFC 9113 §8.2.1).
#[inline]
fn value(bytes: Bytes) -> Option<HeaderValue> {
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return Some(HeaderValue::from_static("")) };
    if matches!(first, b' ' | b'\t') || matches!(last, b' ' | b'\t') {
        return None;
    }
    HeaderValue::from_maybe_shared(bytes).ok()
}
