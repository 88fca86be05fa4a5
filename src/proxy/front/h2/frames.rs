//! What a client says, frame by frame (RFC 9113 §6), and what becomes of it.
//!
//! `Err`: the connection cannot go on. Where one stream breaks the rules, that stream ends and the others do not notice (§5.4).

use bytes::{Buf, Bytes};
use http::HeaderMap;

use super::link::{Block, Course, State};
use super::meter::{OTHER, REFUSED, SETTINGS};
use super::request::{Fields, Prepared, trailers};
use super::stream_state::StreamState;
use crate::net::http2::frame::{self, HEADER, Header, MAX, MOST, PREFACE, Reason, flag, kind, setting};

/// Streams that a client may begin before it acknowledges how many it may have at a time, and those beyond that are refused for
/// nothing.
const UNAWARE: u32 = 1024;

/// A request that a client has begun.
pub(super) struct Begun {
    /// Where its stream is.
    pub key: usize,
    /// What is asked.
    pub request: Prepared,
    /// Whether there is a body to come.
    pub receives: bool,
}

impl State {
    /// Takes the frames that have come, up to the next request.
    pub fn next_request(&mut self) -> Result<Option<Begun>, Reason> {
        if !self.has_preface && !self.take_preface()? {
            return Ok(None);
        }
        while let Some(header) = Header::read(&self.inbox) {
            if header.length > MOST {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            if self.inbox.len() < HEADER + header.length {
                break;
            }
            let begun = self.take_frame(header)?;
            if begun.is_some() || self.meter.is_exhausted() {
                return Ok(begun);
            }
        }
        let arrives = |header: Header| matches!(header.kind, kind::HEADERS | kind::CONTINUATION);
        let in_head = self.block.is_some() || Header::read(&self.inbox).is_some_and(arrives);
        self.meter.set_in_head(in_head);
        Ok(None)
    }

    /// Whether it is there.
    fn take_preface(&mut self) -> Result<bool, Reason> {
        let size = self.inbox.len().min(PREFACE.len());
        if self.inbox[..size] != PREFACE[..size] {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if size < PREFACE.len() {
            return Ok(false);
        }
        self.inbox.advance(size);
        self.has_preface = true;
        Ok(true)
    }

    /// A whole frame, which is taken from the inbox.
    fn take_frame(&mut self, header: Header) -> Result<Option<Begun>, Reason> {
        if !self.has_settings {
            // The rest of the preface (§3.4).
            if header.kind != kind::SETTINGS || header.has(flag::ACK) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.has_settings = true;
        }
        if self.block.as_ref().is_some_and(|block| header.kind != kind::CONTINUATION || header.stream != block.id) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if header.kind == kind::DATA {
            self.inbox.advance(HEADER);
            let payload = self.inbox.split_to(header.length).freeze();
            self.take_data(header, payload)?;
            return Ok(None);
        }
        // Lent out while it is looked at.
        let inbox = std::mem::take(&mut *self.inbox);
        let payload = &inbox[HEADER..HEADER + header.length];
        let begun = match header.kind {
            kind::HEADERS => self.take_headers(header, payload),
            kind::CONTINUATION => self.take_continuation(header, payload),
            _ => self.take_other(header, payload).map(|()| None),
        };
        *self.inbox = inbox;
        self.inbox.advance(HEADER + header.length);
        begun
    }

    fn take_data(&mut self, header: Header, mut payload: Bytes) -> Result<(), Reason> {
        let (id, length) = (header.stream, header.length as u32);
        if id == 0 || id > self.last {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let content = header.content(&payload).ok_or(Reason::PROTOCOL_ERROR)?;
        self.window_in = self.window_in.checked_sub(length).ok_or(Reason::FLOW_CONTROL_ERROR)?;
        let ends = header.has(flag::END_STREAM);
        if content.is_empty() && !ends {
            self.meter.spend(OTHER);
        }
        let Some(key) = self.find(id) else {
            self.give_back(length);
            self.meter.spend(OTHER);
            if !self.reset.contains(&id) {
                // Its client has ended it before (§5.1).
                frame::write_reset(self.wire.back(), id, Reason::STREAM_CLOSED);
                self.meter.spend(REFUSED);
            }
            return Ok(());
        };
        let stream = &mut self.streams[key];
        let size = content.len() as u32;
        let fault = if !stream.receives {
            Some(Reason::STREAM_CLOSED)
        } else if length > stream.window_in {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else {
            stream.window_in -= length;
            let left = stream.left.map(|left| left.checked_sub(u64::from(size)));
            // More than its head says, or less (§8.1.1).
            let differs = left == Some(None) || ends && !matches!(left, None | Some(Some(0)));
            stream.left = left.flatten();
            differs.then_some(Reason::PROTOCOL_ERROR)
        };
        if let Some(reason) = fault {
            self.give_back(length);
            self.meter.spend(REFUSED);
            self.reset_stream(key, reason);
            return Ok(());
        }
        let read = stream.has_reader;
        if read && size > 0 {
            payload.truncate(content.end);
            payload.advance(content.start);
            stream.push_data(payload);
        }
        if ends {
            stream.end_data(None);
            if !stream.sends {
                self.close_stream(key);
            }
        }
        // Padding is used as soon as it is here, and so is what nobody wants.
        if read {
            self.give_back_of(key, length - size);
        } else {
            self.give_back(length);
        }
        Ok(())
    }

    fn take_headers(&mut self, header: Header, payload: &[u8]) -> Result<Option<Begun>, Reason> {
        let id = header.stream;
        if id.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let content = header.content(payload).ok_or(Reason::PROTOCOL_ERROR)?;
        let fields = &payload[content];
        let ends = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.take_head(id, ends, fields);
        }
        self.block = Some(Block { id, ends, fields: fields.to_vec() });
        Ok(None)
    }

    fn take_continuation(&mut self, header: Header, payload: &[u8]) -> Result<Option<Begun>, Reason> {
        self.meter.spend(OTHER);
        let Some(block) = &mut self.block else { return Err(Reason::PROTOCOL_ERROR) };
        block.fields.extend_from_slice(payload);
        if block.fields.len() > 2 * self.head_size + MOST {
            // What cannot be kept cannot be read, and heads behind it neither.
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if !header.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some(Block { id, ends, fields }) = self.block.take() else { return Ok(None) };
        self.take_head(id, ends, &fields)
    }

    /// A whole head, or trailers. Whatever becomes of it, it has to be read: those behind it may refer to it (RFC 7541 §2.2).
    fn take_head(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<Option<Begun>, Reason> {
        if id > self.last {
            return self.begin(id, ends, block);
        }
        let mut fields = Fields::new(self.head_size, self.most_fields);
        self.decoder
            .decode(block, |name, value, size| fields.take(name, value, size))
            .map_err(|_| Reason::COMPRESSION_ERROR)?;
        let Some(key) = self.find(id) else {
            self.meter.spend(REFUSED);
            return match self.reset.contains(&id) {
                true => Ok(None),
                // Was there a stream with this number, and has its client ended it (§5.1, §5.1.1)?
                false if self.begun == self.last.div_ceil(2) => Err(Reason::STREAM_CLOSED),
                false => Err(Reason::PROTOCOL_ERROR),
            };
        };
        let stream = &self.streams[key];
        let trailers = match trailers(fields) {
            _ if !stream.receives => Err(Reason::STREAM_CLOSED),
            Some(trailers) if ends && stream.left.unwrap_or_default() == 0 => Ok(trailers),
            _ => Err(Reason::PROTOCOL_ERROR),
        };
        match trailers {
            Ok(trailers) => self.end_with(key, trailers),
            Err(reason) => {
                self.meter.spend(REFUSED);
                self.reset_stream(key, reason);
            }
        }
        Ok(None)
    }

    fn end_with(&mut self, key: usize, trailers: HeaderMap) {
        let stream = &mut self.streams[key];
        let wanted = stream.has_reader && !trailers.is_empty();
        stream.end_data(wanted.then_some(trailers));
        if !stream.sends {
            self.close_stream(key);
        }
    }

    /// A new stream.
    fn begin(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<Option<Begun>, Reason> {
        (self.last, self.begun) = (id, self.begun + 1);
        let mut fields = Fields::new(self.head_size, self.most_fields);
        self.decoder
            .decode(block, |name, value, size| fields.take(name, value, size))
            .map_err(|_| Reason::COMPRESSION_ERROR)?;
        // Streams that are closed and whose tasks have not noticed yet work for nobody, and have a limit too.
        if self.open.len() >= self.most_streams || self.streams.len() >= 2 * self.most_streams {
            frame::write_reset(self.wire.back(), id, Reason::REFUSED_STREAM);
            if !ends {
                self.remember_reset(id);
            }
            if self.greeted || self.begun > UNAWARE {
                self.meter.spend(REFUSED);
            }
            return Ok(None);
        }
        if self.course == Course::Closed {
            // It was told, and has acknowledged it: such a stream may be ignored (§6.8).
            self.meter.spend(REFUSED);
            return Ok(None);
        }
        let request = fields.prepare(ends, &mut self.known);
        if request.request.is_err() {
            self.meter.spend(REFUSED);
        }
        let stream = StreamState::new(id, !ends, request.length, self.initial_out);
        let key = self.streams.insert(stream);
        self.open.push((id, key));
        Ok(Some(Begun { key, request, receives: !ends }))
    }

    /// Frames that bring neither data nor fields.
    fn take_other(&mut self, header: Header, mut payload: &[u8]) -> Result<(), Reason> {
        let (id, ack) = (header.stream, header.has(flag::ACK));
        let length = i64::from(payload.len() as u32);
        // Each setting may be one for which all streams are looked at.
        let settings = header.kind == kind::SETTINGS && !ack;
        self.meter.spend(if settings { SETTINGS + length / 6 } else { OTHER + length / 1024 });
        match (header.kind, payload.len()) {
            (kind::PRIORITY, _) if id == 0 => Err(Reason::PROTOCOL_ERROR),
            (kind::PRIORITY, 5) => Ok(()),
            (kind::RST_STREAM, 4) if id == 0 || id > self.last => Err(Reason::PROTOCOL_ERROR),
            (kind::RST_STREAM, 4) => {
                if let Some(key) = self.find(id) {
                    self.abandon(key);
                }
                Ok(())
            }
            (kind::SETTINGS | kind::PING | kind::GOAWAY, _) if id != 0 => Err(Reason::PROTOCOL_ERROR),
            (kind::SETTINGS, 0) if ack => {
                self.greeted = true;
                Ok(())
            }
            (kind::SETTINGS, length) if !ack && length % 6 == 0 => self.take_settings(payload),
            (kind::PING, 8) if ack => {
                self.pinged_back(payload);
                Ok(())
            }
            (kind::PING, 8) => {
                frame::write(self.wire.back(), (kind::PING, flag::ACK), 0, payload);
                Ok(())
            }
            // It begins no more, and gets the answers to what it has begun.
            (kind::GOAWAY, 8..) => {
                self.course = Course::Closed;
                Ok(())
            }
            (kind::WINDOW_UPDATE, 4) => self.take_window(id, payload.get_u32() & MAX),
            (kind::PUSH_PROMISE, _) => Err(Reason::PROTOCOL_ERROR),
            (
                kind::PRIORITY | kind::RST_STREAM | kind::SETTINGS | kind::PING | kind::GOAWAY | kind::WINDOW_UPDATE,
                _,
            ) => Err(Reason::FRAME_SIZE_ERROR),
            // What is not known is none of our business (§5.5).
            _ => Ok(()),
        }
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Reason> {
        for (id, value) in frame::settings(payload) {
            match id {
                setting::HEADER_TABLE_SIZE => self.encoder.resize(value),
                setting::ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
                setting::INITIAL_WINDOW_SIZE if value > MAX => return Err(Reason::FLOW_CONTROL_ERROR),
                setting::INITIAL_WINDOW_SIZE => {
                    // Windows that are open change with it, perhaps to less than nothing (§6.9.2).
                    let more = i64::from(value) - self.initial_out;
                    self.initial_out = i64::from(value);
                    for &(_, key) in &self.open {
                        self.streams[key].widen(more).ok_or(Reason::FLOW_CONTROL_ERROR)?;
                    }
                }
                setting::MAX_FRAME_SIZE if !(MOST as u32..1 << 24).contains(&value) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                _ => {}
            }
        }
        frame::write(self.wire.back(), (kind::SETTINGS, flag::ACK), 0, &[]);
        Ok(())
    }

    fn take_window(&mut self, id: u32, more: u32) -> Result<(), Reason> {
        if id > self.last || id == 0 && more == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if id == 0 {
            self.window_out += i64::from(more);
            if self.window_out > i64::from(MAX) {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            self.wake_waiting();
        } else if let Some(key) = self.find(id) {
            let reason = if more == 0 {
                Reason::PROTOCOL_ERROR
            } else if self.streams[key].widen(i64::from(more)).is_none() {
                Reason::FLOW_CONTROL_ERROR
            } else {
                return Ok(());
            };
            self.reset_stream(key, reason);
        }
        Ok(())
    }
}
