//! Who is it? Passwords that Sluice checks, and a service that is asked.

use std::time::Duration;

use base64::Engine as _;

use crate::support::client::{Client, Response};
use crate::support::control::{BlackHole, refused};
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

async fn ask(proxy: &Proxy, line: &str, more: &str) -> Response {
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{line} HTTP/1.1\r\nhost: app.test\r\n{more}\r\n")).await;
    client.response(line.split(' ').next().expect("a method")).await.expect("an answer")
}

fn fault(response: &Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

fn user(name: &str, password: &str) -> String {
    format!("{name}:{}", bcrypt::hash(password, 4).expect("a hash"))
}

fn credentials(name: &str, password: &str) -> String {
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("authorization: Basic {token}\r\n")
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

#[tokio::test]
async fn a_password_lets_in_and_does_not_reach_the_node() {
    let node = TestNode::answering("ok").await;
    let (anna, bob) = (user("anna", "pässword:1"), user("bob", "hunter2"));
    let auth = format!(
        "basic_auth = {{ realm = \"Shop\", users = [\"{anna}\", \"{bob}\"] }}\nrequest_headers.set.x-user = \"{{user}}\"\n\
         redirect = [{{ from = \"/old\", to = \"/\" }}]"
    );
    let mut proxy = Proxy::with(&app(&[node.address], &auth));
    let wrong = [
        String::new(),
        UPGRADE.to_owned(),
        credentials("anna", "wrong"),
        credentials("anna", ""),
        credentials("nobody", "hunter2"),
        credentials("bob", "pässword:1"),
        credentials("Anna", "pässword:1"),
        "authorization: Basic !!!\r\n".to_owned(),
        "authorization: Bearer x\r\n".to_owned(),
        format!("{}{}", credentials("anna", "pässword:1"), credentials("bob", "x")),
    ];
    for more in &wrong {
        let response = ask(&proxy, "GET /", more).await;
        assert_eq!(fault(&response), (401, "auth-required"), "{more}");
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"Shop\", charset=\"UTF-8\""));
    }
    assert_eq!(ask(&proxy, "GET /old", "").await.status, 401, "who may not come in is not told where things are");
    assert!(node.requests().is_empty());
    // The second time it is known; on the other worker it may be the first.
    for _ in 0..6 {
        let right = format!("x-user: bob\r\n{}", credentials("anna", "pässword:1"));
        assert_eq!(ask(&proxy, "GET /", &right).await.status, 200);
    }
    assert_eq!(ask(&proxy, "GET /", &credentials("anna", "wrong")).await.status, 401, "another password is not known");
    for request in node.requests() {
        assert_eq!((request.header("authorization"), request.all("x-user")), (None, vec!["anna"]));
    }
    assert_eq!(ask(&proxy, "GET /old", &credentials("bob", "hunter2")).await.status, 307);
    // An edit counts at once, whatever was known.
    proxy.edit(&app(
        &[node.address],
        &auth.replace(&anna, &user("anna", "other")).replace(" }\n", ", forward = true }\n"),
    ));
    assert_eq!(ask(&proxy, "GET /", &credentials("anna", "pässword:1")).await.status, 401);
    assert_eq!(ask(&proxy, "GET /", &credentials("anna", "other")).await.status, 200);
    assert!(node.requests().pop().expect("a request").header("authorization").is_some());
    proxy.edit(&app(&[node.address], &auth.replace(&format!(", \"{bob}\""), "")));
    assert_eq!(ask(&proxy, "GET /", &credentials("bob", "hunter2")).await.status, 401);
}

#[tokio::test]
async fn a_slow_hash_holds_up_nobody_else() {
    let node = TestNode::answering("ok").await;
    let slow = format!("anna:{}", bcrypt::hash("right", 6).expect("a hash"));
    let services = format!(
        "{}[service.open]\nmatch = \"open.test\"\nnodes = [\"{}\"]\n",
        app(&[node.address], &format!("basic_auth.users = [\"{slow}\"]")),
        node.address
    );
    let proxy = Proxy::with_workers(&services, 1);
    let guesses = async {
        // Somebody guesses, more often than there are places to wait.
        let guess = |number: usize| {
            let proxy = &proxy;
            async move { ask(proxy, "GET /", &credentials("anna", &number.to_string())).await }
        };
        futures_util::future::join_all((0..100).map(guess)).await
    };
    let others = async {
        let mut client = Client::connect(proxy.address).await;
        let mut worst = Duration::ZERO;
        let mut served = 0;
        let end = tokio::time::Instant::now() + Duration::from_secs(3);
        while tokio::time::Instant::now() < end {
            let start = tokio::time::Instant::now();
            client.send("GET / HTTP/1.1\r\nhost: open.test\r\n\r\n").await;
            assert_eq!(client.response("GET").await.expect("an answer").status, 200);
            worst = worst.max(start.elapsed());
            served += 1;
        }
        (served, worst)
    };
    let (answers, (served, worst)) = tokio::join!(guesses, others);
    let busy = answers.iter().filter(|answer| fault(answer) == (503, "auth-busy")).count();
    let refused = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(busy + refused, 100);
    assert!(busy >= 30, "the queue is bounded: {busy}");
    assert!(served > 50, "{served} requests, the slowest took {worst:?}");
}

/// Decides by the cookie.
async fn decider() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            assert!(request.body.is_empty() && request.header("content-length").is_none(), "{request:?}");
            let answer = match request.header("cookie") {
                Some("good") => "HTTP/1.1 200 OK\r\nx-user: anna\r\nx-other: 1\r\ncontent-length: 2\r\n\r\nok",
                Some("bare") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("login") => {
                    "HTTP/1.1 302 Found\r\nlocation: https://login.test/\r\nset-cookie: a=b\r\nconnection: x-hop\r\n\
                     x-hop: 1\r\ncontent-length: 4\r\n\r\nhere"
                }
                Some("garbage") => "SSH-2.0-OpenSSH\r\n",
                Some("switch") => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
                Some("large") => "HTTP/1.1 403 Forbidden\r\ncontent-length: 300000\r\n\r\n",
                Some("silent") => {
                    peer.closed().await;
                    return;
                }
                _ => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 2\r\n\r\nno",
            };
            peer.send(answer).await;
            if request.header("cookie") == Some("large") {
                peer.send(vec![b'x'; 300_000]).await;
            }
            if matches!(request.header("cookie"), Some("garbage" | "switch")) {
                return;
            }
        }
    })
    .await
}

fn forward(node: &TestNode, address: std::net::SocketAddr) -> Proxy {
    let auth = format!(
        "forward_auth = {{ address = \"{address}\", path = \"/verify?a=1\", timeout = \"500ms\", copy = [\"X-User\"] }}\n\
         redirect = [{{ from = \"/old\", to = \"/\" }}]\n\
         errors = {{ texts = {{ \"4xx\" = \"page\" }}, intercept = [\"4xx\"] }}"
    );
    Proxy::with_workers(&app(&[node.address], &auth), 1)
}

#[tokio::test]
async fn who_is_asked_decides() {
    let (node, decider) = (TestNode::echoing().await, decider().await);
    let proxy = forward(&node, decider.address);
    let mut client = Client::connect(proxy.address).await;
    let spoofed = "x-user: root\r\nX_User: root\r\nx-forwarded-method: DELETE\r\nx-forwarded-uri: /\r\nx-forwarded-for: 1.1.1.1\r\n";
    for _ in 0..3 {
        client
            .send(format!(
                "POST /a//b?c=d HTTP/1.1\r\nhost: app.test\r\ncookie: good\r\n{spoofed}content-length: 5\r\n\r\nhello"
            ))
            .await;
        let response = client.response("POST").await.expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    }
    let asked = decider.requests();
    assert_eq!(decider.accepted(), 1, "one connection for one question after another");
    assert_eq!(asked.len(), 3);
    let question = &asked[0];
    assert_eq!(question.line, "GET /verify?a=1 HTTP/1.1");
    for (name, value) in [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/a//b?c=d"),
        ("x-forwarded-host", "app.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("cookie", "good"),
    ] {
        assert_eq!(question.all(name), [value], "{question:?}");
    }
    assert_eq!((question.header("x-user"), question.header("x_user")), (None, None));
    for request in node.requests() {
        assert_eq!((request.all("x-user"), request.header("x_user")), (vec!["anna"], None));
        assert_eq!((request.header("x-other"), request.header("x-forwarded-uri")), (None, None));
        assert_eq!(request.header("cookie"), Some("good"));
    }
    assert_eq!(ask(&proxy, "GET /", "cookie: bare\r\nx-user: root\r\n").await.status, 200);
    assert_eq!(node.requests().pop().expect("a request").header("x-user"), None);
    let seen = node.requests().len();
    let refused = ask(&proxy, "GET /", "").await;
    assert_eq!((refused.status, refused.text().as_str()), (401, "no"));
    assert_eq!((refused.header("www-authenticate"), refused.header("x-sluice-error")), (Some("Bearer"), None));
    let login = ask(&proxy, "GET /", "cookie: login\r\n").await;
    assert_eq!(
        (login.status, login.header("location"), login.header("set-cookie"), login.header("x-hop")),
        (302, Some("https://login.test/"), Some("a=b"), None)
    );
    assert_eq!(ask(&proxy, "GET /", UPGRADE).await.status, 401);
    assert_eq!(ask(&proxy, "GET /old", "").await.status, 401);
    assert_eq!(ask(&proxy, "GET /old", "cookie: good\r\n").await.status, 307);
    assert_eq!(ask(&proxy, "HEAD /", "").await.status, 401);
    assert_eq!(node.requests().len(), seen, "nobody got past");
    // A refused upload is refused before it is read, and the connection goes on.
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(client.response("POST").await.expect("an answer").status, 401);
    client.send("GET / HTTP/1.1\r\nhost: app.test\r\ncookie: bare\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn nobody_gets_in_while_nobody_can_say() {
    let (node, decider) = (TestNode::answering("ok").await, decider().await);
    let proxy = forward(&node, decider.address);
    for cookie in ["silent", "garbage", "switch", "large"] {
        let response = ask(&proxy, "GET /", &format!("cookie: {cookie}\r\n")).await;
        assert_eq!(fault(&response), (503, "auth-unavailable"), "{cookie}");
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    let hole = BlackHole::new();
    for address in [refused(), hole.address] {
        let proxy = forward(&node, address);
        assert_eq!(fault(&ask(&proxy, "GET /", "cookie: good\r\n").await), (503, "auth-unavailable"));
    }
    assert!(node.requests().is_empty());
}

#[tokio::test]
async fn a_question_is_put_again_if_its_connection_was_just_given_up() {
    let node = TestNode::answering("ok").await;
    // Answers once on each connection, and closes it without a word.
    let decider = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.respond(200, "").await;
    })
    .await;
    let proxy = forward(&node, decider.address);
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..30 {
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn who_decides_gets_only_so_many_questions_at_once() {
    let node = TestNode::answering("ok").await;
    let decider = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let auth = format!("forward_auth = {{ address = \"{}\", timeout = \"5s\" }}", decider.address);
    let proxy = Proxy::with_workers(&app(&[node.address], &auth), 1);
    let all = futures_util::future::join_all((0..300).map(|_| ask(&proxy, "GET /", ""))).await;
    let busy = all.iter().filter(|answer| fault(answer) == (503, "auth-busy")).count();
    assert_eq!(busy, 300 - 256);
    assert_eq!(all.iter().filter(|answer| fault(answer) == (503, "auth-unavailable")).count(), 256);
    assert_eq!(decider.accepted(), 256);
}
