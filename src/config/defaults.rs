//! Defaults, each with its reason. `config/reference.toml` tells operators the same; a test keeps both equal.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{AllDown, Connections, Drain, Health, Limits, NodeProtocol, Probe, Retry, Shutdown, Timeouts};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Statuses that pass an HTTP probe. A redirect does not: it often leads to a login page that says nothing about health.
pub(super) const STATUS: RangeInclusive<u16> = 200..=299;

impl Default for Limits {
    fn default() -> Self {
        Self {
            // At about 20 KB each a flood ends at 400 MB, not at the OOM killer; well above what one front door sees in peace.
            connections: 20_000,
            // Off: behind one address there may be a whole office, or a proxy in front of this one.
            connections_per_address: None,
            // As many as connections: HTTP/1 never meets it, and HTTP/2 cannot make hundreds out of each connection.
            requests: 20_000,
            // Off: a connection that works costs less than a new one.
            requests_per_connection: None,
            // Four times nginx's single header buffer: room for fat cookies, little for an attacker.
            head_size: 32 << 10,
            // What there is room for without an allocation; browsers send twenty.
            headers: 100,
            // A phone on a bad line sends a head in well under this; a slow-loris client has to come back for each.
            head: seconds(10),
            // A little above the 60 s after which browsers and cloud load balancers close, so that the client closes first.
            idle: seconds(75),
            // What RFC 9113 §6.5.2 asks for at least is 100; browsers stay below.
            streams: 128,
            // A dead peer holds its node for a minute at most; an idle phone is not woken, because only open streams count.
            ping: seconds(30),
            // Two round trips on a bad line; who connects and says nothing costs little until then.
            handshake: seconds(10),
            // A core makes some two thousand a second: a burst beyond this waits its turn, and those served meanwhile do not.
            handshakes: 1000,
            // Off: bodies pass through and are not held, so that only the service knows what is too much.
            body: None,
            // Slower than any modem, far above what keeps a slow-POST attack cheap: 7 KB in each half minute.
            body_rate: 240,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            // Only somebody who polls /readyz needs time to notice, and that is a matter of the polling interval.
            delay: Duration::ZERO,
            // Long enough for a request that is already on its way to be answered, even over a bad line.
            linger: seconds(5),
            // What Kubernetes gives by default between SIGTERM and SIGKILL.
            deadline: seconds(30),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            // The only probe that every service passes.
            probe: Probe::Tcp,
            // A deploy waits for this; one small request a second costs a node nothing.
            interval: seconds(1),
            // A healthy node answers in milliseconds; a garbage collection may take a second.
            timeout: seconds(2),
            // One pass can be luck while a node is still starting.
            rise: 2,
            // One lost probe must not empty a pool; three seconds are short enough, because failed requests are replayed.
            fall: 3,
            // The checker is more likely wrong than every node at once.
            all_down: AllDown::Serve,
            protocol: NodeProtocol::Http1,
            proxy_protocol: None,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            // The time a response may take anyway (`timeouts.response`).
            requests: seconds(30),
            // Downloads and event streams end by themselves or can be resumed.
            streams: seconds(300),
            // People in a session notice being cut; most sessions are shorter.
            websockets: seconds(600),
            // Spreads the reconnects of a full node thin enough for the others to accept.
            spread: seconds(10),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // One lost SYN is sent again after 1 s: this survives one, and then tries another node.
            connect: seconds(2),
            // Slow reports take seconds; clients seldom wait longer.
            response: seconds(30),
            // Without one byte: counts silence, not the length of a transfer.
            body: seconds(30),
            // WebSocket libraries ping each 20 to 60 s; ten minutes forgive those that do not.
            tunnel: seconds(600),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            // One node leaves just now and one has just died: the third answers.
            attempts: 3,
            // Replays may add a fifth to the load of a service in trouble, never double it.
            budget: 0.2,
            // Forms and API calls fit; uploads are not held in memory.
            buffer: 64 << 10,
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            // What a common application server accepts at once; more would only queue inside it.
            max: 1024,
            // A quarter of that covers the swing of the load; the rest is opened when needed.
            idle: 256,
            // Under the 60 s and more of common servers (Node's 5 s is told by its `Keep-Alive` header).
            idle_timeout: seconds(30),
            // Used a moment ago, so the node has hardly decided to close it.
            fresh: Duration::from_millis(10),
            // Every server speaks it.
            protocol: NodeProtocol::Http1,
            // Off: a node that does not expect the header takes it for a broken request.
            proxy_protocol: None,
            // What RFC 9113 §6.5.2 recommends a server to allow at least.
            streams: 100,
            // Above the five minutes below which gRPC servers take pings for abuse, and close.
            ping: seconds(360),
        }
    }
}
