//! As much of WebSocket (RFC 6455 §5) as it takes to end a connection between two messages: frames are followed, never
//! changed.

/// Follows one direction of a connection and knows whether a message is complete.
#[derive(Clone, Debug, Default)]
pub struct FrameTracker {
    /// The part of a frame's header that came so far.
    header: [u8; 14],
    have: usize,
    /// Bytes of payload (and none of the header) that are still to come.
    payload: u64,
    /// A message of several frames has begun and not ended.
    in_message: bool,
    /// The frame whose payload is still to come is a Close.
    in_close: bool,
    has_closed: bool,
}

impl FrameTracker {
    /// Whether everything seen so far is whole messages.
    pub fn is_at_border(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.in_message
    }

    /// Whether a whole Close frame has passed.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Leaves out what began behind the last whole message.
    pub fn forget_begun(&mut self) {
        *self = Self { has_closed: self.has_closed, ..Self::default() };
    }

    /// Takes the next piece. Returns how much of it belongs to whole messages, if one ends in it.
    #[inline]
    pub fn advance(&mut self, data: &[u8]) -> Option<usize> {
        // Nearly always a piece is one whole frame.
        if self.have == 0
            && self.payload == 0
            && let Some((length, payload)) = header_of(data)
            && payload == (data.len() - length) as u64
        {
            self.begin(data[0], 0);
            return (!self.in_message).then_some(data.len());
        }
        self.follow(data)
    }

    fn follow(&mut self, mut data: &[u8]) -> Option<usize> {
        let all = data.len();
        let mut whole = None;
        while !data.is_empty() {
            if self.payload > 0 {
                let taken = self.payload.min(data.len() as u64);
                self.payload -= taken;
                self.has_closed |= self.in_close && self.payload == 0;
                data = &data[taken as usize..];
            } else if self.have == 0
                && let Some((length, payload)) = header_of(data)
            {
                self.begin(data[0], payload);
                data = &data[length..];
            } else {
                self.header[self.have] = data[0];
                self.have += 1;
                data = &data[1..];
                if let Some((_, payload)) = header_of(&self.header[..self.have]) {
                    self.have = 0;
                    self.begin(self.header[0], payload);
                }
            }
            if self.is_at_border() {
                whole = Some(all - data.len());
            }
        }
        whole
    }

    fn begin(&mut self, first: u8, payload: u64) {
        self.payload = payload;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        // Control frames may stand between the frames of a message and are no part of it.
        if opcode < 8 {
            self.in_message = !last;
        }
        self.in_close = opcode == 8;
        self.has_closed |= self.in_close && payload == 0;
    }
}

/// The header of a frame that begins here, once all of it is there: its length, and that of the payload.
#[inline]
fn header_of(data: &[u8]) -> Option<(usize, u64)> {
    let [_, second, rest @ ..] = data else { return None };
    let (length, payload) = match second & 0x7F {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let length = if second & 0x80 == 0 { length } else { length + 4 };
    (data.len() >= length).then_some((length, payload))
}

/// A server's Close frame that tells the client to come back: 1012, "service restart" (IANA WebSocket close codes).
pub const CLOSE_SERVICE_RESTART: &[u8] = &[0x88, 0x02, 0x03, 0xF4];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(last: bool, opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![if last { 0x80 | opcode } else { opcode }];
        match length {
            0..=125 => frame.push(mask_bit | length as u8),
            126..=65535 => {
                frame.push(mask_bit | 0x7e);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(std::iter::repeat_n(0xAA, length));
        frame
    }

    #[test]
    fn a_fragmented_message_has_no_border_inside_even_with_a_ping_between() {
        let mut tracker = FrameTracker::default();
        assert!(tracker.is_at_border());
        assert_eq!(tracker.advance(&frame(false, 1, 10, false)), None);
        assert_eq!(tracker.advance(&frame(true, 9, 0, false)), None);
        assert_eq!(tracker.advance(&frame(false, 0, 200, false)), None);
        let last = frame(true, 0, 3, false);
        assert_eq!(tracker.advance(&last), Some(last.len()));
        assert!(tracker.is_at_border());
    }

    #[test]
    fn the_last_border_in_a_piece_is_told() {
        let mut tracker = FrameTracker::default();
        let mut piece = frame(true, 1, 70_000, true);
        piece.extend(frame(true, 2, 5, true));
        let whole = piece.len();
        piece.extend(&frame(true, 1, 9, true)[..4]);
        assert_eq!(tracker.advance(&piece), Some(whole));
        assert!(!tracker.is_at_border() && !tracker.has_closed());
    }

    #[test]
    fn a_close_frame_is_noticed_when_it_is_whole() {
        let mut tracker = FrameTracker::default();
        let close = frame(true, 8, 2, true);
        tracker.advance(&close[..close.len() - 1]);
        assert!(!tracker.has_closed());
        tracker.advance(&close[close.len() - 1..]);
        assert!(tracker.has_closed());
        let mut ours = FrameTracker::default();
        assert_eq!(ours.advance(CLOSE_SERVICE_RESTART), Some(4));
        assert!(ours.has_closed());
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            frames in proptest::collection::vec((any::<bool>(), 0u8..10, 0usize..300, any::<bool>()), 0..8),
            cuts in proptest::collection::vec(1usize..50, 0..40),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(l, o, n, m)| frame(*l, *o, *n, *m)).collect();
            let mut whole = FrameTracker::default();
            whole.advance(&bytes);
            let mut parts = FrameTracker::default();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                parts.advance(piece);
                rest = left;
            }
            parts.advance(rest);
            prop_assert_eq!(whole.is_at_border(), parts.is_at_border());
            prop_assert_eq!(whole.has_closed(), parts.has_closed());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            FrameTracker::default().advance(&bytes);
        }
    }
}
