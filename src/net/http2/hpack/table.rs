//! The dynamic table of the side that decodes (RFC 7541 §2.3.2).

use std::collections::VecDeque;

use http::HeaderValue;

use super::{DEFAULT_TABLE, Malformed, Name, statics};

/// A field that an index may stand for.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Name,
    /// `None`: nothing that a field may say. It is kept all the same, since it counts.
    pub(super) value: Option<HeaderValue>,
    /// Bytes of the name as it was said, which a malformed one does not tell any more.
    pub(super) name_length: u32,
    /// As RFC 7541 §4.1 counts.
    pub(super) size: u32,
}

#[derive(Debug)]
pub(super) struct Table {
    /// The newest is the first.
    fields: VecDeque<Field>,
    size: usize,
    /// What the peer says that the table may have.
    limit: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { fields: VecDeque::new(), size: 0, limit: DEFAULT_TABLE }
    }

    /// The field that has this index (RFC 7541 §2.3.3).
    #[inline]
    pub(super) fn field(&self, index: usize) -> Result<&Field, Malformed> {
        // Zero is none, and wraps to what no table has.
        let at = index.wrapping_sub(1);
        let found = statics::FIELDS.get(at).or_else(|| self.fields.get(at.wrapping_sub(statics::COUNT)));
        found.ok_or(Malformed("there is no field with this index"))
    }

    /// RFC 7541 §4.3.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(limit);
    }

    /// RFC 7541 §4.4: one that is larger than the table empties it, and is no error.
    pub(super) fn insert(&mut self, field: Field) {
        let size = field.size as usize;
        let Some(left) = self.limit.checked_sub(size) else { return self.evict(0) };
        self.evict(left);
        self.size += size;
        self.fields.push_front(field);
    }

    /// Evicts until no more than this is left.
    fn evict(&mut self, left: usize) {
        while self.size > left
            && let Some(field) = self.fields.pop_back()
        {
            self.size -= field.size as usize;
        }
    }
}
