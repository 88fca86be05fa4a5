//! An HTTP/2 client that writes frames as a test says, and holds the proxy to every rule meanwhile: lengths, windows, order,
//! the form of heads. It panics at the first frame that no server may send.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE, PADDED, PING, PRIORITIZED, RST_STREAM, SETTINGS, WINDOW_UPDATE, settings, window_update,
};
use super::hpack::{Decoder, Fields};
use super::http2::{PREFACE, frame};

/// The window of everything before anybody has spoken of it.
const WINDOW: i64 = 65_535;

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("a size in memory")
}

/// What came on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Interim heads, and the final one.
    pub heads: Vec<Fields>,
    pub body: Vec<u8>,
    pub trailers: Option<Fields>,
    /// END_STREAM came.
    pub ended: bool,
    pub reset: Option<u32>,
    /// The sizes of DATA frames.
    pub pieces: Vec<usize>,
    /// Window that was given in addition to the first.
    granted: i64,
}

impl Heard {
    /// The statuses of all heads.
    pub fn statuses(&self) -> Vec<u16> {
        self.heads.iter().map(|head| head[0].1.parse().expect("a status")).collect()
    }

    /// That of the final one, 0 before there is one.
    pub fn status(&self) -> u16 {
        self.statuses().into_iter().find(|status| *status >= 200).unwrap_or(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        Some(&self.heads.last()?.iter().find(|(n, _)| n == name)?.1)
    }

    /// Nothing more is to come.
    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

/// The connection.
pub struct Strict<S = TcpStream> {
    pub stream: S,
    inbox: Vec<u8>,
    pub decoder: Decoder,
    /// HEADERS that CONTINUATION has to end: the stream, whether that ends with it, and what came.
    open_head: Option<(u32, bool, Vec<u8>)>,
    pub streams: BTreeMap<u32, Heard>,
    /// The last stream and the code of the last GOAWAY.
    pub goodbye: Option<(u32, u32)>,
    pub is_over: bool,
    /// What the proxy has set.
    pub settings: BTreeMap<u16, u32>,
    pub pongs: Vec<Vec<u8>>,
    /// Our own settings that were not acknowledged yet.
    unsettled: VecDeque<Vec<(u16, u32)>>,
    /// The first window of a stream that we told, as far as acknowledged.
    initial: i64,
    /// What the proxy may still send over all streams.
    room: i64,
    /// The largest frame that we ever allowed.
    largest: u32,
    /// What we may still send: over all streams, and what the proxy gave and we used on each.
    credit: i64,
    credits: BTreeMap<u32, i64>,
}

impl Strict {
    /// A connection with the preface and these settings sent, and those of the proxy read and acknowledged.
    pub async fn connect(address: SocketAddr, values: &[(u16, u32)]) -> Self {
        Self::silent(address).await.greeted(values).await
    }

    /// A connection on which nothing was said.
    pub async fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Strict<S> {
    /// A connection on which nothing was said, over this.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            decoder: Decoder::default(),
            open_head: None,
            streams: BTreeMap::new(),
            goodbye: None,
            is_over: false,
            settings: BTreeMap::new(),
            pongs: Vec::new(),
            unsettled: VecDeque::new(),
            initial: WINDOW,
            room: WINDOW,
            largest: 16_384,
            credit: WINDOW,
            credits: BTreeMap::new(),
        }
    }

    /// Sends the preface and these settings, and takes those of the proxy.
    pub async fn greeted(mut self, values: &[(u16, u32)]) -> Self {
        self.send(PREFACE).await;
        self.set(values).await;
        self.run("the settings", |this| this.unsettled.is_empty() && !this.settings.is_empty()).await;
        self
    }

    /// Sends; `false` once the proxy takes nothing more.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            // TLS may hold the last of it.
            self.stream.flush().await
        };
        matches!(timeout(PATIENCE, sent).await, Ok(Ok(())))
    }

    /// Sends SETTINGS.
    pub async fn set(&mut self, values: &[(u16, u32)]) {
        self.expect_ack(values);
        self.send(frame(SETTINGS, 0, 0, &settings(values))).await;
    }

    /// Says that SETTINGS are sent by other means.
    pub fn expect_ack(&mut self, values: &[(u16, u32)]) {
        let sizes = values.iter().filter(|(name, _)| *name == MAX_FRAME_SIZE).map(|(_, size)| *size);
        self.largest = sizes.fold(self.largest, u32::max);
        self.unsettled.push_back(values.to_vec());
    }

    /// Opens windows: the connection's by what is given for stream 0.
    pub async fn grant(&mut self, stream: u32, by: u32) {
        self.note_grant(stream, by);
        self.send(window_update(stream, by)).await;
    }

    /// Says that a window is opened by other means.
    pub fn note_grant(&mut self, stream: u32, by: u32) {
        match stream {
            0 => self.room += i64::from(by),
            _ => self.streams.entry(stream).or_default().granted += i64::from(by),
        }
    }

    /// Says that nobody knows what windows were opened.
    pub fn allow_windows(&mut self) {
        (self.initial, self.largest) = (1 << 40, u32::MAX);
    }

    /// Whether all our settings were acknowledged.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Whether nothing more is to come on a stream.
    pub fn ended(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(Heard::is_over)
    }

    /// What came on a stream so far.
    pub fn heard(&self, stream: u32) -> Heard {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Takes frames in until something is so; panics if the connection ends or time runs out before.
    pub async fn run(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        while !so(self) {
            assert!(!self.is_over, "the connection ended before {what}: {:?}", self.goodbye);
            let step = timeout(PATIENCE, self.step()).await;
            assert!(step.is_ok(), "not in time: {what}; {:?}", self.streams);
        }
    }

    /// The same for up to this long: whether it came about. The end of the connection ends it too.
    pub async fn run_for(&mut self, long: Duration, mut so: impl FnMut(&Self) -> bool) -> bool {
        let run = async {
            while !so(self) && !self.is_over {
                self.step().await;
            }
        };
        let _ = timeout(long, run).await;
        so(self)
    }

    /// All that comes on a stream, to its end.
    pub async fn answer(&mut self, stream: u32) -> Heard {
        self.run("an answer", |this| this.ended(stream)).await;
        self.heard(stream)
    }

    /// The proxy has dealt with all that was sent before.
    pub async fn fence(&mut self) {
        let count = self.pongs.len();
        self.send(frame(PING, 0, 0, b"a fence.")).await;
        self.run("a PING's answer", |this| this.pongs.len() > count).await;
    }

    /// How much may be sent on a stream now; for stream 0, as far as the connection goes.
    pub fn credit(&self, stream: u32) -> usize {
        let initial = self.settings.get(&INITIAL_WINDOW_SIZE).map_or(WINDOW, |size| i64::from(*size));
        let own = initial + self.credits.get(&stream).copied().unwrap_or(0);
        let least = if stream == 0 { self.credit } else { own.min(self.credit) };
        usize::try_from(least).unwrap_or(0)
    }

    /// Counts DATA that is sent by other means; for stream 0, what it costs the connection alone.
    pub fn spend(&mut self, stream: u32, size: usize) {
        self.credit -= signed(size);
        *self.credits.entry(stream).or_default() -= signed(size);
    }

    /// Sends DATA in frames of up to this size, as windows allow; with padding, if it is above 0. Gives up once the stream is
    /// reset or the connection ends, or for `until_answered` once the answer is whole.
    pub async fn upload(&mut self, stream: u32, mut body: &[u8], (piece, padding): (usize, u8), until_answered: bool) {
        loop {
            let extra = if padding > 0 { 1 + usize::from(padding) } else { 0 };
            let wanted = body.len().min(piece) + extra;
            let stops = |this: &Self| {
                let heard = this.streams.get(&stream);
                this.is_over || heard.is_some_and(|heard| heard.reset.is_some() || (until_answered && heard.ended))
            };
            self.run("a window", |this| this.credit(stream) >= wanted || stops(this)).await;
            if stops(self) {
                return;
            }
            let (now, rest) = body.split_at(wanted - extra);
            let flags = if rest.is_empty() { END_STREAM } else { 0 };
            self.spend(stream, wanted);
            let sent = if padding > 0 {
                let payload = [&[padding], now, &vec![0; usize::from(padding)]].concat();
                frame(DATA, flags | PADDED, stream, &payload)
            } else {
                frame(DATA, flags, stream, now)
            };
            if !self.send(sent).await || rest.is_empty() {
                return;
            }
            body = rest;
        }
    }

    /// Takes a frame in.
    pub async fn step(&mut self) {
        loop {
            if let Some(length) = self.inbox.first_chunk::<9>().map(|h| u32::from_be_bytes([0, h[0], h[1], h[2]])) {
                assert!(length <= self.largest, "a frame of {length}, and we allowed no more than {}", self.largest);
                let end = 9 + length as usize;
                if self.inbox.len() >= end {
                    let bytes: Vec<u8> = self.inbox.drain(..end).collect();
                    return self.take(&bytes).await;
                }
            }
            // Cancelled, it has read nothing.
            let Ok(1..) = self.stream.read_buf(&mut self.inbox).await else {
                self.is_over = true;
                return;
            };
        }
    }

    async fn take(&mut self, bytes: &[u8]) {
        let (kind, flags, payload) = (bytes[3], bytes[4], &bytes[9..]);
        let id = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        assert!(!self.settings.is_empty() || kind == SETTINGS && flags & ACK == 0, "the first frame is {kind}");
        assert!(self.open_head.is_none() || kind == CONTINUATION, "a frame {kind} in the middle of a head");
        match kind {
            DATA => self.take_data(id, flags, payload),
            HEADERS => {
                assert_eq!(flags & (PADDED | PRIORITIZED), 0, "no server here does that");
                self.open_head = Some((id, flags & END_STREAM != 0, payload.to_vec()));
                self.take_head(flags);
            }
            CONTINUATION => {
                let (of, _, block) = self.open_head.as_mut().expect("a head to continue");
                assert_eq!(*of, id, "another stream's head");
                block.extend(payload);
                self.take_head(flags);
            }
            RST_STREAM => {
                assert!(payload.len() == 4 && id != 0, "a bad RST_STREAM");
                // A second one may answer what we sent since (§5.4.2).
                self.streams.entry(id).or_default().reset.get_or_insert(word(0));
            }
            SETTINGS => self.take_settings(id, flags, payload).await,
            PING => {
                assert!(id == 0 && payload.len() == 8, "a bad PING");
                if flags & ACK == 0 {
                    self.send(frame(PING, ACK, 0, payload)).await;
                } else {
                    self.pongs.push(payload.to_vec());
                }
            }
            GOAWAY => {
                assert!(id == 0 && payload.len() >= 8, "a bad GOAWAY");
                let last = word(0);
                assert!(self.goodbye.is_none_or(|(before, _)| last <= before), "the last stream grows");
                self.goodbye = Some((last, word(4)));
            }
            WINDOW_UPDATE => {
                assert!(payload.len() == 4 && word(0) > 0 && word(0) < 1 << 31, "a bad WINDOW_UPDATE");
                let window = if id == 0 { &mut self.credit } else { self.credits.entry(id).or_default() };
                *window += i64::from(word(0));
                assert!(*window < 1 << 31, "a window beyond all bounds");
            }
            _ => panic!("a frame of type {kind}"),
        }
    }

    async fn take_settings(&mut self, id: u32, flags: u8, payload: &[u8]) {
        assert!(id == 0 && payload.len().is_multiple_of(6), "bad SETTINGS");
        if flags & ACK == 0 {
            // Known to have come, even with nothing in it.
            self.settings.entry(0).or_default();
            for value in payload.chunks(6) {
                let &[a, b, ref number @ ..] = value else { continue };
                self.settings
                    .insert(u16::from_be_bytes([a, b]), u32::from_be_bytes(number.try_into().expect("four bytes")));
            }
            self.send(frame(SETTINGS, ACK, 0, &[])).await;
            return;
        }
        assert!(payload.is_empty(), "an acknowledgement of something");
        for (name, value) in self.unsettled.pop_front().unwrap_or_default() {
            match name {
                HEADER_TABLE_SIZE => self.decoder.limit(value as usize),
                INITIAL_WINDOW_SIZE => self.initial = i64::from(value),
                _ => {}
            }
        }
    }

    fn take_data(&mut self, id: u32, flags: u8, payload: &[u8]) {
        // Larger windows count from when they are on their way, smaller ones from when they are acknowledged.
        let pending = self.unsettled.iter().flatten().filter(|(name, _)| *name == INITIAL_WINDOW_SIZE);
        let initial = pending.map(|(_, value)| i64::from(*value)).max().unwrap_or(0).max(self.initial);
        let heard = self.streams.get_mut(&id).expect("a head before its body");
        assert!(!heard.is_over() && heard.status() != 0, "DATA on {id}: {heard:?}");
        assert_eq!(flags & PADDED, 0, "no server here does that");
        let size = signed(payload.len());
        let own = initial + heard.granted - signed(heard.body.len());
        assert!(size == 0 || size <= own.min(self.room), "{size} on {id}, and room for {own}, {} in all", self.room);
        self.room -= size;
        heard.body.extend(payload);
        heard.pieces.push(payload.len());
        heard.ended = flags & END_STREAM != 0;
    }

    fn take_head(&mut self, flags: u8) {
        if flags & END_HEADERS == 0 {
            return;
        }
        let (id, ends, block) = self.open_head.take().expect("a head");
        let fields = self.decoder.decode(&block).unwrap_or_else(|error| panic!("head of {id}: {error}"));
        let heard = self.streams.entry(id).or_default();
        assert!(!heard.is_over() && id % 2 == 1, "a head on {id}: {heard:?}");
        let final_already = heard.status() != 0;
        assert_eq!(fields.iter().filter(|(name, _)| name.starts_with(':')).count(), usize::from(!final_already));
        for (name, value) in &fields {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '), "{name:?}");
            assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
            let of_http_1 = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
            assert!(!of_http_1.contains(&name.as_str()), "{name}: {value}");
        }
        if final_already {
            assert!(ends, "trailers that end nothing");
            heard.trailers = Some(fields);
        } else {
            assert_eq!(fields[0].0, ":status");
            heard.heads.push(fields);
            assert!(!ends || heard.status() != 0, "an interim head that ends");
        }
        heard.ended = ends;
    }
}
