//! What concerns a connection as a whole: its preface, the form of frames, SETTINGS, PING, GOAWAY (§3.4, §4, §5.5, §6.5 to 6.9).

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{Answer, Case, Goodbye, Nothing, Reset, Whatever, case, check, node};
use crate::support::control::single;
use crate::support::frames::*;
use crate::support::http2::{PREFACE, frame, get};
use crate::support::strict::Strict;
use crate::support::{PATIENCE, Proxy};

#[tokio::test]
async fn the_preface_is_what_it_has_to_be() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let (request, none) = (get(1, "/next"), frame(SETTINGS, 0, 0, &[]));
    // Nobody who speaks something else waits for a GOAWAY (§3.4).
    for (what, sends) in [
        ("a wrong preface", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"[..]),
        ("another version", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let mut client = Strict::silent(proxy.address).await;
        client.send(sends).await;
        let end = timeout(PATIENCE, client.stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{what}: no end");
    }
    for (what, first) in [
        ("SETTINGS of a stream first", frame(SETTINGS, 0, 1, &[])),
        ("PING first", frame(PING, 0, 0, &[0; 8])),
        ("HEADERS first", request.clone()),
        ("WINDOW_UPDATE first", window_update(0, 1)),
        ("an acknowledgement first", frame(SETTINGS, ACK, 0, &[])),
    ] {
        let mut client = Strict::silent(proxy.address).await;
        client.send([PREFACE, &first].concat()).await;
        client.run_for(PATIENCE / 4, |client| client.is_over).await;
        println!("3.4 {what}: {:?}, {:?}", client.goodbye, client.streams);
        assert!(client.is_over && client.streams.is_empty(), "{what}: {:?}", client.streams);
        assert!(client.goodbye.is_none_or(|(_, code)| code == PROTOCOL_ERROR), "{what}: {:?}", client.goodbye);
    }
    // Nobody has to wait for the other side's settings, and the server does not either.
    let mut client = Strict::silent(proxy.address).await;
    client.expect_ack(&[]);
    client.send([PREFACE, &none, &request].concat()).await;
    assert_eq!(client.answer(1).await.status(), 200);
    assert!(client.is_settled(), "settings are acknowledged");
}

fn after(first: Vec<u8>, then: Vec<u8>) -> Vec<u8> {
    [first, then].concat()
}

/// A request that nobody answers, and a frame behind it.
fn slow_and(then: Vec<u8>) -> Vec<u8> {
    after(get(1, "/slow"), then)
}

#[tokio::test]
async fn frames_have_their_form() {
    let node = node().await;
    let large = vec![0; 16_385];
    let whole = head("GET", "/fine", &[]);
    let reserved = |mut bytes: Vec<u8>| {
        bytes[5] |= 0x80;
        bytes
    };
    let mut cases = vec![
        case("4.1 a type that nobody knows", frame(0x42, 0, 0, &[1; 100]), Nothing),
        case("4.1 ... with all flags", frame(0xFF, 0xFF, 0, &[]), Nothing),
        case("9218 7.1 PRIORITY_UPDATE", frame(0x10, 0, 0, b"\0\0\0\x01u=3"), Nothing),
        case(
            "4.1 ... on an open stream",
            after(post(1, "/echo"), after(frame(0x42, 0xFF, 1, b"x"), frame(0, 1, 1, b"y"))),
            Answer(1, 200),
        ),
        case("4.1 ... as large as may be", frame(0x42, 0, 0, &large[1..]), Nothing),
        case("4.1 flags of PING that nobody knows", frame(PING, 0xFE, 0, &[1; 8]), Nothing),
        case("4.1 flags of HEADERS that nobody knows", frame(HEADERS, 0xD2 | 0x5, 1, &whole), Answer(1, 200)),
        case(
            "4.1 flags of DATA that nobody knows",
            after(post(1, "/echo"), frame(DATA, 0xF7, 1, b"x")),
            Answer(1, 200),
        ),
        case("4.1 flags of SETTINGS that nobody knows", frame(SETTINGS, 0xFE, 0, &[]), Nothing),
        case("4.1 flags of WINDOW_UPDATE that nobody knows", frame(WINDOW_UPDATE, 0xFF, 0, &[0, 0, 0, 1]), Nothing),
        case("4.1 the reserved bit in HEADERS", reserved(frame(HEADERS, 0x5, 1, &whole)), Answer(1, 200)),
        case("4.1 the reserved bit in PING", reserved(frame(PING, 0, 0, &[1; 8])), Nothing),
        case("4.1 the reserved bit in SETTINGS", reserved(frame(SETTINGS, 0, 0, &[])), Nothing),
        case("4.1 the reserved bit in WINDOW_UPDATE's number", frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 1]), Nothing),
        case("4.2 DATA of 16,384", after(post(1, "/echo"), frame(DATA, 1, 1, &vec![b'x'; 16_384])), Answer(1, 200)),
        case("4.2 DATA of 16,385", after(post(1, "/echo"), frame(DATA, 1, 1, &large)), Reset(1, &[FRAME_SIZE_ERROR])),
        case("4.2 HEADERS of 16,385", frame(HEADERS, 0x5, 1, &large), Goodbye(&[FRAME_SIZE_ERROR])),
        case(
            "4.2 CONTINUATION of 16,385",
            after(frame(HEADERS, 0x1, 1, &whole), frame(CONTINUATION, 0x4, 1, &large)),
            Goodbye(&[FRAME_SIZE_ERROR]),
        ),
        case("4.2 SETTINGS of 16,386", frame(SETTINGS, 0, 0, &vec![0; 16_386]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("4.2 PING of 16,385", frame(PING, 0, 0, &large), Goodbye(&[FRAME_SIZE_ERROR])),
        case(
            "4.2 a length of 2^24-1, and no more",
            [0xFF, 0xFF, 0xFF, 0x42, 0, 0, 0, 0, 0],
            Goodbye(&[FRAME_SIZE_ERROR]),
        ),
    ];
    // Nothing comes between the frames of a head (§4.3, §5.5, §6.10).
    let between: [(&str, Vec<u8>); 12] = [
        ("DATA", frame(DATA, 0, 1, b"x")),
        ("DATA of another stream", frame(DATA, 0, 3, b"x")),
        ("HEADERS", frame(HEADERS, 0x5, 1, &whole)),
        ("HEADERS of another stream", frame(HEADERS, 0x5, 3, &whole)),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9])),
        ("RST_STREAM", reset(1, CANCEL)),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PING", frame(PING, 0, 0, &[1; 8])),
        ("GOAWAY", frame(GOAWAY, 0, 0, &[0; 8])),
        ("WINDOW_UPDATE", window_update(0, 1)),
        ("CONTINUATION of another stream", frame(CONTINUATION, 0x4, 3, &[])),
        ("a type that nobody knows", frame(0x42, 0, 1, &[1])),
    ];
    cases.extend(between.map(|(what, bytes)| {
        let sends = after(frame(HEADERS, END_STREAM, 1, &whole), bytes);
        case(&format!("4.3 {what} within a head"), sends, Goodbye(&[PROTOCOL_ERROR]))
    }));
    check(&node, cases).await;
}

#[tokio::test]
async fn settings_are_checked_obeyed_and_acknowledged() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let set = |name: u16, value: u32| frame(SETTINGS, 0, 0, &settings(&[(name, value)]));
    let cases = vec![
        case("6.5 an acknowledgement of something", frame(SETTINGS, ACK, 0, &[0; 6]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.5 a length of 5", frame(SETTINGS, 0, 0, &[0; 5]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.5 a length of 7", frame(SETTINGS, 0, 0, &[0; 7]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.5 of a stream", slow_and(frame(SETTINGS, 0, 1, &[])), Goodbye(&[PROTOCOL_ERROR])),
        case("6.5 an acknowledgement of a stream", slow_and(frame(SETTINGS, ACK, 1, &[])), Goodbye(&[PROTOCOL_ERROR])),
        case("6.5.2 ENABLE_PUSH of 2", set(2, 2), Goodbye(&[PROTOCOL_ERROR])),
        case("6.5.2 INITIAL_WINDOW_SIZE of 2^31", set(4, 1 << 31), Goodbye(&[FLOW_CONTROL_ERROR])),
        case("6.5.2 INITIAL_WINDOW_SIZE of 2^32-1", set(4, u32::MAX), Goodbye(&[FLOW_CONTROL_ERROR])),
        case("6.5.2 MAX_FRAME_SIZE of 16,383", set(5, 16_383), Goodbye(&[PROTOCOL_ERROR])),
        case("6.5.2 MAX_FRAME_SIZE of 0", set(5, 0), Goodbye(&[PROTOCOL_ERROR])),
        case("6.5.2 MAX_FRAME_SIZE of 2^24", set(5, 1 << 24), Goodbye(&[PROTOCOL_ERROR])),
        case(
            "6.9.2 INITIAL_WINDOW_SIZE that is too much for an open stream",
            slow_and(after(window_update(1, 1000), set(4, (1 << 31) - 1))),
            Goodbye(&[FLOW_CONTROL_ERROR]),
        ),
    ];
    check(&node, cases).await;
    // What is fine is acknowledged, each by itself; the last value of one counts.
    for values in [
        &[][..],
        &[(2, 0)],
        &[(2, 1)],
        &[(3, 0)],
        &[(4, (1 << 31) - 1)],
        &[(5, 16_384)],
        &[(5, (1 << 24) - 1)],
        &[(6, 0)],
        &[(0x42, 7), (0xFFFF, u32::MAX), (0, 1)],
        &[(HEADER_TABLE_SIZE, u32::MAX)],
        &[(4, 0), (4, 100), (5, 20_000), (5, 16_384)],
    ] {
        let mut client = Strict::connect(proxy.address, values).await;
        for _ in 0..3 {
            client.set(values).await;
        }
        client.run("every acknowledgement", Strict::is_settled).await;
        client.send(get(1, "/fine")).await;
        assert_eq!(client.answer(1).await.text(), "fine", "{values:?}");
        assert_eq!(client.goodbye, None, "{values:?}");
    }
}

#[tokio::test]
async fn pings_goodbyes_and_window_updates_have_their_form() {
    let node = node().await;
    let most = (1 << 31) - 1;
    let cases: Vec<Case> = vec![
        case("6.7 PING of a stream", slow_and(frame(PING, 0, 1, &[0; 8])), Goodbye(&[PROTOCOL_ERROR])),
        case("6.7 a PING's answer of a stream", slow_and(frame(PING, ACK, 1, &[0; 8])), Goodbye(&[PROTOCOL_ERROR])),
        case("6.7 PING of 6", frame(PING, 0, 0, &[0; 6]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.7 PING of 9", frame(PING, 0, 0, &[0; 9]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.7 PING of nothing", frame(PING, 0, 0, &[]), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.7 an answer to no PING", frame(PING, ACK, 0, &[1; 8]), Nothing),
        case("6.8 GOAWAY of a stream", slow_and(frame(GOAWAY, 0, 1, &[0; 8])), Goodbye(&[PROTOCOL_ERROR])),
        case("6.8 GOAWAY of 7", frame(GOAWAY, 0, 0, &[0; 7]), Goodbye(&[FRAME_SIZE_ERROR])),
        case(
            "6.9 WINDOW_UPDATE of 3",
            window_update(0, 1)[..12]
                .iter()
                .enumerate()
                .map(|(at, b)| if at == 2 { 3 } else { *b })
                .collect::<Vec<u8>>(),
            Goodbye(&[FRAME_SIZE_ERROR]),
        ),
        case("6.9 WINDOW_UPDATE of 5", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1, 0]), Goodbye(&[FRAME_SIZE_ERROR])),
        case(
            "6.9 WINDOW_UPDATE of 5 of a stream",
            slow_and(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1, 0])),
            Goodbye(&[FRAME_SIZE_ERROR]),
        ),
        case("6.9 nothing for the connection", window_update(0, 0), Goodbye(&[PROTOCOL_ERROR])),
        case("6.9 nothing for a stream", slow_and(window_update(1, 0)), Reset(1, &[PROTOCOL_ERROR])),
        case("6.9.1 too much for the connection", window_update(0, most), Goodbye(&[FLOW_CONTROL_ERROR])),
        case("6.9.1 too much for a stream", slow_and(window_update(1, most)), Reset(1, &[FLOW_CONTROL_ERROR])),
        case(
            "6.9.1 too much for a stream in two parts",
            slow_and(after(window_update(1, most - 65_535), window_update(1, 1))),
            Reset(1, &[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.9.1 as much as may be",
            after(window_update(0, most - 65_535), slow_and(window_update(1, most - 65_535))),
            Nothing,
        ),
        case(
            "6.6 PUSH_PROMISE from a client",
            after(
                post(1, "/slow"),
                frame(PUSH_PROMISE, 0x4, 1, &[&[0, 0, 0, 2][..], &head("GET", "/bad", &[])].concat()),
            ),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.6 PUSH_PROMISE of no stream",
            frame(PUSH_PROMISE, 0x4, 0, &[0, 0, 0, 2, 0x82]),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case("7 a code that nobody knows in RST_STREAM", slow_and(reset(1, 0xFFFF_FFFF)), Nothing),
        case("5.4.2 a reset is answered by nothing", slow_and(reset(1, CANCEL)), Whatever(1, &[])),
    ];
    check(&node, cases).await;
}

#[tokio::test]
async fn pings_are_answered_in_order_with_what_they_brought() {
    let node = node().await;
    let proxy: Proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let pings: Vec<Vec<u8>> = (0..20_u64).map(|number| (number << 40 | 0xABCD).to_be_bytes().to_vec()).collect();
    client.send(pings.iter().flat_map(|ping| frame(PING, 0, 0, ping)).collect::<Vec<u8>>()).await;
    client.run("every answer", |client| client.pongs.len() == pings.len()).await;
    assert_eq!(client.pongs, pings);
    client.send(frame(PING, ACK, 0, &[1; 8])).await;
    client.fence().await;
    assert_eq!(client.pongs.len(), pings.len() + 1, "an answer is not answered");
}

#[tokio::test]
async fn a_goaway_names_the_last_stream_that_was_dealt_with() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    client.send([get(1, "/fine"), get(5, "/slow"), get(7, "/fine")].concat()).await;
    client.run("the answers", |client| client.ended(1) && client.ended(7)).await;
    client.send(window_update(0, 0)).await;
    client.run_for(PATIENCE, |client| client.is_over).await;
    assert_eq!(client.goodbye, Some((7, PROTOCOL_ERROR)));
    assert!(client.is_over);
}

#[tokio::test]
async fn a_client_that_says_goodbye_gets_its_answers_and_then_the_end() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    for code in [NO_ERROR, 0xABCD_EF01] {
        let mut client = Strict::connect(proxy.address, &[]).await;
        client.send([post(1, "/echo"), post(3, "/echo")].concat()).await;
        let bye = [&[0; 4], &code.to_be_bytes()[..], b"have a nice day"].concat();
        client.send(frame(GOAWAY, 0, 0, &bye)).await;
        client.fence().await;
        client.send([frame(DATA, END_STREAM, 1, b"one"), frame(DATA, END_STREAM, 3, b"three")].concat()).await;
        assert_eq!(client.answer(1).await.text(), "one");
        assert_eq!(client.answer(3).await.text(), "three");
    }
}
