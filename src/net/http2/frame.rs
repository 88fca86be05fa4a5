//! Frames (RFC 9113 §4 and §6): their headers, what fills those without a body, and why streams and connections end.

use std::ops::Range;

/// What a client begins with (§3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub const HEADER: usize = 9;
/// The most that a frame may carry unless its receiver takes more; we do not, and send no longer ones (§4.2).
pub const MOST: usize = 16_384;
/// The largest window, and the last stream that there can be.
pub const MAX: u32 = 0x7FFF_FFFF;

/// What a frame is (§6).
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// Advice that nobody follows any more.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream, before its time.
    pub const RST_STREAM: u8 = 3;
    /// What the sender takes.
    pub const SETTINGS: u8 = 4;
    /// For servers alone.
    pub const PUSH_PROMISE: u8 = 5;
    /// To be sent back.
    pub const PING: u8 = 6;
    /// No further streams.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a head.
    pub const CONTINUATION: u8 = 9;
}

/// What a frame's flags say.
pub mod flag {
    /// Nothing of the stream follows.
    pub const END_STREAM: u8 = 0x1;
    /// It answers one of ours.
    pub const ACK: u8 = 0x1;
    /// The head is whole.
    pub const END_HEADERS: u8 = 0x4;
    /// It is longer than what it carries.
    pub const PADDED: u8 = 0x8;
    /// Five bytes of advice stand first.
    pub const PRIORITY: u8 = 0x20;
}

/// What a setting is about (§6.5.2, RFC 8441 §3).
pub mod setting {
    /// Bytes of the table that heads are compressed with.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether servers may push.
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams at a time.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// What may be sent on a stream to begin with.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// What a frame may carry.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// What a head may be.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// Whether CONNECT may name a protocol.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Why a stream or a connection ends (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    /// In order.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the rules.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// It is our own fault, or a node's.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More came than there was a window for.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame came behind its stream's end.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has a length that it cannot have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The request was not looked at.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody wants it any more.
    pub const CANCEL: Self = Self(8);
    /// A head cannot be read, and so no further one.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer costs too much.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// A frame's header (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes behind it.
    pub length: usize,
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Zero: the connection's.
    pub stream: u32,
}

impl Header {
    /// Reads one, if it is there.
    #[inline]
    pub fn read(text: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, id @ ..] = *text.first_chunk::<HEADER>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(id) & MAX })
    }

    /// As it is written.
    #[inline]
    pub fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&((self.length as u32) << 8 | u32::from(self.kind)).to_be_bytes());
        bytes[4] = self.flags;
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where in its payload stands what a frame carries, without padding and advice (§6.1, §6.2). `None`: there is more of that
    /// than of the frame.
    pub fn content(self, payload: &[u8]) -> Option<Range<usize>> {
        let (mut start, mut end) = (0, payload.len());
        if self.has(flag::PADDED) {
            end = end.checked_sub(usize::from(*payload.first()?))?;
            start = 1;
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            start += 5;
        }
        (start <= end).then_some(start..end)
    }
}

/// A frame of the connection's or a stream's, whole.
pub fn write(out: &mut Vec<u8>, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
    let header = Header { length: payload.len(), kind, flags, stream };
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(payload);
}

/// The end of a stream, before its time (§6.4).
pub fn write_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    write(out, (kind::RST_STREAM, 0), stream, &reason.0.to_be_bytes());
}

/// The end of a connection (§6.8); `last`: the last stream that may have been looked at.
pub fn write_goaway(out: &mut Vec<u8>, last: u32, reason: Reason) {
    let payload = u64::from(last) << 32 | u64::from(reason.0);
    write(out, (kind::GOAWAY, 0), 0, &payload.to_be_bytes());
}

/// More may be sent (§6.9).
pub fn write_window(out: &mut Vec<u8>, stream: u32, more: u32) {
    write(out, (kind::WINDOW_UPDATE, 0), stream, &more.to_be_bytes());
}

/// What we take (§6.5).
pub fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    write(out, (kind::SETTINGS, 0), 0, &payload);
}

/// What the peer takes.
pub fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
}

/// Writes a head whose compressed fields `block` appends: one frame of HEADERS, with CONTINUATION behind it if it is long
/// (§4.3).
#[inline]
pub fn write_head(out: &mut Vec<u8>, stream: u32, ends: bool, block: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    block(out);
    let length = out.len() - start - HEADER;
    let flags = if ends { flag::END_STREAM } else { 0 };
    if length <= MOST {
        let header = Header { length, kind: kind::HEADERS, flags: flags | flag::END_HEADERS, stream };
        out[start..start + HEADER].copy_from_slice(&header.bytes());
        return;
    }
    let fields = out.split_off(start + HEADER);
    out.truncate(start);
    let last = length.div_ceil(MOST) - 1;
    for (at, piece) in fields.chunks(MOST).enumerate() {
        let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
        let mut flags = if at == 0 { flags } else { 0 };
        if at == last {
            flags |= flag::END_HEADERS;
        }
        write(out, (kind, flags), stream, piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for header in [
            Header { length: 0, kind: 0, flags: 0, stream: 0 },
            Header { length: 0x01_02_03, kind: 9, flags: 0xFF, stream: MAX },
        ] {
            assert_eq!(Header::read(&header.bytes()), Some(header));
            assert_eq!(Header::read(&header.bytes()[..8]), None);
        }
        // The first bit of a stream says nothing.
        assert_eq!(Header::read(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]).map(|header| header.stream), Some(1));
    }

    #[test]
    fn padding_and_advice_are_no_content() {
        let header = |kind, flags| Header { length: 0, kind, flags, stream: 1 };
        let padded = |payload: &[u8]| header(kind::DATA, flag::PADDED).content(payload);
        assert_eq!(padded(&[2, 7, 7, 0, 0]), Some(1..3));
        assert_eq!(padded(&[4, 0, 0, 0, 0]), Some(1..1));
        assert_eq!(padded(&[5, 0, 0, 0, 0]), None);
        assert_eq!(padded(&[]), None);
        let advised = |flags, payload: &[u8]| header(kind::HEADERS, flag::PRIORITY | flags).content(payload);
        assert_eq!(advised(0, &[0; 6]), Some(5..6));
        assert_eq!(advised(0, &[0; 4]), None);
        assert_eq!(advised(flag::PADDED, &[1, 0, 0, 0, 0, 0, 9, 0]), Some(6..7));
        assert_eq!(advised(flag::PADDED, &[2, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(header(kind::DATA, flag::PRIORITY).content(&[1, 2]), Some(0..2));
    }

    #[test]
    fn a_long_head_goes_on_in_further_frames() {
        for (length, frames) in [(0, 1), (MOST, 1), (MOST + 1, 2), (2 * MOST, 2), (3 * MOST + 7, 4)] {
            let mut out = b"before".to_vec();
            let fields: Vec<u8> = (0..length).map(|at| at as u8).collect();
            write_head(&mut out, 5, true, |out| out.extend_from_slice(&fields));
            let (mut rest, mut got, mut seen) = (&out[6..], Vec::new(), 0);
            while let Some(header) = Header::read(rest) {
                assert_eq!(header.kind, if seen == 0 { kind::HEADERS } else { kind::CONTINUATION });
                assert_eq!(header.flags & flag::END_STREAM, u8::from(seen == 0));
                got.extend_from_slice(&rest[HEADER..HEADER + header.length]);
                rest = &rest[HEADER + header.length..];
                seen += 1;
                assert_eq!(header.has(flag::END_HEADERS), rest.is_empty());
            }
            assert!(got == fields && seen == frames, "{length}");
        }
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let all = [(setting::ENABLE_PUSH, 0), (0xFFFF, u32::MAX)];
        let mut out = Vec::new();
        write_settings(&mut out, &all);
        assert_eq!(settings(&out[HEADER..]).collect::<Vec<_>>(), all);
    }
}
