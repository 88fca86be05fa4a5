//! Requests as messages: pseudo-fields, fields, trailers, lengths (§8). What is malformed never comes to a node, and costs no
//! other stream anything.

use super::{Answer, Case, Goodbye, Malformed, Reset, case, check, node};
use crate::support::frames::*;
use crate::support::http2::frame;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const HOST: (&str, &str) = (":authority", "app.test");
const PATH: (&str, &str) = (":path", "/bad");

/// A head of these fields alone, malformed.
fn bad(what: &str, fields: &[(&str, &str)]) -> Case {
    case(what, frame(HEADERS, 5, 1, &block(fields)), Malformed(1))
}

#[tokio::test]
async fn pseudo_fields_are_those_that_there_are_each_once_and_first() {
    let node = node().await;
    let cases = vec![
        bad("8.3 no :method", &[SCHEME, HOST, PATH]),
        bad("8.3 no :scheme", &[METHOD, HOST, PATH]),
        bad("8.3 no :path", &[METHOD, SCHEME, HOST]),
        bad("8.3 no pseudo-field at all", &[("x", "y")]),
        bad("8.3 two :method", &[METHOD, METHOD, SCHEME, HOST, PATH]),
        bad("8.3 two :method that differ", &[METHOD, (":method", "POST"), SCHEME, HOST, PATH]),
        bad("8.3 two :scheme", &[METHOD, SCHEME, SCHEME, HOST, PATH]),
        bad("8.3 two :path", &[METHOD, SCHEME, HOST, PATH, (":path", "/fine")]),
        bad("8.3 two :authority", &[METHOD, SCHEME, HOST, (":authority", "other.test"), PATH]),
        bad("8.3 behind a field", &[METHOD, SCHEME, HOST, ("x", "y"), PATH]),
        bad("8.3 :authority behind a field", &[METHOD, SCHEME, PATH, ("x", "y"), HOST]),
        bad("8.3 one that nobody knows", &[METHOD, SCHEME, HOST, PATH, (":unknown", "x")]),
        bad("8.3 one of an answer", &[METHOD, SCHEME, HOST, PATH, (":status", "200")]),
        bad("8.3 one without a name", &[METHOD, SCHEME, HOST, PATH, (":", "x")]),
        bad("8.3 one in upper case", &[METHOD, SCHEME, HOST, (":Path", "/bad")]),
        bad("8.3.1 :path of nothing", &[METHOD, SCHEME, HOST, (":path", "")]),
        bad("8.3.1 :path without its slash", &[METHOD, SCHEME, HOST, (":path", "bad")]),
        bad("8.3.1 :path that is a URL", &[METHOD, SCHEME, HOST, (":path", "http://app.test/bad")]),
        bad("8.3.1 :path of * for GET", &[METHOD, SCHEME, HOST, (":path", "*")]),
        bad("8.3.1 :path with a space", &[METHOD, SCHEME, HOST, (":path", "/bad b")]),
        bad("8.3.1 :path with a line's end", &[METHOD, SCHEME, HOST, (":path", "/bad\r\nx: y")]),
        bad("8.3.1 :path with a zero", &[METHOD, SCHEME, HOST, (":path", "/bad\0")]),
        bad(
            "8.3.1 :path with a line of HTTP/1",
            &[METHOD, SCHEME, HOST, (":path", "/bad HTTP/1.1\r\nhost: x\r\n\r\n")],
        ),
        bad("8.3.1 :method of nothing", &[(":method", ""), SCHEME, HOST, PATH]),
        bad("8.3.1 :method with a space", &[(":method", "GET /bad"), SCHEME, HOST, PATH]),
        bad("8.3.1 :method with a line's end", &[(":method", "GET\r\n"), SCHEME, HOST, PATH]),
        bad("8.3.1 :scheme of nothing", &[METHOD, (":scheme", ""), HOST, PATH]),
        bad("8.3.1 :scheme with a space", &[METHOD, (":scheme", "ht tp"), HOST, PATH]),
        bad("8.3.1 :scheme with a slash", &[METHOD, (":scheme", "http://x/"), HOST, PATH]),
        bad("8.3.1 :authority of nothing", &[METHOD, SCHEME, (":authority", ""), PATH]),
        bad("8.3.1 :authority with somebody's name", &[METHOD, SCHEME, (":authority", "me@app.test"), PATH]),
        bad("8.3.1 :authority with a path", &[METHOD, SCHEME, (":authority", "app.test/bad"), PATH]),
        bad("8.3.1 :authority with a space", &[METHOD, SCHEME, (":authority", "app test"), PATH]),
        bad("8.3.1 :authority and another host", &[METHOD, SCHEME, HOST, PATH, ("host", "other.test")]),
        bad("8.3.1 neither :authority nor a host", &[METHOD, SCHEME, PATH]),
        bad("8.5 CONNECT without :authority", &[(":method", "CONNECT")]),
        bad("8.5 CONNECT with :path", &[(":method", "CONNECT"), HOST, PATH]),
        bad("8.5 CONNECT with :scheme", &[(":method", "CONNECT"), HOST, SCHEME]),
        bad("8441 4 :protocol with GET", &[METHOD, SCHEME, HOST, PATH, (":protocol", "websocket")]),
        bad("8441 4 :protocol without :path", &[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, HOST]),
        bad("8441 4 :protocol without :scheme", &[(":method", "CONNECT"), (":protocol", "websocket"), PATH, HOST]),
        case("8.3.1 a :method that nobody knows", frame(HEADERS, 5, 1, &head("BREW", "/fine", &[])), Answer(1, 200)),
        case("8.5 CONNECT", frame(HEADERS, 5, 1, &block(&[(":method", "CONNECT"), HOST])), Answer(1, 405)),
        case(
            "8.3.1 OPTIONS of *",
            frame(HEADERS, 5, 1, &block(&[(":method", "OPTIONS"), SCHEME, HOST, (":path", "*")])),
            Answer(1, 200),
        ),
        case(
            "8.3.1 the same host",
            frame(HEADERS, 5, 1, &head("GET", "/fine", &[("host", "app.test")])),
            Answer(1, 200),
        ),
        case(
            "8.3.1 a host alone",
            frame(HEADERS, 5, 1, &block(&[METHOD, SCHEME, (":path", "/fine"), ("host", "app.test")])),
            Answer(1, 200),
        ),
        case(
            "8.3.1 https over cleartext",
            frame(HEADERS, 5, 1, &block(&[METHOD, (":scheme", "https"), HOST, (":path", "/fine")])),
            Answer(1, 200),
        ),
    ];
    check(&node, cases).await;
}

#[tokio::test]
async fn fields_have_their_form_and_leave_http_1_alone() {
    let node = node().await;
    let mut cases: Vec<Case> = [
        ("8.2 upper case", "X-Upper", "y"),
        ("8.2 one letter in upper case", "host-x-A", "y"),
        ("8.2.1 a name with a space", "x y", "z"),
        ("8.2.1 a name with a space behind", "x ", "z"),
        ("8.2.1 a name with a colon", "x:y", "z"),
        ("8.2.1 a name of nothing", "", "z"),
        ("8.2.1 a name with a line's end", "x\r\ny", "z"),
        ("8.2.1 a name with a zero", "x\0", "z"),
        ("8.2.1 a name with DEL", "x\x7F", "z"),
        ("8.2.1 a name with a letter beyond ASCII", "x\u{e4}", "z"),
        ("8.2.1 a value with a zero", "x", "a\0b"),
        ("8.2.1 a value with CR", "x", "a\rb"),
        ("8.2.1 a value with LF", "x", "a\nb"),
        ("8.2.1 a value with a field", "x", "a\r\ny: z"),
        ("8.2.1 a space before a value", "x", " y"),
        ("8.2.1 a space behind a value", "x", "y "),
        ("8.2.1 a tab before a value", "x", "\ty"),
        ("8.2.1 a tab behind a value", "x", "y\t"),
        ("8.2.2 connection", "connection", "close"),
        ("8.2.2 connection of a field", "connection", "x-other"),
        ("8.2.2 keep-alive", "keep-alive", "timeout=5"),
        ("8.2.2 proxy-connection", "proxy-connection", "keep-alive"),
        ("8.2.2 transfer-encoding", "transfer-encoding", "chunked"),
        ("8.2.2 upgrade", "upgrade", "websocket"),
        ("8.2.2 te of gzip", "te", "gzip"),
        ("8.2.2 te of trailers and more", "te", "trailers, deflate"),
        ("8.1.1 a length of no number", "content-length", "x"),
        ("8.1.1 a length with a sign", "content-length", "+0"),
        ("8.1.1 a length of two", "content-length", "0, 1"),
        ("8.1.1 a length beyond all bounds", "content-length", "99999999999999999999999999"),
    ]
    .into_iter()
    .map(|(what, name, value)| case(what, frame(HEADERS, 5, 1, &head("GET", "/bad", &[(name, value)])), Malformed(1)))
    .collect();
    let fine = |what: &str, more: &[(&str, &str)]| {
        case(what, frame(HEADERS, 5, 1, &head("GET", "/fine", more)), Answer(1, 200))
    };
    cases.extend([
        fine("8.2.1 a value of nothing", &[("x", "")]),
        fine("8.2.1 a space within a value", &[("x", "a b\tc")]),
        fine("8.2.1 every sign of a name", &[("!#$%&'*+-.^_`|~09az", "x")]),
        fine("8.2.2 te of trailers", &[("te", "trailers")]),
        fine("8.2.3 a hundred cookies", &[("cookie", "a=b"); 90]),
        fine("8.1.1 a length of nothing", &[("content-length", "0")]),
        case(
            "8.1.1 two lengths",
            frame(HEADERS, 4, 1, &head("POST", "/bad", &[("content-length", "1"), ("content-length", "2")])),
            Malformed(1),
        ),
    ]);
    check(&node, cases).await;
}

#[tokio::test]
async fn bodies_are_as_long_as_they_say() {
    let node = node().await;
    let sized = |length: &str, end: bool| {
        let head = head("POST", "/echo", &[("content-length", length)]);
        frame(HEADERS, if end { 5 } else { 4 }, 1, &head)
    };
    let data = |end: u8, data: &[u8]| frame(DATA, end, 1, data);
    let trailers = |end: u8, fields: &[(&str, &str)]| frame(HEADERS, 4 | end, 1, &block(fields));
    let padded = |end: u8| frame(DATA, PADDED | end, 1, &[3, b'a', b'b', b'c', 0, 0, 0]);
    // These reach a node with a head, never as a whole request.
    let cases = vec![
        case("8.1.1 no body, and a length", sized("5", true), Malformed(1)),
        case("8.1.1 too little", [sized("5", false), data(1, b"four")].concat(), Malformed(1)),
        case(
            "8.1.1 too little, ended apart",
            [sized("5", false), data(0, b"four"), data(1, b"")].concat(),
            Malformed(1),
        ),
        case(
            "8.1.1 too little, and trailers",
            [sized("5", false), data(0, b"four"), trailers(1, &[("x", "y")])].concat(),
            Malformed(1),
        ),
        case("8.1.1 too much", [sized("3", false), data(1, b"four")].concat(), Malformed(1)),
        case(
            "8.1.1 too much, in two frames",
            [sized("5", false), data(0, b"four"), data(1, b"four")].concat(),
            Malformed(1),
        ),
        case(
            "8.1.1 too much, and no end",
            [sized("5", false), data(0, b"four"), data(0, b"four")].concat(),
            Reset(1, &[PROTOCOL_ERROR]),
        ),
        case("8.1.1 something where nothing was said", [sized("0", false), data(1, b"x")].concat(), Malformed(1)),
        case("8.1.1 padding is no body", [sized("4", false), padded(1)].concat(), Malformed(1)),
        case("8.1.1 as much as said", [sized("3", false), padded(1)].concat(), Answer(1, 200)),
        case(
            "8.1.1 as much as said, ended apart",
            [sized("4", false), data(0, b"four"), data(1, b"")].concat(),
            Answer(1, 200),
        ),
        case("8.1.1 nothing, as said", [sized("0", false), data(1, b"")].concat(), Answer(1, 200)),
        case(
            "8.1 trailers that do not end",
            [post(1, "/echo"), data(0, b"x"), trailers(0, &[("x", "y")])].concat(),
            Reset(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1 a head twice",
            [post(1, "/echo"), frame(HEADERS, 4, 1, &head("POST", "/bad", &[]))].concat(),
            Reset(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "8.1 DATA behind trailers",
            [post(1, "/slow"), trailers(1, &[("x", "y")]), data(1, b"x")].concat(),
            Reset(1, &[STREAM_CLOSED]),
        ),
        case(
            "8.1 trailers twice",
            [post(1, "/slow"), trailers(1, &[("x", "y")]), trailers(1, &[("x", "y")])].concat(),
            Reset(1, &[STREAM_CLOSED]),
        ),
        case(
            "8.3 a pseudo-field in trailers",
            [post(1, "/echo"), data(0, b"x"), trailers(1, &[(":path", "/bad")])].concat(),
            Malformed(1),
        ),
        case(
            "8.3 a pseudo-field of answers in trailers",
            [post(1, "/echo"), data(0, b"x"), trailers(1, &[(":status", "200")])].concat(),
            Malformed(1),
        ),
        case(
            "8.2 upper case in trailers",
            [post(1, "/echo"), data(0, b"x"), trailers(1, &[("X", "y")])].concat(),
            Malformed(1),
        ),
        case(
            "8.2.2 connection in trailers",
            [post(1, "/echo"), data(0, b"x"), trailers(1, &[("connection", "x")])].concat(),
            Malformed(1),
        ),
        case(
            "8.2.1 a line's end in trailers",
            [post(1, "/echo"), data(0, b"x"), trailers(1, &[("x", "y\r\nz: z")])].concat(),
            Malformed(1),
        ),
        case("8.1 trailers of nothing", [post(1, "/echo"), data(0, b"x"), trailers(1, &[])].concat(), Answer(1, 200)),
        case("8.1 trailers alone", [post(1, "/echo"), trailers(1, &[("x", "y")])].concat(), Answer(1, 200)),
        case(
            "6.10 CONTINUATION behind trailers",
            [post(1, "/echo"), trailers(1, &[]), frame(CONTINUATION, 4, 1, &[])].concat(),
            Goodbye(&[PROTOCOL_ERROR]),
        ),
    ];
    check(&node, cases).await;
}
