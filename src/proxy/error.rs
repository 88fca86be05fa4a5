//! What can go wrong with a request, and the one place where that becomes a response.

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use super::body::RespBody;

/// The header that names the fault in a response that Sluice made itself.
pub const FAULT: HeaderName = HeaderName::from_static("x-sluice-error");

/// What a reverse proxy offers: no tunnels to anywhere, and no echo of headers that a script could read cookies from.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Answers OPTIONS itself, for a request that may go no further (RFC 9110 §7.6.2).
pub fn options() -> Response<RespBody> {
    let mut response = Response::new(RespBody::Empty);
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// Why Sluice answers a request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request breaks HTTP, or could be read in two ways.
    BadRequest(&'static str),
    /// A method that a reverse proxy does not offer: CONNECT, TRACE.
    MethodNotAllowed,
    /// An extended CONNECT for anything but a WebSocket (RFC 8441).
    UnknownProtocol,
    /// `Expect` with anything but `100-continue`.
    ExpectationFailed,
    /// The client stopped sending its body.
    ClientTimeout,
    /// The client's body broke off or was malformed.
    ClientBody,
    /// More fields than a head may have.
    TooManyFields,
    /// More bytes than a head may have.
    HeadTooLarge,
    /// More bytes in the first line than a head may have.
    TargetTooLong,
    /// The client's body is larger than it may be.
    BodyTooLarge,
    /// As many requests are under way as there may be.
    Full,
    /// The same of this service.
    ServiceFull,
    /// The client's address has no access.
    Denied,
    /// The client asks too often; it may come back after this many seconds.
    RateLimited(u64),
    /// The client has to say who it is; with `WWW-Authenticate`.
    Unauthorized(HeaderValue),
    /// Too many passwords wait to be checked, or too many questions for an answer.
    AuthBusy,
    /// Who decides about access did not answer.
    AuthUnavailable,
    /// It is served over HTTPS, at this place.
    ToHttps(Box<HeaderValue>),
    /// No service takes this host and path.
    NoService,
    /// The service has no node that may get a request.
    NoNode,
    /// Every try ended in a refused or failed connection.
    Connect,
    /// No TLS with any node: a certificate that does not prove its name, no common version, a broken handshake.
    NodeTls,
    /// Every try ended in a connection that was not accepted in time.
    ConnectTimeout,
    /// There is a connection, and the node does not speak HTTP/2 on it, as the configuration says it does.
    Protocol,
    /// The client asks for another protocol, and the nodes speak HTTP/2 only.
    NoUpgrade,
    /// Every node has as many connections as it may have, and none came free in time.
    NodeBusy,
    /// Every node has as many requests as it may have.
    NodesFull,
    /// An operator holds the service's requests, and as many wait as may.
    Held,
    /// An operator has put the service into maintenance.
    Maintenance(std::sync::Arc<crate::pool::Maintenance>),
    /// The node closed the connection before a response.
    Reset,
    /// The node sent something that is not a usable HTTP response.
    BadResponse,
    /// The node did not answer in time.
    ResponseTimeout,
    /// The time that the client gave the call has passed (gRPC).
    Deadline,
    /// The node left the pool and its drain deadline passed.
    DrainDeadline,
    /// Sluice is ending and its shutdown deadline passed.
    Shutdown,
}

impl Fault {
    /// The status that the client gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::ClientBody => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyFields | Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::ToHttps(_) => StatusCode::PERMANENT_REDIRECT,
            Self::NoService => StatusCode::NOT_FOUND,
            Self::Connect | Self::NodeTls | Self::Protocol | Self::Reset | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::UnknownProtocol | Self::NoUpgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Full
            | Self::ServiceFull
            | Self::AuthBusy
            | Self::AuthUnavailable
            | Self::NoNode
            | Self::NodeBusy
            | Self::NodesFull
            | Self::Held
            | Self::Maintenance(_)
            | Self::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::Deadline | Self::DrainDeadline => {
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }

    /// One word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UnknownProtocol => "unknown-protocol",
            Self::ExpectationFailed => "expectation-failed",
            Self::ClientTimeout => "client-timeout",
            Self::ClientBody => "client-body",
            Self::TooManyFields => "header-count",
            Self::HeadTooLarge => "head-size",
            Self::TargetTooLong => "target-size",
            Self::BodyTooLarge => "body-size",
            Self::Full => "request-limit",
            Self::ServiceFull => "service-request-limit",
            Self::Denied => "access-denied",
            Self::RateLimited(_) => "rate-limit",
            Self::Unauthorized(_) => "auth-required",
            Self::AuthBusy => "auth-busy",
            Self::AuthUnavailable => "auth-unavailable",
            Self::ToHttps(_) => "to-https",
            Self::NoService => "no-service",
            Self::NoNode => "no-node",
            Self::Connect => "connect",
            Self::NodeTls => "node-tls",
            Self::ConnectTimeout => "connect-timeout",
            Self::Protocol => "protocol",
            Self::NoUpgrade => "no-upgrade",
            Self::NodeBusy => "node-busy",
            Self::NodesFull => "nodes-full",
            Self::Held => "held",
            Self::Maintenance(_) => "maintenance",
            Self::Reset => "reset",
            Self::BadResponse => "bad-response",
            Self::ResponseTimeout => "response-timeout",
            Self::Deadline => "deadline",
            Self::DrainDeadline => "drain-deadline",
            Self::Shutdown => "shutdown",
        }
    }

    /// One line for the client; nothing of what is inside.
    pub fn text(&self) -> &'static str {
        match self {
            Self::BadRequest(why) => why,
            Self::MethodNotAllowed => "this method is not offered here",
            Self::UnknownProtocol => "only WebSockets can be opened with CONNECT",
            Self::ExpectationFailed => "only 100-continue can be expected",
            Self::ClientTimeout => "the request body stopped arriving, or came too slowly",
            Self::TooManyFields => "the request has too many header fields",
            Self::HeadTooLarge => "the head of the request is too large",
            Self::TargetTooLong => "the request target is too long",
            Self::BodyTooLarge => "the request body is too large",
            Self::Full => "too many requests are under way",
            Self::ServiceFull => "too many requests to this service are under way",
            Self::Denied => "your address has no access",
            Self::RateLimited(_) => "you ask too often",
            Self::Unauthorized(_) => "say who you are",
            Self::AuthBusy => "too many requests wait to be let in",
            Self::AuthUnavailable => "nobody could say whether you have access",
            Self::ClientBody => "the request body is malformed or broke off",
            Self::ToHttps(_) => "this is served over HTTPS",
            Self::NoService => "no service is configured for this host and path",
            Self::NoNode => "no node of this service can take a request now",
            Self::Connect => "the service could not be reached",
            Self::NodeTls => "the service could not prove who it is",
            Self::ConnectTimeout => "the service did not accept a connection in time",
            Self::Protocol => "the service does not speak the protocol it is said to speak",
            Self::NoUpgrade => "this service offers no change of protocol, and so no WebSockets",
            Self::NodeBusy => "the service is at its connection limit",
            Self::Held => "the service is paused for a moment, and too many wait already",
            Self::Maintenance(_) => "the service is being worked on; please come back later",
            Self::NodesFull => "every node of this service has as many requests as it may have",
            Self::Reset => "the service closed the connection without an answer",
            Self::BadResponse => "the service sent an invalid answer",
            Self::ResponseTimeout => "the service did not answer in time",
            Self::Deadline => "the time that the client gave has passed",
            Self::DrainDeadline => "the node that worked on this was taken out of service",
            Self::Shutdown => "the proxy is shutting down",
        }
    }

    /// Whether the client's connection cannot be used further: what follows on it may not be a request.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_) | Self::MethodNotAllowed | Self::ClientTimeout | Self::ClientBody | Self::Shutdown
        )
    }

    /// The body that tells it if there is no better one.
    pub fn line(&self) -> String {
        if let Self::Maintenance(what) = self
            && let Some(message) = &what.message
        {
            return format!("{message}\n");
        }
        format!("{}: {}\n", self.status(), self.text())
    }

    /// The response.
    pub fn response(&self) -> Response<RespBody> {
        let status = self.status();
        let mut response = Response::new(RespBody::full(self.line()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(FAULT, HeaderValue::from_static(self.label()));
        match self {
            Self::RateLimited(wait) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(*wait))),
            Self::Unauthorized(challenge) => drop(headers.insert(WWW_AUTHENTICATE, challenge.clone())),
            _ => {}
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let wait = if let Self::Maintenance(what) = self { what.retry_after } else { 1 };
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, METHODS);
        }
        if let Self::ToHttps(place) = self {
            headers.insert(LOCATION, HeaderValue::clone(place));
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // For a front that has another way to tell it.
        response.extensions_mut().insert(self.clone());
        response
    }
}
