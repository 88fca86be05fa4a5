//! The access log: what is told of each request, and that nothing which becomes of the log touches a request.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluicegate::model::WorkKind;
use sluicegate::proxy::access_log::Outcome;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::control::{BlackHole, refused, single};
use crate::support::http2::Http2;
use crate::support::node::TestNode;
use crate::support::trial::on_trial;
use crate::support::{PATIENCE, Proxy, app, until};

/// A folder for a log, and the TOML that asks for one.
struct Log {
    dir: TempDir,
}

impl Log {
    fn new() -> Self {
        Self { dir: TempDir::new().expect("a folder") }
    }

    fn toml(&self, more: &str) -> String {
        format!("[log.access]\npath = \"{}\"\n{more}\n", self.path("log").display())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Waits for so many lines.
    async fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        until("the lines are written", || {
            lines = read(&self.path("log"));
            lines.len() >= count
        })
        .await;
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    /// The only line, as JSON.
    async fn line(&self) -> Value {
        serde_json::from_str(&self.lines(1).await[0]).expect("JSON")
    }
}

fn read(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_line_tells_who_asked_for_what_and_what_became_of_it() {
    let (log, node) = (Log::new(), TestNode::answering("hello").await);
    let proxy = single(&[node.address], &log.toml(""));
    let mut client = Client::connect(proxy.address).await;
    client
        .send("POST /a%20b?secret=1 HTTP/1.1\r\nhost: app.test\r\nx-request-id: r-1\r\ncontent-length: 4\r\n\r\nbody")
        .await;
    assert_eq!(client.response("POST").await.expect("a response").status, 200);
    let line = log.line().await;
    for (field, value) in [
        ("client", Value::from("127.0.0.1")),
        ("listener", "http".into()),
        ("tls", false.into()),
        ("protocol", "HTTP/1.1".into()),
        ("method", "POST".into()),
        ("host", "app.test".into()),
        ("path", "/a%20b".into()),
        ("status", 200.into()),
        ("bytes_in", 4.into()),
        ("bytes_out", 5.into()),
        ("service", "app".into()),
        ("version", "-".into()),
        ("node", node.address.to_string().into()),
        ("attempts", 1.into()),
        ("kind", "request".into()),
        ("outcome", "done".into()),
        ("error", Value::Null),
        ("request_id", "r-1".into()),
        ("trace_id", Value::Null),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    let time = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("{field}: {line}"));
    let parts = ["wait_ms", "connect_ms", "head_ms", "body_ms"].map(time);
    assert!(parts.iter().all(|part| *part >= 0.0));
    assert!((parts.iter().sum::<f64>() - time("duration_ms")).abs() < 0.01, "the parts make the whole: {line}");
    assert!(line["time"].as_str().expect("a time").ends_with('Z'));
}

#[tokio::test]
async fn formats_are_common_combined_or_ones_own() {
    let node = TestNode::answering("hello").await;
    for (format, wanted) in [
        ("common", "127.0.0.1 - - [TIME] \"GET /x HTTP/1.1\" 200 5"),
        ("combined", "127.0.0.1 - - [TIME] \"GET /x HTTP/1.1\" 200 5 \"-\" \"a\\x22b\""),
        ("{status} {service}/{version} {outcome} {request_id} {path}", "200 app/- done - /x"),
    ] {
        let log = Log::new();
        let proxy = single(&[node.address], &log.toml(&format!("format = '{format}'")));
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /x?q HTTP/1.1\r\nhost: a\r\nuser-agent: a\"b\r\n\r\n").await;
        client.response("GET").await.expect("a response");
        let line = log.lines(1).await.remove(0);
        let told = match (line.find('['), line.find(']')) {
            (Some(start), Some(end)) => {
                assert_eq!(end - start, 27, "{line}");
                format!("{}TIME{}", &line[..=start], &line[end..])
            }
            _ => line,
        };
        assert_eq!(told, wanted);
    }
}

#[tokio::test]
async fn only_a_sample_of_what_went_well_is_told_and_all_that_did_not() {
    let (log, node) = (Log::new(), TestNode::answering("hello").await);
    let text = format!(
        "[service.app]\nmatch = \"a.test\"\nnodes = [\"{}\"]\n{}",
        node.address,
        log.toml("sample = \"0%\"\nquery = true")
    );
    let proxy = Proxy::with_workers(&text, 1);
    let mut client = Client::connect(proxy.address).await;
    for host in ["a.test", "b.test", "a.test", "b.test"] {
        client.send(format!("GET /?q HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        client.response("GET").await.expect("a response");
    }
    for line in log.lines(2).await {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&line["outcome"], &line["error"], &line["path"]),
            (&"refused:route".into(), &"no-service".into(), &"/?q".into())
        );
    }
}

/// Sends this, waits for the answer or for the end of the connection.
async fn ask(proxy: &Proxy, bytes: &str) {
    let mut client = Client::connect(proxy.address).await;
    client.send(bytes).await;
    let _ = client.response(bytes.split(' ').next().unwrap_or_default()).await;
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// The outcome of one request: to a service over these nodes, with these settings.
async fn outcome(nodes: &[std::net::SocketAddr], more: &str, bytes: &str) -> (String, String) {
    let log = Log::new();
    let proxy = single(nodes, &format!("{more}\n{}", log.toml("")));
    ask(&proxy, bytes).await;
    let line = log.line().await;
    (line["outcome"].as_str().unwrap_or("none").to_owned(), line["error"].as_str().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn what_sluice_refuses_is_told_with_its_reason() {
    let node = TestNode::answering("hello").await;
    let good = [node.address];
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nnine byte";
    let own = "OPTIONS / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n";
    for (more, bytes, wanted) in [
        ("", own, ("answered", "none")),
        ("", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", ("refused:malformed", "bad-request")),
        ("[limits]\nbody = \"4B\"", post, ("refused:size", "body-size")),
        ("[service.app.access]\ndeny = [\"127.0.0.0/8\"]", GET, ("refused:access", "access-denied")),
    ] {
        assert_eq!(outcome(&good, more, bytes).await, (wanted.0.to_owned(), wanted.1.to_owned()), "{more}");
    }
    assert_eq!(outcome(&[refused()], "", GET).await, ("node:connect".into(), "connect".into()));
    let hole = BlackHole::new();
    let late = outcome(&[hole.address], "timeouts.connect = \"100ms\"", GET).await;
    assert_eq!(late, ("timeout:connect".into(), "connect-timeout".into()));
}

#[tokio::test]
async fn what_nodes_do_wrong_is_told_with_its_stage() {
    let dropping = TestNode::dropping().await;
    assert_eq!(outcome(&[dropping.address], "retry.attempts = 1", GET).await.0, "node:head");
    let broken =
        TestNode::sending(format!("HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n{}", "x".repeat(300_000)), true)
            .await;
    assert_eq!(outcome(&[broken.address], "", GET).await.0, "node:body");
    let silent = TestNode::sending("", false).await;
    assert_eq!(outcome(&[silent.address], "timeouts.response = \"100ms\"", GET).await.0, "timeout:head");
    let stalling = TestNode::sending("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\npart", false).await;
    assert_eq!(outcome(&[stalling.address], "timeouts.body = \"100ms\"", GET).await.0, "timeout:body");
}

#[tokio::test]
async fn who_goes_away_is_told_with_the_stage() {
    let silent = TestNode::sending("", false).await;
    let stalling = TestNode::sending("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\npart", false).await;
    for (address, wanted, status) in [(silent.address, "client:head", 0), (stalling.address, "client:body", 200)] {
        let log = Log::new();
        let proxy = single(&[address], &log.toml(""));
        let mut client = Client::connect(proxy.address).await;
        client.send(GET).await;
        if status == 200 {
            client.bytes(20).await.expect("the beginning of an answer");
        } else {
            until("the node works on it", || proxy.node(address).inflight() == 1).await;
        }
        drop(client);
        let line = log.line().await;
        assert_eq!((&line["outcome"], &line["status"]), (&wanted.into(), &status.into()), "{line}");
    }
    // While it waits for a node.
    let log = Log::new();
    let mut proxy = single(&[silent.address], &format!("hold.wait = \"1m\"\n{}", log.toml("")));
    proxy.publish(|_| false);
    let mut client = Client::connect(proxy.address).await;
    client.send(GET).await;
    until("it waits", || proxy.holds.values().any(|hold| hold.waiting() == 1)).await;
    drop(client);
    let line = log.line().await;
    assert_eq!((&line["outcome"], &line["attempts"], &line["node"]), (&"client:wait".into(), &0.into(), &Value::Null));
    // Its body breaks off.
    let log = Log::new();
    let proxy = single(&[silent.address], &log.toml(""));
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n").await;
    let _ = client.response("POST").await;
    assert_eq!(log.line().await["outcome"], "client:request");
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

/// A node that changes the protocol, and echoes four bytes; then it ends if `ends`.
async fn tunnel(ends: bool) -> TestNode {
    TestNode::start(move |mut peer| async move {
        peer.request().await;
        peer.send(SWITCH).await;
        let four = peer.bytes(4).await;
        peer.send(four.unwrap_or_default()).await;
        if !ends {
            peer.closed().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_tunnel_is_told_at_its_end_with_its_bytes_and_who_closed_it() {
    for (ends, wanted) in [(true, "tunnel:node"), (false, "tunnel:client"), (false, "cut:drain")] {
        let (log, node) = (Log::new(), tunnel(ends).await);
        let proxy = single(&[node.address], &log.toml(""));
        let mut client = Client::connect(proxy.address).await;
        client.send(UPGRADE).await;
        assert_eq!(client.head().await.expect("a head").status, 101);
        client.send("ping").await;
        assert_eq!(client.bytes(4).await.as_deref(), Some(&b"ping"[..]));
        match wanted {
            "tunnel:client" => drop(client),
            "tunnel:node" => {
                client.finish().await;
                client.closed().await;
            }
            _ => {
                assert!(read(&log.path("log")).is_empty(), "it is not over");
                proxy.cut(node.address, WorkKind::Tunnel, PATIENCE).all().await;
            }
        }
        let line = log.line().await;
        let told = ["outcome", "status", "bytes_in", "bytes_out", "kind"].map(|field| line[field].clone());
        assert_eq!(told, [Value::from(wanted), 101.into(), 4.into(), 4.into(), "tunnel".into()], "{line}");
    }
}

#[tokio::test]
async fn streams_of_http2_are_told_one_by_one() {
    let (log, node) = (Log::new(), TestNode::answering("hello").await);
    let proxy = single(&[node.address], &log.toml(""));
    let mut client = Http2::connect(proxy.address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/two").await.text(), "hello");
    }
    for line in log.lines(3).await {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let told = ["protocol", "path", "outcome", "bytes_out"].map(|field| line[field].clone());
        assert_eq!(told, [Value::from("HTTP/2.0"), "/two".into(), "done".into(), 5.into()], "{line}");
    }
}

#[tokio::test]
async fn a_full_disk_and_a_pipe_that_nobody_reads_cost_lines_and_no_request() {
    let node = TestNode::answering("hello").await;
    let dir = TempDir::new().expect("a folder");
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    // Somebody has it open, and does not read.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("an open pipe");
    for path in [Path::new("/dev/full"), &pipe, Path::new("/nowhere/at/all")] {
        let text = format!("{}[log.access]\npath = \"{}\"\n", app(&[node.address], ""), path.display());
        let proxy = Proxy::with_workers(&text, 1);
        let mut client = Client::connect(proxy.address).await;
        let mut asked = 0;
        // A pipe takes 64 KiB before it is full.
        while proxy.lines().1 == 0 {
            assert_eq!(client.get(&format!("/{}", "x".repeat(4000))).await.status, 200);
            asked += 1;
            assert!(asked < 20_000, "nothing is lost at {}", path.display());
        }
        assert_eq!(client.get("/").await.status, 200);
    }
    drop(reader);
}

#[tokio::test]
async fn a_log_that_is_moved_away_is_made_again_and_no_line_is_lost() {
    let (log, node) = (Log::new(), TestNode::answering("hello").await);
    let proxy = single(&[node.address], &log.toml("format = \"{path}\""));
    let mut client = Client::connect(proxy.address).await;
    let mut asked = BTreeSet::new();
    for name in ["log.1", "log.2", "log"] {
        for number in 0..3 {
            let path = format!("/{name}/{number}");
            client.get(&path).await;
            asked.insert(path);
        }
        until("they are written", || proxy.lines().0 == asked.len() as u64).await;
        if name != "log" {
            std::fs::rename(log.path("log"), log.path(name)).expect("a renamed file");
            // It is looked for twice a second.
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
    let told: BTreeSet<_> = ["log.1", "log.2", "log"].iter().flat_map(|name| read(&log.path(name))).collect();
    assert_eq!(told, asked);
    assert_eq!(read(&log.path("log")).len(), 3);
}

#[test]
fn the_tables_of_fields_and_outcomes_are_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access-log.md");
    let text = std::fs::read_to_string(path).expect("a file of the repository");
    let table: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let fields =
        sluicegate::config::LogField::ALL.iter().map(|field| format!("| `{}` | {} |", field.name(), field.help()));
    let outcomes = Outcome::ALL.iter().map(|outcome| format!("| `{}` | {} |", outcome.code(), outcome.about()));
    let wanted: Vec<String> = fields.chain(outcomes).collect();
    assert_eq!(table, wanted, "docs/access-log.md should hold:\n{}", wanted.join("\n"));
}

#[tokio::test]
async fn while_two_versions_serve_a_line_tells_why_this_one_and_which_one_failed() {
    let (log, old) = (Log::new(), TestNode::answering("old").await);
    let new = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.respond(500, "bad").await;
        }
    })
    .await;
    let format = "format = \"{version} {cohort} {shielded} {attempts} {status}\"";
    let more = format!("preview = {{ secret = \"open-sesame-3f1a9c\" }}\ncohort = {{}}\n{}", log.toml(format));
    let proxy = on_trial(&[old.address], &[new.address], 10_000, &more);
    let mut client = Client::connect(proxy.address).await;
    for fields in ["x-sluice-preview: open-sesame-3f1a9c", "x-other: 1"] {
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n")).await;
        client.response("GET").await.expect("a response");
    }
    let lines = log.lines(2).await;
    // Who looks at a preview is to see what it does.
    assert_eq!(lines, ["v2 preview - 1 500", "v1 pinned v2 2 200"]);
}
