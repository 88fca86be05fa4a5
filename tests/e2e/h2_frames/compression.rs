//! Heads as they are packed (§4.3, RFC 7541): what must not be read, tables that both sides hold alike, and sizes.

use super::{Answer, Goodbye, Malformed, case, check, node};
use crate::support::PATIENCE;
use crate::support::control::single;
use crate::support::frames::*;
use crate::support::hpack::{Encoder, integer, plain, resize, squeeze};
use crate::support::http2::{frame, get};
use crate::support::node::TestNode;
use crate::support::strict::Strict;

#[tokio::test]
async fn blocks_that_cannot_be_read_end_the_connection() {
    let node = node().await;
    let whole = head("GET", "/bad", &[]);
    let fine = head("GET", "/fine", &[]);
    let with = |more: &[u8]| frame(HEADERS, 5, 1, &[&whole, more].concat());
    let value = |value: &[u8]| with(&[&[0], &plain("x")[..], value].concat());
    let bad = Goodbye(&[COMPRESSION_ERROR]);
    let cases = vec![
        case("7541 2.3.3 nothing is at 0", with(&[0x80]), bad),
        case("7541 2.3.3 nothing is at 62 yet", with(&[0xBE]), bad),
        case("7541 2.3.3 nothing is at 5,000", with(&integer(0x80, 7, 5_000)), bad),
        case("7541 2.3.3 no name is at 62 yet", with(&[&[0x7E][..], &plain("y")].concat()), bad),
        case("7541 2.3.3 no name is at 4,000", with(&[integer(0, 4, 4_000), plain("y")].concat()), bad),
        case("7541 4.2 a size behind a field", with(&resize(100)), bad),
        case("7541 4.2 a size between fields", with(&[resize(0), plain("x")].concat()), bad),
        case("7541 6.3 a size above the limit", frame(HEADERS, 5, 1, &[resize(4_097), whole.clone()].concat()), bad),
        case(
            "7541 6.3 a size far above the limit",
            frame(HEADERS, 5, 1, &[resize(1 << 27), whole.clone()].concat()),
            bad,
        ),
        case(
            "7541 6.3 the largest size",
            frame(HEADERS, 5, 1, &[resize(4_096), fine.clone()].concat()),
            Answer(1, 200),
        ),
        case(
            "7541 6.3 two sizes",
            frame(HEADERS, 5, 1, &[resize(0), resize(4_096), fine.clone()].concat()),
            Answer(1, 200),
        ),
        case("7541 6.3 a size and no field", frame(HEADERS, 5, 1, &resize(0)), Malformed(1)),
        case("7541 5.1 a number that ends nowhere", with(&[0xFF, 0x80, 0x80]), bad),
        case("7541 5.1 a number beyond 32 bits", with(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), bad),
        case("7541 5.1 a number beyond 64 bits", with(&[[0xFF; 12].as_slice(), &[0x01]].concat()), bad),
        case(
            "7541 5.1 a number with a tail of nothing",
            with(&[[0xFF].as_slice(), &[0x80; 30], &[0x00]].concat()),
            bad,
        ),
        case("7541 5.2 a text that ends nowhere", value(&[5, b'a', b'b']), bad),
        case("7541 5.2 a text far longer than its block", value(&integer(0, 7, 1 << 24)), bad),
        case("7541 5.2 a text beyond 64 bits", value(&[[0x7F].as_slice(), &[0xFF; 10], &[0x01]].concat()), bad),
        case("7541 5.2 a value is missing", with(&[&[0][..], &plain("x")].concat()), bad),
        case("7541 5.2 a name is missing", with(&[0]), bad),
        case("7541 5.2 zeros for padding", value(&[0x81, 0b0001_1000]), bad),
        case("7541 5.2 a whole byte of padding", value(&[0x82, 0b0001_1111, 0xFF]), bad),
        case("7541 5.2 nothing but padding", value(&[0x81, 0xFF]), bad),
        case("7541 5.2 the end within a text", value(&[0x85, 0xFF, 0xFF, 0xFF, 0xFC, 0b0001_1111]), bad),
        case("7541 5.2 a code that is cut off", value(&[0x82, 0xFF, 0xFF]), bad),
        case("4.3 a block that breaks off at END_HEADERS", frame(HEADERS, 5, 1, &fine[..fine.len() - 1]), bad),
        case(
            "4.3 a bad block in CONTINUATION",
            [frame(HEADERS, 1, 1, &whole), frame(CONTINUATION, 4, 1, &[0x80])].concat(),
            bad,
        ),
        case("4.3 a bad block of trailers", [post(1, "/echo"), frame(HEADERS, 5, 1, &[0x80])].concat(), bad),
        case(
            "4.3 a bad block of a stream beyond use",
            [get(1, "/slow"), reset(1, CANCEL), frame(HEADERS, 5, 3, &[0x80])].concat(),
            bad,
        ),
        case(
            "7541 5.2 a Huffman text of nothing",
            frame(HEADERS, 5, 1, &[&fine[..], &[0], &plain("x"), &[0x80]].concat()),
            Answer(1, 200),
        ),
        case(
            "7541 6.2.3 never indexed",
            frame(HEADERS, 5, 1, &[&fine[..], &[0x10], &plain("x"), &plain("y")].concat()),
            Answer(1, 200),
        ),
    ];
    check(&node, cases).await;
}

/// A request through an encoder.
fn packed(encoder: &mut Encoder, id: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| encoder.field(name, value)).collect();
    frame(HEADERS, flags | END_HEADERS, id, &block)
}

#[tokio::test]
async fn both_ends_hold_the_same_table_over_many_heads() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let told = request
                .headers
                .iter()
                .filter(|(name, _)| name.starts_with("x-n"))
                .map(|(name, value)| format!("{name}={value};"));
            let told: String = told.collect();
            // Fields of the answer for the proxy's own table, more than it holds.
            let fields: Vec<String> =
                (0..5).map(|number| format!("x-{}: {}\r\n", told.len() % 7 + number, told.len() * number)).collect();
            let fields = fields.concat();
            peer.send(format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{told}", told.len())).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let mut encoder = Encoder::new(4_096);
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..150_u32 {
        let id = 2 * number + 1;
        let resized = match number {
            50 => encoder.resize(300),
            // A table of nothing, and a new one.
            100 => [encoder.resize(0), encoder.resize(4_096)].concat(),
            _ => Vec::new(),
        };
        let mut own: Vec<(String, String)> = (0..random.usize(1..6))
            .map(|_| (format!("x-n{}", random.u8(..12)), "v".repeat(random.usize(..9)) + &random.u8(..9).to_string()))
            .collect();
        // One name once, so that nobody has to say what becomes of two.
        own.sort();
        own.dedup_by(|one, other| one.0 == other.0);
        if number % 20 == 19 {
            // Larger than the table: it empties it and is not kept.
            own.push(("x-nz".into(), "z".repeat(5_000)));
        }
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "app.test"), (":path", "/")];
        fields.extend(own.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut sent = packed(&mut encoder, id, END_STREAM, &fields);
        if !resized.is_empty() {
            let block = [resized, sent.split_off(9)].concat();
            sent = frame(HEADERS, 5, id, &block);
        }
        client.send(sent).await;
        let answer = client.answer(id).await;
        let mut told: Vec<&str> = std::str::from_utf8(&answer.body).expect("text").split_terminator(';').collect();
        told.sort_unstable();
        let mut asked: Vec<String> = own.iter().map(|(name, value)| format!("{name}={value}")).collect();
        asked.sort_unstable();
        assert_eq!(told, asked, "{number}: {answer:?}");
    }
    assert!(encoder.len() > 0);
}

#[tokio::test]
async fn heads_of_requests_that_fail_count_for_the_table_too() {
    let node = TestNode::echoing().await;
    let proxy = single(&[node.address], "[limits]\nstreams = 1");
    let usual = [(":method", "POST"), (":scheme", "http"), (":authority", "app.test"), (":path", "/echo")];
    let names = ["x-refused", "x-malformed", "x-left", "x-trailer", "x-late"];
    let mut client = Strict::connect(proxy.address, &[]).await;
    let mut encoder = Encoder::new(4_096);
    client.send(packed(&mut encoder, 1, 0, &usual)).await;
    // One too many, and one that is malformed as well.
    let mut refused = usual.to_vec();
    refused.push((names[0], "1"));
    client.send(packed(&mut encoder, 3, END_STREAM, &refused)).await;
    assert_eq!(client.answer(3).await.reset, Some(REFUSED_STREAM));
    // The trailers of a good one.
    client.send(packed(&mut encoder, 1, END_STREAM, &[(names[3], "4")])).await;
    assert_eq!(client.answer(1).await.status(), 200);
    let mut malformed = usual.to_vec();
    malformed.extend([("connection", "x"), (names[1], "2")]);
    client.send(packed(&mut encoder, 5, END_STREAM, &malformed)).await;
    let answer = client.answer(5).await;
    assert!(answer.status() == 400 || answer.reset == Some(PROTOCOL_ERROR), "{answer:?}");
    // Reset before anybody has looked at it.
    let mut left = usual.to_vec();
    left.push((names[2], "3"));
    client.send([packed(&mut encoder, 7, 0, &left), reset(7, CANCEL)].concat()).await;
    client.fence().await;
    // And trailers that come when their stream was reset already: they may end the connection, but not spoil the table.
    client.send([packed(&mut encoder, 9, 0, &usual), reset(9, CANCEL)].concat()).await;
    client.send(packed(&mut encoder, 11, END_STREAM, &usual)).await;
    client.answer(11).await;
    for (number, value) in [(0, "1"), (1, "2"), (2, "3"), (3, "4")] {
        let mut ask = usual.to_vec();
        ask.push((names[number], value));
        let id = 13 + 2 * number as u32;
        client.send(packed(&mut encoder, id, END_STREAM, &ask)).await;
        assert_eq!(client.answer(id).await.status(), 200, "{}", names[number]);
        let seen = node.requests().pop().expect("a request");
        assert_eq!(seen.header(names[number]), Some(value));
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_counts_for_the_table_or_ends_the_connection() {
    let node = TestNode::echoing().await;
    let proxy = single(&[node.address], "");
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", "app.test"), (":path", "/echo")];
    let most = "z".repeat(3_000);
    // Above the limit by a little, by much, and by one field.
    for (count, size) in [(25, 3_000), (100, 3_000), (1, 70_000)] {
        let mut client = Strict::connect(proxy.address, &[]).await;
        let mut encoder = Encoder::new(4_096);
        let large = "y".repeat(size);
        let names: Vec<String> = (0..count).map(|number| format!("x-{number}")).collect();
        let mut fields = usual.to_vec();
        fields.extend(names.iter().map(|name| (name.as_str(), large.as_str())));
        // The last of the table, which the next request names by its number.
        fields.push(("x-own", &most));
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| encoder.field(name, value)).collect();
        let pieces = block.chunks(16_000).enumerate().map(|(number, piece)| {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let flags = if number == 0 { END_STREAM } else { 0 };
            let last = (number + 1) * 16_000 >= block.len();
            frame(kind, if last { flags | END_HEADERS } else { flags }, 1, piece)
        });
        let all: Vec<Vec<u8>> = pieces.collect();
        client.send(all.concat()).await;
        client.run_for(PATIENCE, |client| client.ended(1) || client.is_over).await;
        let heard = client.heard(1);
        println!("10.5.1 {count} fields of {size}: {}, {:?}, {:?}", heard.status(), heard.reset, client.goodbye);
        assert!(client.is_over || heard.status() == 431 || heard.reset.is_some(), "{heard:?}");
        assert!(node.requests().iter().all(|request| request.header("x-0").is_none()));
        if client.is_over {
            continue;
        }
        let mut ask = usual.to_vec();
        ask.push(("x-own", &most));
        let sent = packed(&mut encoder, 3, END_STREAM, &ask);
        assert!(sent.len() < 100, "it names what the other one brought");
        client.send(sent).await;
        client.run_for(PATIENCE, |client| client.ended(3) || client.is_over).await;
        if client.is_over {
            continue;
        }
        assert_eq!(client.answer(3).await.status(), 200);
        assert_eq!(node.requests().pop().expect("a request").header("x-own"), Some(most.as_str()));
    }
}

/// Asks for some answers whose fields are worth a place in a table.
async fn ask_some(client: &mut Strict, ids: std::ops::Range<u32>) {
    for id in ids.map(|number| 2 * number + 1) {
        client.send(get(id, "/x")).await;
        let answer = client.answer(id).await;
        assert_eq!(
            (answer.status(), answer.header("x-own"), answer.header("x-long").map(str::len)),
            (200, Some("1"), Some(90))
        );
    }
}

#[tokio::test]
async fn the_clients_table_is_never_made_larger_than_it_says() {
    let node = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            let long = "l".repeat(90);
            peer.send(format!("HTTP/1.1 200 OK\r\nx-own: 1\r\nx-long: {long}\r\ncontent-length: 2\r\n\r\nok")).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    // From the first head on, and in between: the reader is strict about the size that a block begins with.
    for size in [0, 40, 100, 4_095, 4_096, 65_536, u32::MAX] {
        let mut client = Strict::connect(proxy.address, &[(HEADER_TABLE_SIZE, size)]).await;
        ask_some(&mut client, 0..5).await;
        assert!(size > 0 || client.decoder.len() == 0);
    }
    let mut client = Strict::connect(proxy.address, &[]).await;
    ask_some(&mut client, 0..5).await;
    let mut begin = 5;
    for sizes in [&[0][..], &[4_096], &[100], &[0, 4_096], &[4_096, 0, 200], &[10_000], &[64]] {
        for size in sizes {
            client.set(&[(HEADER_TABLE_SIZE, *size)]).await;
        }
        client.run("the acknowledgements", Strict::is_settled).await;
        ask_some(&mut client, begin..begin + 5).await;
        begin += 5;
    }
    // With an answer under way, whose head is older.
    client.send(get(2 * begin + 1, "/x")).await;
    client.set(&[(HEADER_TABLE_SIZE, 0)]).await;
    client.run("both", |client| client.is_settled() && client.ended(2 * begin + 1)).await;
    ask_some(&mut client, begin + 1..begin + 4).await;
}

#[tokio::test]
async fn huffman_texts_of_every_byte_come_through() {
    let node = TestNode::echoing().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let text: Vec<u8> = (b'!'..=b'~').collect();
    let squeezed = squeeze(&text);
    let field = [&[0][..], &plain("x-all"), &integer(0x80, 7, squeezed.len()), &squeezed].concat();
    client.send(frame(HEADERS, 5, 1, &[head("GET", "/", &[]), field].concat())).await;
    assert_eq!(client.answer(1).await.status(), 200);
    assert_eq!(node.requests()[0].header("x-all").map(str::as_bytes), Some(&text[..]));
    assert!(client.run_for(PATIENCE, |client| client.goodbye.is_none()).await);
}
