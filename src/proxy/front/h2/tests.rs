//! A connection under any sequence of frames, and of what its streams' tasks do meanwhile: it never panics, keeps its accounts,
//! and says nothing that a client could not understand.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::handle::{Sender, StreamBody, ends};
use super::link::{CONNECTION_WINDOW, Link, STREAM_WINDOW};
use super::meter::Meter;
use crate::config::Limits;
use crate::net::http2::frame::{self, HEADER, Header, MAX, PREFACE, Reason, flag, kind, setting};

/// What happens next. Streams are chosen among those that are there.
#[derive(Clone, Debug)]
enum Step {
    /// The client begins a stream; whether there is a body, and what its head says of it.
    Begin { ends: bool, length: Option<u8> },
    /// It sends data on a stream, with padding.
    Data { stream: usize, size: usize, padding: Option<u8>, ends: bool },
    /// A frame of any kind.
    Frame { kind: u8, flags: u8, id: u32, payload: Vec<u8> },
    /// More may be sent, on a stream or on the connection.
    Window { stream: Option<usize>, more: u32 },
    /// Of each stream.
    InitialWindow(u32),
    /// A task answers.
    Head { stream: usize, ends: bool },
    /// A task sends.
    Send { stream: usize, size: usize, last: bool },
    /// A task reads.
    Read { stream: usize },
    /// A task is done with one of its ends.
    LetGo { stream: usize, body: bool },
    /// What was gathered leaves.
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..4_usize;
    prop_oneof![
        4 => (any::<bool>(), proptest::option::weighted(0.3, 0..60_u8)).prop_map(|(ends, length)| Step::Begin { ends, length }),
        4 => (stream.clone(), prop_oneof![0..50_usize, Just(16_000)], proptest::option::weighted(0.2, any::<u8>()), any::<bool>())
            .prop_map(|(stream, size, padding, ends)| Step::Data { stream, size, padding, ends }),
        1 => (0..12_u8, any::<u8>(), 0..12_u32, proptest::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(kind, flags, id, payload)| Step::Frame { kind, flags, id, payload }),
        2 => (proptest::option::of(stream.clone()), prop_oneof![1..70_000_u32, Just(0), Just(MAX)])
            .prop_map(|(stream, more)| Step::Window { stream, more }),
        1 => prop_oneof![0..100_000_u32, Just(MAX), Just(MAX + 1)].prop_map(Step::InitialWindow),
        3 => (stream.clone(), any::<bool>()).prop_map(|(stream, ends)| Step::Head { stream, ends }),
        6 => (stream.clone(), 0..40_000_usize, any::<bool>()).prop_map(|(stream, size, last)| Step::Send { stream, size, last }),
        4 => stream.clone().prop_map(|stream| Step::Read { stream }),
        3 => (stream, any::<bool>()).prop_map(|(stream, body)| Step::LetGo { stream, body }),
        3 => Just(Step::Turn),
    ]
}

/// A stream's task.
struct Task {
    id: u32,
    sender: Option<Sender>,
    body: Option<StreamBody>,
    answered: bool,
    said_last: bool,
    /// Bytes that were read and not told to be free yet.
    held: usize,
}

/// What a client has understood of a stream.
#[derive(Default)]
struct Heard {
    head: bool,
    over: bool,
    window: i64,
}

struct World {
    link: Rc<Link>,
    tasks: Vec<Task>,
    next: u32,
    heard: BTreeMap<u32, Heard>,
    /// What the client allows, on the connection and on a new stream.
    window: i64,
    initial: i64,
    ended: Option<Reason>,
}

impl World {
    fn new() -> Self {
        let limits = Limits { streams: 5, ..Limits::default() };
        let link = Link::nowhere(&limits, Rc::new(Meter::default()));
        let mut world = Self {
            link,
            tasks: Vec::new(),
            next: 1,
            heard: BTreeMap::new(),
            window: 65_535,
            initial: 65_535,
            ended: None,
        };
        world.receive(PREFACE);
        world.frame(kind::SETTINGS, 0, 0, &[]);
        world
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, (kind, flags), id, payload);
        self.receive(&bytes);
    }

    fn receive(&mut self, bytes: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        self.link.borrow().inbox.extend_from_slice(bytes);
        loop {
            let begun = self.link.borrow().next_request();
            match begun {
                Ok(Some(begun)) => {
                    let id = self.link.borrow().streams[begun.key].id;
                    let (sender, body) = ends(&self.link, begun.key, begun.receives, begun.request.length);
                    let sender = Some(sender);
                    self.tasks.push(Task { id, sender, body, answered: false, said_last: false, held: 0 });
                }
                Ok(None) if !self.link.borrow().meter.is_exhausted() => return,
                Ok(None) => return self.end(Reason::ENHANCE_YOUR_CALM),
                Err(reason) => return self.end(reason),
            }
        }
    }

    fn end(&mut self, reason: Reason) {
        self.link.abort(reason);
        self.ended = Some(reason);
    }

    fn task(&mut self, stream: usize) -> Option<&mut Task> {
        let count = self.tasks.len();
        // One of the last ones.
        (count > 0).then(|| &mut self.tasks[count - 1 - stream % count.min(4)])
    }

    fn id(&mut self, stream: usize) -> u32 {
        self.task(stream).map_or(1, |task| task.id)
    }

    fn take(&mut self, step: Step) {
        let mut cx = Context::from_waker(Waker::noop());
        match step {
            Step::Begin { ends, length } => {
                let mut block = vec![0x82, 0x87, 0x84, 0x01, 1, b'a'];
                if let Some(length) = length {
                    let text = length.to_string();
                    block.extend([0x0f, 0x0d, text.len() as u8]);
                    block.extend(text.bytes());
                }
                let id = self.next;
                self.next += 2;
                self.heard.entry(id).or_default().window = self.initial;
                self.frame(kind::HEADERS, flag::END_HEADERS | u8::from(ends), id, &block);
            }
            Step::Data { stream, size, padding, ends } => {
                let id = self.id(stream);
                let mut payload = Vec::from_iter(padding);
                payload.resize(payload.len() + size + usize::from(padding.unwrap_or_default()), 0);
                self.frame(kind::DATA, u8::from(ends) | padding.map_or(0, |_| flag::PADDED), id, &payload);
            }
            Step::Frame { kind, flags, id, payload } => {
                // What would change what the client allows is a step of its own.
                if ![kind::SETTINGS, kind::WINDOW_UPDATE].contains(&kind) {
                    self.next = self.next.max((id | 1) + 2);
                    self.heard.entry(id).or_insert_with(|| Heard { window: self.initial, ..Heard::default() });
                    self.frame(kind, flags, id, &payload);
                }
            }
            Step::Window { stream, more } => {
                let id = stream.map_or(0, |stream| self.id(stream));
                match self.heard.get_mut(&id) {
                    Some(heard) if id > 0 => heard.window += i64::from(more),
                    None if id > 0 => return,
                    _ => self.window += i64::from(more),
                }
                self.frame(kind::WINDOW_UPDATE, 0, id, &more.to_be_bytes());
            }
            Step::InitialWindow(size) => {
                // What is on its way was sent when more was allowed.
                self.listen();
                let more = i64::from(size) - self.initial;
                self.initial = i64::from(size);
                self.heard.values_mut().for_each(|heard| heard.window += more);
                let mut payload = setting::INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
                payload.extend(size.to_be_bytes());
                self.frame(kind::SETTINGS, 0, 0, &payload);
            }
            Step::Head { stream, ends } => {
                let Some(task) = self.task(stream) else { return };
                let Some(sender) = task.sender.as_ref().filter(|_| !task.answered) else { return };
                let _ = sender.send_head(StatusCode::OK, &HeaderMap::new(), ends);
                (task.answered, task.said_last) = (true, ends);
            }
            Step::Send { stream, size, last } => {
                let Some(task) = self.task(stream) else { return };
                let Some(sender) = task.sender.as_mut().filter(|_| task.answered && !task.said_last) else { return };
                if size == 0 {
                    if last {
                        let _ = sender.send_end();
                        task.said_last = true;
                    }
                    return;
                }
                if let Poll::Ready(Ok(sent)) = sender.poll_data(&mut cx, &vec![7; size], last) {
                    assert!(sent > 0 && sent <= size);
                    task.said_last = last && sent == size;
                }
            }
            Step::Read { stream } => {
                let Some(task) = self.task(stream) else { return };
                let Some(body) = &mut task.body else { return };
                let frame = body.poll_frame(&cx);
                task.held = match frame {
                    Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, bytes::Bytes::len),
                    _ => 0,
                };
            }
            Step::LetGo { stream, body } => {
                let Some(task) = self.task(stream) else { return };
                if body {
                    (task.body, task.held) = (None, 0);
                } else {
                    task.sender = None;
                }
            }
            Step::Turn => self.listen(),
        }
        self.check();
    }

    /// The client takes what was gathered, and understands it.
    fn listen(&mut self) {
        let sent = self.link.borrow().wire.take_all();
        let mut rest = &sent[..];
        while let Some(header) = Header::read(rest) {
            rest = &rest[HEADER + header.length..];
            let Header { kind, stream, length, .. } = header;
            match kind {
                kind::DATA | kind::HEADERS => {
                    let heard = self.heard.get_mut(&stream).expect("a stream that the client began");
                    assert!(!heard.over, "something behind the end of stream {stream}");
                    assert_eq!(heard.head, kind == kind::DATA, "data comes behind a head");
                    heard.head = true;
                    heard.over = header.has(flag::END_STREAM);
                    if kind == kind::DATA {
                        heard.window -= i64::from(length as u32);
                        self.window -= i64::from(length as u32);
                        assert!(length == 0 || heard.window >= 0 && self.window >= 0, "more than the client allows");
                    }
                }
                kind::RST_STREAM => {
                    assert!(stream > 0 && length == 4);
                    self.heard.entry(stream).or_default().over = true;
                }
                kind::SETTINGS | kind::PING | kind::GOAWAY => assert_eq!(stream, 0),
                kind::WINDOW_UPDATE => assert_eq!(length, 4),
                other => panic!("a frame of kind {other}"),
            }
        }
        assert!(rest.is_empty(), "half a frame");
        if self.ended.is_none() {
            assert_eq!(self.link.borrow().window_out, self.window, "what may be sent");
        }
    }

    fn check(&self) {
        let state = self.link.borrow();
        assert!(state.open.is_sorted(), "{:?}", state.open);
        for &(id, key) in &state.open {
            let stream = &state.streams[key];
            if stream.receives && stream.has_reader {
                let held = self.tasks.iter().find(|task| task.id == id).map_or(0, |task| task.held as u32);
                assert_eq!(stream.window_in + stream.owed + stream.unread() + held, STREAM_WINDOW);
            }
            assert!(stream.id == id && (stream.receives || stream.sends) && !stream.is_over());
        }
        assert!(state.open.len() <= 5 && state.streams.len() <= 10);
        // Every byte of the window is free, used, or held by somebody.
        let unread: u32 = state.streams.iter().map(|(_, stream)| stream.unread()).sum();
        let held: usize = self.tasks.iter().map(|task| task.held).sum();
        if self.ended.is_none() {
            assert_eq!(state.window_in + state.owed + unread + held as u32, CONNECTION_WINDOW);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_frames_and_any_tasks_keep_the_accounts(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.tasks.clear();
        world.check();
        world.listen();
        prop_assert!(world.link.borrow().streams.is_empty());
    }

    #[test]
    fn the_pieces_in_which_frames_come_do_not_matter(
        steps in proptest::collection::vec((0..12_u8, any::<u8>(), 0..12_u32, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
        size in 1..50_usize,
    ) {
        let mut bytes = Vec::new();
        for (kind, flags, id, payload) in steps {
            frame::write(&mut bytes, (kind, flags), id, &payload);
        }
        let (mut whole, mut pieces) = (World::new(), World::new());
        whole.receive(&bytes);
        for piece in bytes.chunks(size) {
            pieces.receive(piece);
        }
        prop_assert_eq!(whole.ended, pieces.ended);
        prop_assert_eq!(whole.tasks.len(), pieces.tasks.len());
        let said = |world: &World| world.link.borrow().wire.take_all();
        prop_assert_eq!(said(&whole), said(&pieces));
    }
}

#[test]
fn windows_open_again_as_a_body_is_read() {
    let mut world = World::new();
    world.take(Step::Begin { ends: false, length: None });
    for _ in 0..200 {
        world.take(Step::Data { stream: 0, size: 16_000, padding: Some(100), ends: false });
        world.take(Step::Read { stream: 0 });
        assert_eq!((world.tasks[0].held, world.ended), (16_000, None));
    }
}

#[test]
fn a_head_is_incomplete_until_its_last_byte() {
    let in_head = |world: &World| world.link.borrow().meter.is_in_head();
    let mut world = World::new();
    assert!(!in_head(&world));
    let mut head = Vec::new();
    frame::write(&mut head, (kind::HEADERS, 0), 1, &[0x82, 0x87]);
    frame::write(&mut head, (kind::CONTINUATION, 0), 1, &[0x84]);
    frame::write(&mut head, (kind::CONTINUATION, flag::END_HEADERS), 1, &[0x01, 1, b'a']);
    for (at, byte) in head.iter().enumerate() {
        world.receive(&[*byte]);
        assert_eq!(in_head(&world), (HEADER - 1..head.len() - 1).contains(&at), "behind byte {at}");
    }
    assert_eq!((world.tasks.len(), world.ended), (1, None));
}

#[test]
fn every_flood_uses_up_the_allowance() {
    let floods: [(u8, u8, &[u8]); 8] = [
        (kind::PING, 0, &[0; 8]),
        (kind::SETTINGS, 0, &[0; 6]),
        (kind::PRIORITY, 0, &[0; 5]),
        (kind::WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        (kind::DATA, 0, &[]),
        (kind::CONTINUATION, 0, &[]),
        (77, 0, &[1]),
        (kind::RST_STREAM, 0, &[0; 4]),
    ];
    for (kind, flags, payload) in floods {
        let mut world = World::new();
        let ends = if kind == kind::CONTINUATION { 0 } else { flag::END_HEADERS };
        world.frame(kind::HEADERS, ends, 1, &[0x82, 0x87, 0x84, 0x01, 1, b'a']);
        let id = u32::from(!matches!(kind, kind::PING | kind::SETTINGS));
        for _ in 0..2_001 {
            world.frame(kind, flags, id, payload);
        }
        assert!(world.link.borrow().meter.is_exhausted(), "frames of type {kind}: {:?}", world.ended);
    }
}
