//! What concerns one stream: its states, its number, the frames that it is made of (§5.1, §5.3, §6.1 to 6.4, §6.10).

use super::{Answer, Goodbye, Malformed, Nothing, Reset, Whatever, case, check, node};
use crate::support::control::single;
use crate::support::frames::*;
use crate::support::http2::{frame, get};
use crate::support::strict::Strict;

#[tokio::test]
async fn streams_have_their_states() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let whole = head("GET", "/bad", &[]);
    let closed: &[u32] = &[STREAM_CLOSED];
    let gone: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    let behind = |first: Vec<u8>, then: Vec<u8>| [first, then].concat();
    let slow = |then: Vec<u8>| behind(get(1, "/slow"), then);
    let left = |then: Vec<u8>| behind(slow(reset(1, CANCEL)), then);
    let cases = vec![
        case("5.1 idle: DATA", frame(DATA, 1, 1, b"x"), Goodbye(gone)),
        case("5.1 idle: RST_STREAM", reset(1, CANCEL), Goodbye(&[PROTOCOL_ERROR])),
        case("5.1 idle: WINDOW_UPDATE", window_update(1, 100), Goodbye(&[PROTOCOL_ERROR])),
        case("5.1 idle: CONTINUATION", frame(CONTINUATION, 4, 1, &whole), Goodbye(&[PROTOCOL_ERROR])),
        case("5.1 idle: PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), Nothing),
        case("5.1 idle behind a used one: DATA", behind(get(1, "/slow"), frame(DATA, 1, 3, b"x")), Goodbye(gone)),
        case("5.1 idle: a stream of the server's: RST_STREAM", reset(2, CANCEL), Goodbye(&[PROTOCOL_ERROR])),
        case("5.1 idle: a stream of the server's: WINDOW_UPDATE", window_update(2, 1), Goodbye(&[PROTOCOL_ERROR])),
        case("5.1 half-closed: DATA", slow(frame(DATA, 1, 1, b"x")), Reset(1, closed)),
        case("5.1 half-closed: HEADERS", slow(frame(HEADERS, 5, 1, &whole)), Reset(1, closed)),
        case("5.1 half-closed: CONTINUATION", slow(frame(CONTINUATION, 4, 1, &whole)), Goodbye(gone)),
        case("5.1 half-closed: WINDOW_UPDATE", behind(get(1, "/fine"), window_update(1, 9)), Answer(1, 200)),
        case("5.1 half-closed: PRIORITY", behind(get(1, "/fine"), frame(PRIORITY, 0, 1, &[0; 5])), Answer(1, 200)),
        case("5.1 half-closed: RST_STREAM", slow(reset(1, CANCEL)), Nothing),
        case("5.1 closed by a reset: DATA", left(frame(DATA, 1, 1, b"x")), Whatever(1, closed)),
        case("5.1 closed by a reset: HEADERS", left(frame(HEADERS, 5, 1, &whole)), Whatever(1, gone)),
        case("5.1 closed by a reset: WINDOW_UPDATE", left(window_update(1, 1)), Nothing),
        case("5.1 closed by a reset: RST_STREAM", left(reset(1, CANCEL)), Whatever(1, &[])),
        case("5.1 closed by a reset: PRIORITY", left(frame(PRIORITY, 0, 1, &[0; 5])), Nothing),
        case("5.1 closed by a reset: CONTINUATION", left(frame(CONTINUATION, 4, 1, &whole)), Goodbye(gone)),
        case("5.1.1 an even number", frame(HEADERS, 5, 2, &whole), Goodbye(&[PROTOCOL_ERROR])),
        case("5.1.1 a lower number", behind(get(5, "/slow"), frame(HEADERS, 5, 3, &whole)), Goodbye(gone)),
        case("5.1.1 the highest number", get((1 << 31) - 1, "/fine"), Answer((1 << 31) - 1, 200)),
        case("5.1.1 numbers left out", behind(get(1, "/fine"), get(1001, "/fine")), Answer(1001, 200)),
    ];
    // Behind the highest number there is none for the next request.
    let (last, cases): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.what.contains("highest"));
    check(&node, cases).await;
    let mut client = Strict::connect(proxy.address, &[]).await;
    client.send(&last[0].sends).await;
    assert_eq!(client.answer((1 << 31) - 1).await.text(), "fine");
}

#[tokio::test]
async fn a_stream_that_was_answered_is_closed() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let whole = head("GET", "/bad", &[]);
    // What follows, the codes of an error that is allowed, and whether nothing at all is.
    let gone: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    for (what, then, codes) in [
        ("DATA", frame(DATA, 1, 1, b"x"), gone),
        ("HEADERS", frame(HEADERS, 5, 1, &whole), gone),
        ("WINDOW_UPDATE", window_update(1, 1), &[]),
        ("WINDOW_UPDATE of too much", window_update(1, (1 << 31) - 1), &[FLOW_CONTROL_ERROR]),
        ("RST_STREAM", reset(1, CANCEL), &[]),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), &[]),
    ] {
        let mut client = Strict::connect(proxy.address, &[]).await;
        client.send(get(1, "/fine")).await;
        assert_eq!(client.answer(1).await.text(), "fine");
        client.send([then, get(3, "/next")].concat()).await;
        client.run_for(crate::support::PATIENCE, |client| client.is_over || client.ended(3)).await;
        println!("5.1 closed by its answer: {what}: {:?}, {:?}", client.goodbye, client.heard(1).reset);
        match client.goodbye {
            Some((_, code)) => assert!(codes.contains(&code), "{what}: {code}"),
            None => assert_eq!(client.heard(3).text(), "fine", "{what}"),
        }
        assert!(client.heard(1).reset.is_none_or(|code| codes.contains(&code)), "{what}: {:?}", client.heard(1));
    }
    assert!(node.requests().iter().all(|request| !request.line.contains("bad")));
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_served() {
    let node = node().await;
    let proxy = single(&[node.address], "[limits]\nstreams = 5");
    let mut client = Strict::connect(proxy.address, &[]).await;
    assert_eq!(client.settings.get(&MAX_CONCURRENT_STREAMS), Some(&5));
    let opens: Vec<u8> = (0..5).flat_map(|number| post(2 * number + 1, "/echo")).collect();
    client.send(opens).await;
    for id in [11, 13, 15] {
        client.send(get(id, "/bad")).await;
        assert_eq!(client.answer(id).await.reset, Some(REFUSED_STREAM));
    }
    for id in [1, 3, 5, 7, 9] {
        client.send(frame(DATA, END_STREAM, id, id.to_string().as_bytes())).await;
        assert_eq!(client.answer(id).await.text(), id.to_string());
    }
    // Places that are free are given again.
    for id in [17, 19, 21, 23, 25, 27] {
        client.send(get(id, "/fine")).await;
        assert_eq!(client.answer(id).await.text(), "fine");
    }
    assert_eq!(client.goodbye, None);
}

#[tokio::test]
async fn data_and_headers_have_their_form() {
    let node = node().await;
    let fine = head("GET", "/fine", &[]);
    let padded = |padding: u8, more: &[u8], given: usize| [&[padding], more, &vec![0; given][..]].concat();
    let ask = |then: Vec<u8>| [post(1, "/echo"), then].concat();
    let depends = |on: u32, block: &[u8]| [&on.to_be_bytes()[..], &[15], block].concat();
    let (first, rest) = fine.split_at(20);
    let bytes: Vec<u8> = fine.iter().flat_map(|byte| frame(CONTINUATION, 0, 1, &[*byte])).take(4 * 10).collect();
    let cases = vec![
        case("6.1 DATA of nothing", ask([frame(DATA, 0, 1, &[]), frame(DATA, 1, 1, &[])].concat()), Answer(1, 200)),
        case(
            "6.1 DATA of a GET",
            [frame(HEADERS, 4, 1, &head("GET", "/echo", &[])), frame(DATA, 1, 1, b"x")].concat(),
            Answer(1, 200),
        ),
        case("6.1 DATA of stream 0", ask(frame(DATA, 1, 0, b"x")), Goodbye(&[PROTOCOL_ERROR])),
        case("6.1 DATA, padded", ask(frame(DATA, 9, 1, &padded(5, b"x", 5))), Answer(1, 200)),
        case("6.1 DATA, padded by nothing", ask(frame(DATA, 9, 1, &padded(0, b"x", 0))), Answer(1, 200)),
        case("6.1 DATA that is all padding", ask(frame(DATA, 9, 1, &padded(255, b"", 255))), Answer(1, 200)),
        case("6.1 padding as long as DATA", ask(frame(DATA, 9, 1, &padded(6, b"", 5))), Goodbye(&[PROTOCOL_ERROR])),
        case("6.1 padding longer than DATA", ask(frame(DATA, 9, 1, &padded(200, b"x", 5))), Goodbye(&[PROTOCOL_ERROR])),
        case(
            "6.1 DATA without the padding's length",
            ask(frame(DATA, 9, 1, &[])),
            Goodbye(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        case("6.2 HEADERS of stream 0", frame(HEADERS, 5, 0, &fine), Goodbye(&[PROTOCOL_ERROR])),
        case("6.2 HEADERS, padded", frame(HEADERS, 0xD, 1, &padded(7, &fine, 7)), Answer(1, 200)),
        case("6.2 HEADERS, padded by nothing", frame(HEADERS, 0xD, 1, &padded(0, &fine, 0)), Answer(1, 200)),
        case(
            "6.2 padding longer than HEADERS",
            frame(HEADERS, 0xD, 1, &padded(255, &fine, 5)),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case("6.2 padding as long as HEADERS", frame(HEADERS, 0xD, 1, &padded(3, &[], 2)), Goodbye(&[PROTOCOL_ERROR])),
        case(
            "6.2 HEADERS without the padding's length",
            frame(HEADERS, 0xD, 1, &[]),
            Goodbye(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        case("6.2 HEADERS with a priority", frame(HEADERS, 0x25, 1, &depends(0, &fine)), Answer(1, 200)),
        case(
            "6.2 HEADERS with an exclusive priority",
            frame(HEADERS, 0x25, 1, &depends(0x8000_0077, &fine)),
            Answer(1, 200),
        ),
        case(
            "6.2 HEADERS that depend on themselves",
            frame(HEADERS, 0x25, 1, &depends(1, &fine)),
            Whatever(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "6.2 HEADERS with a part of a priority",
            frame(HEADERS, 0x25, 1, &[0, 0, 0, 0]),
            Goodbye(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "6.2 HEADERS, padded, with a priority",
            frame(HEADERS, 0x2D, 1, &padded(9, &depends(0, &fine), 9)),
            Answer(1, 200),
        ),
        case(
            "6.2 padding that takes the priority",
            frame(HEADERS, 0x2D, 1, &padded(9, &depends(0, &[]), 6)),
            Goodbye(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        case("6.2 HEADERS of nothing", frame(HEADERS, 5, 1, &[]), Malformed(1)),
        case("6.3 PRIORITY of stream 0", frame(PRIORITY, 0, 0, &[0; 5]), Goodbye(&[PROTOCOL_ERROR])),
        case(
            "6.3 PRIORITY of 4",
            [get(1, "/slow"), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
            Reset(1, &[FRAME_SIZE_ERROR]),
        ),
        case(
            "6.3 PRIORITY of 6",
            [get(1, "/slow"), frame(PRIORITY, 0, 1, &[0; 6])].concat(),
            Reset(1, &[FRAME_SIZE_ERROR]),
        ),
        case(
            "5.3 PRIORITY on itself",
            ask([frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), frame(0, 1, 1, b"x")].concat()),
            Whatever(1, &[PROTOCOL_ERROR]),
        ),
        case("5.3 PRIORITY of another stream to come", frame(PRIORITY, 0, 77, &[0x80, 0, 0, 1, 9]), Nothing),
        case("6.4 RST_STREAM of stream 0", reset(0, CANCEL), Goodbye(&[PROTOCOL_ERROR])),
        case("6.4 RST_STREAM of 3", ask(frame(RST_STREAM, 0, 1, &[0; 3])), Goodbye(&[FRAME_SIZE_ERROR])),
        case("6.4 RST_STREAM of 5", ask(frame(RST_STREAM, 0, 1, &[0; 5])), Goodbye(&[FRAME_SIZE_ERROR])),
        case(
            "6.10 a head in two frames",
            [frame(HEADERS, 1, 1, first), frame(CONTINUATION, 4, 1, rest)].concat(),
            Answer(1, 200),
        ),
        case(
            "6.10 a head in six frames",
            [frame(HEADERS, 1, 1, &[]), bytes, frame(CONTINUATION, 4, 1, &fine[4..])].concat(),
            Answer(1, 200),
        ),
        case(
            "6.10 the end of a head alone",
            [frame(HEADERS, 1, 1, &fine), frame(CONTINUATION, 4, 1, &[])].concat(),
            Answer(1, 200),
        ),
        case(
            "6.10 a padded head in two frames",
            [frame(HEADERS, 9, 1, &padded(3, first, 3)), frame(CONTINUATION, 4, 1, rest)].concat(),
            Answer(1, 200),
        ),
        case(
            "6.10 CONTINUATION of stream 0",
            [frame(HEADERS, 1, 1, first), frame(CONTINUATION, 4, 0, rest)].concat(),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10 CONTINUATION of another stream",
            [frame(HEADERS, 1, 1, first), frame(CONTINUATION, 4, 3, rest)].concat(),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case("6.10 CONTINUATION behind a whole head", ask(frame(CONTINUATION, 4, 1, &[])), Goodbye(&[PROTOCOL_ERROR])),
        case(
            "6.10 CONTINUATION behind DATA",
            ask([frame(DATA, 0, 1, b"x"), frame(CONTINUATION, 4, 1, &[])].concat()),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10 CONTINUATION behind a head's last",
            [frame(HEADERS, 1, 1, first), frame(CONTINUATION, 4, 1, rest), frame(CONTINUATION, 4, 1, &[])].concat(),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
        case("6.10 CONTINUATION first of all", frame(CONTINUATION, 4, 0, &fine), Goodbye(&[PROTOCOL_ERROR])),
    ];
    check(&node, cases).await;
}
