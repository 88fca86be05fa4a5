//! Who may ask, how often, and where a request is sent: policies by address, host and path.

use crate::support::client::{Client, Response};
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

/// One request on a connection of its own: its first line, and more lines.
async fn ask(proxy: &Proxy, line: &str, more: &str) -> Response {
    let mut client = Client::connect(proxy.address).await;
    let host = if more.to_lowercase().contains("host:") { "" } else { "host: app.test\r\n" };
    client.send(format!("{line} HTTP/1.1\r\n{host}{more}\r\n")).await;
    client.response(line.split(' ').next().expect("a method")).await.expect("an answer")
}

fn fault(response: &Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

#[tokio::test]
async fn an_address_without_access_reaches_no_node() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&app(&[node.address], "access = { allow = [\"192.0.2.0/24\"], deny = [\"192.0.2.66\"] }"));
    for more in ["", UPGRADE, "x-forwarded-for: 192.0.2.1\r\n", "forwarded: for=192.0.2.1\r\nx-real-ip: 192.0.2.1\r\n"]
    {
        assert_eq!(fault(&ask(&proxy, "GET /", more).await), (403, "access-denied"), "{more}");
    }
    assert!(node.requests().is_empty());
    let trusting = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n{}",
        app(&[node.address], "access = { allow = [\"192.0.2.0/24\"], deny = [\"192.0.2.66\"] }")
    );
    let proxy = Proxy::with(&trusting);
    for (chain, status) in [
        ("192.0.2.1", 200),
        ("198.51.100.1, 192.0.2.1", 200),
        ("192.0.2.1, 198.51.100.1", 403),
        ("192.0.2.1, nonsense", 403),
        ("192.0.2.66", 403),
        ("192.0.2.1\r\nx-forwarded-for: 198.51.100.1", 403),
        ("::ffff:192.0.2.1", 200),
    ] {
        let response = ask(&proxy, "GET /", &format!("x-forwarded-for: {chain}\r\n")).await;
        assert_eq!(response.status, status, "{chain}");
    }
    assert_eq!(ask(&proxy, "GET /", "forwarded: for=192.0.2.1\r\n").await.status, 403, "X-Forwarded-For alone counts");
}

#[tokio::test]
async fn no_spelling_of_a_path_or_host_leads_past_a_policy() {
    let node = TestNode::answering("ok").await;
    let address = node.address;
    let proxy = Proxy::with(&format!(
        "[service.admin]\nmatch = \"app.test/admin\"\nnodes = [\"{address}\"]\naccess.deny = [\"127.0.0.0/8\"]\n\
         [service.open]\nmatch = \"app.test\"\nnodes = [\"{address}\"]\n"
    ));
    for path in [
        "/admin",
        "/admin/",
        "//admin",
        "/./admin/x",
        "/x/../admin",
        "/x/%2e%2E/admin",
        "/%61dmin",
        "/adm%69n/x",
        "/x\\..\\admin",
        "/admin?a=/../..",
        "/admin/..//admin",
    ] {
        let response = ask(&proxy, &format!("GET {path}"), "").await;
        assert_eq!(fault(&response), (403, "access-denied"), "{path}");
    }
    for host in ["APP.TEST", "app.test.", "app.test:80", "App.Test.:8080"] {
        assert_eq!(ask(&proxy, "GET /admin", &format!("host: {host}\r\n")).await.status, 403, "{host}");
    }
    let absolute = ask(&proxy, "GET http://app.test/admin", "host: other.test\r\n").await;
    assert_eq!(absolute.status, 403);
    assert!(node.requests().is_empty());
    assert_eq!(ask(&proxy, "GET /other", "").await.status, 200);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let node = TestNode::answering("ok").await;
    let rate = "rate = [{ requests = 3, per = \"1h\" }]";
    let service =
        |more: &str| format!("trusted_proxies = [\"127.0.0.1\"]\n{}", app(&[node.address], &format!("{rate}\n{more}")));
    // Two workers and a connection for each request: what is counted is counted together.
    let mut proxy = Proxy::with(&service(""));
    let from = |client: &str| format!("x-forwarded-for: {client}\r\n");
    for _ in 0..3 {
        assert_eq!(ask(&proxy, "GET /", &from("192.0.2.1")).await.status, 200);
    }
    let late = ask(&proxy, "GET /", &from("192.0.2.1")).await;
    assert_eq!(fault(&late), (429, "rate-limit"));
    let wait: u64 = late.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1000..=1200).contains(&wait), "{wait}");
    assert_eq!(ask(&proxy, "GET /", &from("192.0.2.2")).await.status, 200, "somebody else");
    assert_eq!(ask(&proxy, "GET /", &format!("{UPGRADE}{}", from("192.0.2.1"))).await.status, 429);
    // In IPv6, a client has as many addresses as it likes.
    for last in 1..=4 {
        let response = ask(&proxy, "GET /", &from(&format!("2001:db8::{last}"))).await;
        assert_eq!(response.status, if last < 4 { 200 } else { 429 });
    }
    // An edit to something else is no amnesty; an edit to the rate is.
    proxy.edit(&service("response_headers.set.x-edited = \"yes\""));
    let edited = ask(&proxy, "GET /", &from("192.0.2.1")).await;
    assert_eq!((edited.status, edited.header("x-edited")), (429, Some("yes")));
    proxy.edit(&service("").replace("requests = 3", "requests = 4"));
    assert_eq!(ask(&proxy, "GET /", &from("192.0.2.1")).await.status, 200);
    proxy.edit(&service("").replace(rate, ""));
    for _ in 0..5 {
        assert_eq!(ask(&proxy, "GET /", &from("192.0.2.1")).await.status, 200);
    }
}

#[tokio::test]
async fn a_rate_can_be_for_a_path_and_by_a_header() {
    let node = TestNode::answering("ok").await;
    let rates = "[[service.app.rate]]\nrequests = 2\nper = \"1h\"\npath = \"/login/*\"\n\
                 [[service.app.rate]]\nrequests = 10\nper = \"1h\"\nby = \"header X-Key\"\n";
    let proxy = Proxy::with(&app(&[node.address], rates));
    for path in ["/login", "//login/x"] {
        assert_eq!(ask(&proxy, &format!("GET {path}"), "x-key: a\r\n").await.status, 200, "{path}");
    }
    for path in ["/login", "/%6cogin", "/./login/", "/x/../login?a"] {
        assert_eq!(
            ask(&proxy, &format!("POST {path}"), "x-key: b\r\ncontent-length: 0\r\n").await.status,
            429,
            "{path}"
        );
    }
    // Several of them are nobody's: together they would be another one each time.
    let many = "x-key: a\r\nx-key: d\r\n";
    for (key, left) in [("x-key: a\r\n", 8), ("x-key: c\r\n", 10), ("", 10), (many, 0)] {
        for _ in 0..left {
            assert_eq!(ask(&proxy, "GET /", key).await.status, 200, "{key}");
        }
        assert_eq!(ask(&proxy, "GET /", key).await.status, 429, "{key}");
    }
}

#[tokio::test]
async fn other_hosts_are_sent_to_the_canonical_one() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&app(&[node.address], "canonical_host = \"www.example.com:8443\""));
    for host in ["example.com", "www.example.com.evil.test", "10.0.0.1:80", "[::1]:80"] {
        let response = ask(&proxy, "GET //a/../b?q=1&r=%20", &format!("host: {host}\r\n")).await;
        assert_eq!(response.status, 308, "{host}");
        assert_eq!(response.header("location"), Some("http://www.example.com:8443//a/../b?q=1&r=%20"));
    }
    for host in ["www.example.com", "WWW.Example.COM:80", "www.example.com."] {
        assert_eq!(ask(&proxy, "GET /", &format!("host: {host}\r\n")).await.status, 200, "{host}");
    }
    let spoofed = ask(&proxy, "GET /", "host: a.test\r\nx-forwarded-proto: https\r\n").await;
    assert_eq!(spoofed.header("location"), Some("http://www.example.com:8443/"));
    let post = "host: a.test\r\ncontent-length: 5\r\n\r\nhello";
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST /x HTTP/1.1\r\n{post}")).await;
    assert_eq!(client.response("POST").await.expect("an answer").status, 308);
    assert_eq!(ask(&proxy, "OPTIONS *", "host: a.test\r\n").await.status, 200, "it is nowhere else");
}

#[tokio::test]
async fn redirects_take_the_rest_of_the_path_and_the_query_along() {
    let node = TestNode::answering("ok").await;
    let rules = "[[service.app.redirect]]\nfrom = \"/old/*\"\nto = \"/new/*\"\n\
                 [[service.app.redirect]]\nfrom = \"/gone\"\nto = \"https://example.com/?from=gone#top\"\nstatus = 301\n\
                 [[service.app.redirect]]\nfrom = \"/away/*\"\nto = \"https://example.com/*/x#y\"\nstatus = 303\n\
                 [[service.app.redirect]]\nfrom = \"/open/*\"\nto = \"/*\"\n";
    let proxy = Proxy::with(&app(&[node.address], rules));
    for (path, status, location) in [
        ("/old", 307, "/new/"),
        ("/old/a/b?c=d", 307, "/new/a/b?c=d"),
        ("//old//%61/../b", 307, "/new/b"),
        ("/gone?x", 301, "https://example.com/?from=gone#top"),
        ("/away/a?q", 303, "https://example.com/a/x?q#y"),
        // No way to make it point at another host.
        ("/open//evil.test", 307, "/evil.test"),
        ("/open/\\evil.test", 307, "/evil.test"),
        ("/open/%2fevil.test", 307, "/%2fevil.test"),
    ] {
        let response = ask(&proxy, &format!("GET {path}"), "").await;
        assert_eq!((response.status, response.header("location")), (status, Some(location)), "{path}");
        assert_eq!(response.header("content-length"), Some("0"));
    }
    assert!(node.requests().is_empty());
    assert_eq!(ask(&proxy, "GET /older", "").await.status, 200);
    assert_eq!(ask(&proxy, "GET /gone/", "").await.status, 200);
}

#[tokio::test]
async fn rewrites_come_behind_the_stripped_prefix() {
    let node = TestNode::answering("ok").await;
    let address = node.address;
    let proxy = Proxy::with(&format!(
        "[service.app]\nmatch = \"app.test/shop\"\nnodes = [\"{address}\"]\nstrip_prefix = true\n\
         rewrite = [{{ from = \"/api/*\", to = \"/v2/*\" }}, {{ from = \"/*\", to = \"/root/*\" }}]\n"
    ));
    for (path, wanted) in [
        ("/shop/api/a?x=/api/", "/v2/a?x=/api/"),
        ("/shop/api", "/v2/"),
        ("/shop", "/root/"),
        ("/shop/b%20c", "/root/b%20c"),
        ("/shop/../shop//api/./d", "/v2/d"),
    ] {
        assert_eq!(ask(&proxy, &format!("GET {path}"), "").await.status, 200);
        let line = node.requests().pop().expect("a request").line;
        assert_eq!(line, format!("GET {wanted} HTTP/1.1"), "{path}");
    }
}

#[tokio::test]
async fn header_fields_are_removed_set_and_added_on_both_sides() {
    let node =
        TestNode::sending("HTTP/1.1 200 OK\r\nserver: node/1.0\r\nx-kept: 1\r\ncontent-length: 2\r\n\r\nok", false)
            .await;
    let rules = "[service.app.request_headers]\nremove = [\"X-Debug\", \"x-forwarded-host\"]\n\
         set = { \"X-Client\" = \"{client}\", Host = \"inner.test\", x-all = \"{scheme}://{host}{path} {service} {user}\", \
         x-request-id = \"{request_id}\" }\nadd = { x-many = \"2\" }\n\
         [service.app.response_headers]\nremove = [\"Server\"]\nset = { x-frame-options = \"DENY\", x-request-id = \"{request_id}\" }\n\
         add = { vary = \"Cookie\" }\n[[service.app.redirect]]\nfrom = \"/old\"\nto = \"/\"\n";
    let proxy = Proxy::with(&app(&[node.address], rules));
    let sent =
        "x-debug: 1\r\nx_debug: 2\r\nx-client: spoofed\r\nX_Client: spoofed\r\nx-many: 1\r\nx-request-id: mine\r\n";
    let response = ask(&proxy, "GET /a//b?q", sent).await;
    assert_eq!((response.header("server"), response.header("x-kept")), (None, Some("1")));
    assert_eq!((response.header("x-frame-options"), response.header("vary")), (Some("DENY"), Some("Cookie")));
    let request = node.requests().pop().expect("a request");
    assert_eq!(request.line, "GET /a//b?q HTTP/1.1");
    assert_eq!(request.all("x-client"), ["127.0.0.1"]);
    for gone in ["x-debug", "x_debug", "x_client", "x-forwarded-host"] {
        assert_eq!(request.header(gone), None, "{gone}");
    }
    assert_eq!(request.header("host"), Some("inner.test"));
    assert_eq!(request.header("x-all"), Some("http://app.test/a//b app"));
    assert_eq!(request.all("x-many"), ["1", "2"]);
    let id = request.header("x-request-id").expect("an id");
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(response.header("x-request-id"), Some(id));
    // Sluice's own answers, too.
    let redirect = ask(&proxy, "GET /old", "").await;
    assert_eq!((redirect.status, redirect.header("x-frame-options")), (307, Some("DENY")));
}

#[tokio::test]
async fn a_service_beside_one_with_policies_has_none() {
    let (node, other) = (TestNode::answering("ok").await, TestNode::answering("other").await);
    let proxy = Proxy::with(&format!(
        "[service.a]\nmatch = \"a.test\"\nnodes = [\"{}\"]\naccess.deny = [\"0.0.0.0/0\"]\n\
         [service.b]\nmatch = \"b.test\"\nnodes = [\"{}\"]\n",
        node.address, other.address
    ));
    assert_eq!(ask(&proxy, "GET /", "host: a.test\r\n").await.status, 403);
    assert_eq!(ask(&proxy, "GET /", "host: b.test\r\n").await.text(), "other");
}

#[tokio::test]
async fn the_host_that_the_operator_sets_is_for_clients_without_one_too() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&app(&[node.address], "request_headers.set.host = \"inner.test\""));
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("an answer").status, 200);
    assert_eq!(node.requests()[0].all("host"), ["inner.test"]);
}
