//! Requests as spans of OpenTelemetry, as a collector gets them.
#![cfg(feature = "otlp")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use super::support::server::Server;
use super::support::{LISTENER, Site, eventually, get};

const RECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const QUIET: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn text(node: SocketAddr, collector: SocketAddr, sample: &str) -> String {
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nnodes = [\"{node}\"]\nhealth = {{ path = \"/healthz\", interval = \"50ms\", rise = 1 }}\n\
         [tracing.export]\nurl = \"http://{collector}/v1/traces\"\nsample = \"{sample}\"\nheaders = [\"X-Key: secret\"]\n"
    )
}

/// Every span that the collector was told.
fn spans(collector: &Server) -> Vec<Value> {
    let spans = |message: Value| {
        let resource = &message["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "sluice");
        resource["scopeSpans"][0]["spans"].as_array().expect("spans").clone()
    };
    collector.told().into_iter().flat_map(spans).collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let found = span["attributes"].as_array()?.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().or(found["value"]["intValue"].as_str())
}

/// Asks for something that belongs to a trace.
fn ask(proxy: SocketAddr, parent: &str) {
    let mut stream = TcpStream::connect(proxy).expect("a connection");
    let request = format!(
        "GET /a?secret=1 HTTP/1.1\r\nhost: shop.test\r\ntraceparent: {parent}\r\ntracestate: a=b\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_recorded_trace_gets_a_span_of_ours_and_the_nodes_hangs_on_it() {
    let (node, collector) = (Server::start("hello"), Server::start("{}"));
    let site = Site::new(&text(node.address, collector.address, "0%"));
    let proxy = site.start();
    proxy.settled("shop");
    ask(proxy.address(), QUIET);
    // Nobody's trace, and none is in the sample.
    assert_eq!(get(proxy.address(), "shop.test", "/b").expect("an answer").status, 200);
    ask(proxy.address(), RECORDED);
    let told = eventually("the collector is told", || Some(spans(&collector)).filter(|told| !told.is_empty()));
    assert_eq!(told.len(), 1, "{told:?}");
    let span = &told[0];
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert!(collector.asked().contains("X-Key: secret") || collector.asked().contains("x-key: secret"));
    let own = span["spanId"].as_str().expect("an id");
    let seen: Vec<_> = node.requests().into_iter().filter(|request| !request.contains("/healthz")).collect();
    let parent = |request: &str| {
        let line = request.lines().find_map(|line| line.strip_prefix("traceparent: "));
        line.map(|line| line.trim().to_owned())
    };
    assert_eq!(parent(&seen[0]).as_deref(), Some(QUIET), "one that is not recorded passes as it came");
    assert_eq!(parent(&seen[1]), None);
    assert_eq!(parent(&seen[2]), Some(format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{own}-01")));
    assert!(seen[2].contains("tracestate: a=b"), "{}", seen[2]);
    assert_eq!((&span["name"], &span["kind"], &span["status"]["code"]), (&"GET shop".into(), &2.into(), &0.into()));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/a"),
        ("url.scheme", "http"),
        ("server.address", "shop.test"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("sluice.service", "shop"),
        ("sluice.outcome", "done"),
        ("sluice.attempts", "1"),
    ] {
        assert_eq!(attribute(span, key), Some(value), "{key} of {span}");
    }
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<u128>().ok()).expect("a time");
    let events = span["events"].as_array().expect("events");
    assert_eq!(events.len(), 3, "{events:?}");
    let mut times = vec![time(&span["startTimeUnixNano"])];
    times.extend(events.iter().map(|event| time(&event["timeUnixNano"])));
    times.push(time(&span["endTimeUnixNano"]));
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_failed_request_is_a_failed_span_and_the_last_spans_are_told_at_the_end() {
    let (node, collector) = (Server::start("hello"), Server::start("{}"));
    let site = Site::new(&text(node.address, collector.address, "100%"));
    let mut proxy = site.start();
    proxy.settled("shop");
    node.says(503, "no");
    let status = get(proxy.address(), "shop.test", "/").expect("an answer").status;
    assert_eq!(status, 503);
    proxy.signal(Signal::TERM);
    assert!(proxy.exit().success());
    let span = spans(&collector).pop().expect("a span");
    assert_eq!(span["status"]["code"], 2);
    assert!(span.get("parentSpanId").is_none());
    assert_eq!(attribute(&span, "http.response.status_code"), Some("503"));
    assert_eq!(attribute(&span, "error.type"), Some("503"));
}

#[test]
fn a_collector_that_is_gone_costs_spans_which_are_counted_and_nothing_else() {
    let (node, gone) = (Server::start("hello"), Server::start("{}"));
    gone.says(400, "I take none");
    let site = Site::new(&text(node.address, gone.address, "100%"));
    let proxy = site.start();
    proxy.settled("shop");
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "shop.test", "/").expect("an answer").status, 200);
    }
    eventually("the losses are counted", || {
        let metrics = proxy.ask("GET", "/metrics")?.text();
        metrics.contains("\nsluice_spans_dropped_total 20\n").then_some(())
    });
    assert!(proxy.log().contains("spans are lost; requests go on"), "{}", proxy.log());
}
