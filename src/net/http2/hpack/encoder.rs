//! What we say.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use http::{HeaderName, HeaderValue, StatusCode};

use super::{DEFAULT_TABLE, OVERHEAD, integer, statics};

/// Fields are looked for in one of so many sets, each of which knows so many.
const SETS: usize = 16;
const WAYS: usize = 4;

/// Static indices of what an attacker would guess byte by byte if it stood in a table, from how long a block becomes (RFC 7541
/// §7.1): `authorization`, `proxy-authorization` and `set-cookie`. The last is also never the same twice.
const SECRETS: u64 = 1 << 23 | 1 << 49 | 1 << 55;

/// `:status` with a value of its own.
const STATUS: u8 = 8;

/// A field in the table. Copies: a clone of a value would keep what a node's connection read with it.
#[derive(Debug)]
struct Entry {
    name: HeaderName,
    value: Box<[u8]>,
    /// The number of the field that was said behind this one.
    next: u32,
}

impl Entry {
    #[inline]
    fn is(&self, name: &HeaderName, value: &[u8]) -> bool {
        self.name == *name && is_same(&self.value, value)
    }

    fn size(&self) -> usize {
        self.name.as_str().len() + self.value.len() + OVERHEAD
    }
}

/// What is known of the fields that have their place here.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    /// Of the fields that were put into the table.
    hashes: [u32; WAYS],
    /// Their numbers. Whether one is still there, and is what is looked for, tells only the table.
    numbers: [u32; WAYS],
    /// Whether they were looked for here since another one wanted a place.
    hits: [bool; WAYS],
    /// The last fields that were said once and are not in the table: 16 bits of the hash of each. They get there when they are said
    /// again.
    once: u64,
}

/// Encodes the field blocks of one connection, in the order in which they are sent.
///
/// A field that is said a second time is put into the dynamic table. One that never comes again, as an `etag` or an id, would only
/// drive out what does.
#[derive(Debug)]
pub struct Encoder {
    /// The newest is the first.
    entries: VecDeque<Entry>,
    /// Of the newest.
    number: u32,
    /// Of the field in the table that was said last in this block, if there is one.
    last: Option<u32>,
    /// Of the one that most likely comes next: most heads have the same fields in the same order.
    next: u32,
    /// Of the one that a head began with.
    first: u32,
    size: usize,
    limit: usize,
    /// The sizes that the peer has to hear of with the next block: the smallest since the last one, and the one that holds.
    untold: Option<(usize, usize)>,
    sets: Box<[Set; SETS]>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// With a table of [`DEFAULT_TABLE`] bytes, which is all that it ever has.
    pub fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            number: 0,
            last: None,
            next: 0,
            first: 0,
            size: 0,
            limit: DEFAULT_TABLE,
            untold: None,
            sets: Box::new([Set::default(); SETS]),
        }
    }

    /// The peer lets the table have `size` bytes (`SETTINGS_HEADER_TABLE_SIZE`). It is told with the next block what becomes of
    /// that (RFC 7541 §4.2).
    pub fn resize(&mut self, size: u32) {
        let size = DEFAULT_TABLE.min(size as usize);
        self.untold = match self.untold {
            Some((smallest, _)) => Some((smallest.min(size), size)),
            None if size == self.limit => None,
            None => Some((size, size)),
        };
    }

    /// So many fields were ever put into the table.
    #[cfg(test)]
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Says the status that a response begins with.
    #[inline]
    pub fn status(&mut self, out: &mut Vec<u8>, status: StatusCode) {
        self.begin(out);
        self.last = None;
        self.next = self.first;
        let index = match status.as_u16() {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                out.extend_from_slice(&[STATUS, 3]);
                return out.extend_from_slice(status.as_str().as_bytes());
            }
        };
        out.push(0x80 | index);
    }

    /// Says a field. A sensitive value never gets into a table, here or behind the next proxy (RFC 7541 §7.1.3).
    #[inline]
    pub fn field(&mut self, out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
        self.begin(out);
        if !value.is_sensitive()
            && let at = self.number.wrapping_sub(self.next) as usize
            && let Some(entry) = self.entries.get(at)
            && entry.is(name, value.as_bytes())
        {
            self.last = Some(self.next);
            self.next = entry.next;
            return integer::write(out, 0x80, 7, statics::COUNT + 1 + at);
        }
        self.search(out, name, value);
    }

    /// Says a field that was not the next one.
    fn search(&mut self, out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
        let text = value.as_bytes();
        let hash = hash(name, text);
        if !value.is_sensitive()
            && let Some(at) = self.find(hash, name, text)
        {
            self.follow(at);
            return integer::write(out, 0x80, 7, statics::COUNT + 1 + at);
        }
        self.literal(out, name, value, hash);
    }

    /// Notes that this field of the table came behind the last one.
    fn follow(&mut self, at: usize) {
        let number = self.number.wrapping_sub(at as u32);
        match self.last {
            None => self.first = number,
            Some(last) => {
                let before = self.number.wrapping_sub(last) as usize;
                if let Some(before) = self.entries.get_mut(before) {
                    before.next = number;
                }
            }
        }
        self.last = Some(number);
        self.next = self.entries[at].next;
    }

    /// Tells of the table's size, if that has changed.
    #[inline]
    fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(sizes) = self.untold {
            self.tell(out, sizes);
        }
    }

    #[cold]
    fn tell(&mut self, out: &mut Vec<u8>, (smallest, last): (usize, usize)) {
        self.untold = None;
        self.evict(smallest);
        self.limit = last;
        integer::write(out, 0x20, 5, smallest);
        if last != smallest {
            integer::write(out, 0x20, 5, last);
        }
    }

    /// Where this field is in the table.
    fn find(&mut self, hash: u32, name: &HeaderName, value: &[u8]) -> Option<usize> {
        let set = &mut self.sets[place(hash)];
        let way = set.hashes.iter().position(|known| *known == hash)?;
        let at = self.number.wrapping_sub(set.numbers[way]) as usize;
        if !self.entries.get(at)?.is(name, value) {
            return None;
        }
        set.hits[way] = true;
        Some(at)
    }

    /// A field that is in no table.
    fn literal(&mut self, out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue, hash: u32) {
        let (name_text, text) = (name.as_str().as_bytes(), value.as_bytes());
        let index = usize::from(statics::index(name));
        // With the lengths, each of at most five bytes, and the index.
        out.reserve(name_text.len() + text.len() + 12);
        if value.is_sensitive() || SECRETS >> index & 1 != 0 {
            integer::write(out, 0x10, 4, index);
        } else if self.keep(name, text, hash) {
            integer::write(out, 0x40, 6, index);
        } else {
            integer::write(out, 0, 4, index);
        }
        if index == 0 {
            string(out, name_text);
        }
        string(out, text);
    }

    /// Whether this field gets into the table, and puts it there.
    fn keep(&mut self, name: &HeaderName, value: &[u8], hash: u32) -> bool {
        let set = &mut self.sets[place(hash)];
        // One that was evicted is known too.
        if !set.was_said(hash) && !set.hashes.contains(&hash) {
            set.once = set.once << 16 | u64::from(hash as u16);
            return false;
        }
        let size = name.as_str().len() + value.len() + OVERHEAD;
        // One that would drive out most others is not worth it.
        if size > self.limit / 2 {
            return false;
        }
        let (number, count) = (self.number, self.entries.len());
        let is_gone = |way: &usize| number.wrapping_sub(set.numbers[*way]) as usize >= count;
        let known = set.hashes.iter().position(|known| *known == hash);
        let way = known.or_else(|| (0..WAYS).find(is_gone)).or_else(|| (0..WAYS).find(|way| !set.hits[*way]));
        let Some(way) = way else {
            // All of them are said all the time, and would put each other out for ever.
            set.hits = [false; WAYS];
            return false;
        };
        self.number = number.wrapping_add(1);
        set.hashes[way] = hash;
        set.numbers[way] = self.number;
        set.hits[way] = true;
        self.evict(self.limit - size);
        self.size += size;
        self.entries.push_front(Entry { name: name.clone(), value: value.into(), next: 0 });
        self.follow(0);
        true
    }

    /// Evicts until no more than this is left.
    fn evict(&mut self, left: usize) {
        while self.size > left
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size();
        }
    }
}

impl Set {
    fn was_said(&self, hash: u32) -> bool {
        (0..4).any(|at| (self.once >> (16 * at)) as u16 == hash as u16)
    }
}

#[inline]
fn place(hash: u32) -> usize {
    (hash >> (u32::BITS - SETS.trailing_zeros())) as usize
}

/// That two fields have the same costs bytes on the wire, and no more.
#[inline]
fn hash(name: &HeaderName, value: &[u8]) -> u32 {
    let mut mark = Mark(0);
    name.hash(&mut mark);
    let length = value.len() as u64;
    let ends = if let (Some(first), Some(last)) = (value.first_chunk::<8>(), value.last_chunk()) {
        u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
    } else if let (Some(first), Some(last)) = (value.first_chunk::<4>(), value.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else {
        value.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
    };
    // The upper bits of a product depend on all of its factors' bits.
    ((ends ^ mark.0 << 32 ^ length).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// What tells most names apart: for the well-known ones of `http` that is a number, and no text.
struct Mark(u64);

impl Hasher for Mark {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0 << 8 ^ u64::from(statics::mark(bytes));
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.write_usize(number.cast_unsigned());
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.0 = self.0 << 8 ^ number as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Whether these are the same, as `==` says, but without a call for those that most are: two pieces that overlap are looked at.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    #[inline]
    fn are<const N: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
    }
    one.len() == other.len()
        && match one.len() {
            0..4 => one.iter().zip(other).all(|(one, other)| one == other),
            4..8 => are::<4>(one, other),
            8..16 => are::<8>(one, other),
            16..=32 => are::<16>(one, other),
            _ => one == other,
        }
}

/// A string without Huffman's code: it is a copy, and what comes often is an index the next time.
#[inline]
fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer::write(out, 0, 7, text.len());
    out.extend_from_slice(text);
}
