//! Every endpoint of the API, once: what is served, what is refused, and what the OpenAPI description says come from this table.

use std::time::Duration;

use super::answer::Fault;
use super::dashboard;
use super::route::{Given, Route};
use crate::api::{Halting, Request, Steering};
use crate::model::{ServiceName, Version};

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needs {
    /// Anybody who can connect: it tells nothing but whether the proxy lives.
    Nothing,
    /// Whoever may look.
    Reading,
    /// Whoever may change what runs. Each such request is told in the audit log.
    Steering,
}

/// What an endpoint answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// A line of text.
    Text,
    /// A file of the dashboard, of this type.
    Page(&'static str),
    /// OpenMetrics.
    Measures,
    /// A JSON document with a shape of its own.
    Document,
    /// One JSON document of this shape.
    Json(&'static str),
    /// A list of them.
    List(&'static str),
    /// Server-sent events, each with data of this shape.
    Events(&'static str),
    /// A line of JSON for each change, the last with `ended`.
    Lines(&'static str),
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) required: bool,
}

/// One method on one path.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    /// Names in braces stand for one segment each.
    pub(super) path: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) needs: Needs,
    pub(super) answers: Answers,
    /// For people, in the description.
    pub(super) about: &'static str,
    /// What the request comes to.
    pub(super) build: fn(&Given<'_>) -> Result<Route, Fault>,
}

const fn optional(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, required: false }
}

const fn get(
    path: &'static str,
    query: &'static [Parameter],
    answers: Answers,
    about: &'static str,
    build: fn(&Given<'_>) -> Result<Route, Fault>,
) -> Endpoint {
    Endpoint { method: "GET", path, query, needs: Needs::Reading, answers, about, build }
}

const fn post(
    path: &'static str,
    query: &'static [Parameter],
    answers: Answers,
    about: &'static str,
    build: fn(&Given<'_>) -> Result<Route, Fault>,
) -> Endpoint {
    Endpoint { method: "POST", path, query, needs: Needs::Steering, answers, about, build }
}

const fn open(mut endpoint: Endpoint) -> Endpoint {
    endpoint.needs = Needs::Nothing;
    endpoint
}

/// A POST because it begins something on the caller's behalf, but it changes nothing.
const fn harmless(mut endpoint: Endpoint) -> Endpoint {
    endpoint.needs = Needs::Reading;
    endpoint
}

fn steer(given: &Given<'_>, steering: Steering) -> Result<Route, Fault> {
    Ok(Route::Ask(Request::Steer { service: given.service()?, steering, by: String::new() }))
}

fn halt(given: &Given<'_>, halting: Halting) -> Result<Route, Fault> {
    Ok(Route::Ask(Request::Halt { service: given.service()?, halting, by: String::new() }))
}

fn history(given: &Given<'_>) -> Result<Route, Fault> {
    let service = match given.parameter("service")? {
        Some(name) => ServiceName::new(name),
        None => given.service().map_err(|_| Fault::bad_request("say which service: /v1/history?service=NAME"))?,
    };
    Ok(Route::Ask(Request::History { service }))
}

/// All of them, in the order in which they are described.
pub(super) static ENDPOINTS: &[Endpoint] = &[
    open(get("/healthz", &[], Answers::Text, "200 as long as the process lives.", |_| Ok(Route::Health))),
    open(get(
        "/readyz",
        &[],
        Answers::Text,
        "200 while the proxy wants traffic, 503 before the first configuration and once shutdown began.",
        |_| Ok(Route::Ready),
    )),
    get("/metrics", &[], Answers::Measures, "What is measured, for Prometheus.", |_| Ok(Route::Metrics)),
    open(get("/", &[], Answers::Page("text/html"), "The dashboard, for a browser.", |_| {
        Ok(Route::Page(dashboard::page()))
    })),
    open(get("/dashboard/{file}", &[], Answers::Page("text/javascript"), "What the dashboard loads.", |given| {
        dashboard::file(given.file()?).map(Route::Page)
    })),
    get("/v1/whoami", &[], Answers::Json("Whoami"), "Who asks, as the history will name them, and their role.", |_| {
        Ok(Route::Whoami)
    }),
    get("/v1/openapi.json", &[], Answers::Document, "This description.", |_| Ok(Route::Description)),
    get(
        "/v1/status",
        &[optional("service", "Only this service.")],
        Answers::Json("Status"),
        "Everything that runs: configuration, listeners, services with versions, shares and nodes.",
        |given| {
            let service = given.parameter("service")?.map(ServiceName::new);
            Ok(Route::Ask(Request::Status { service }))
        },
    ),
    get("/v1/services/{service}", &[], Answers::Json("ServiceStatus"), "One service.", |given| {
        Ok(Route::Service(given.service()?))
    }),
    get(
        "/v1/services/{service}/history",
        &[],
        Answers::List("HistoryEntry"),
        "Finished rollouts of a service, newest first.",
        history,
    ),
    get(
        "/v1/history",
        &[Parameter { name: "service", about: "The service.", required: true }],
        Answers::List("HistoryEntry"),
        "The same.",
        history,
    ),
    get(
        "/v1/events",
        &[
            optional("service", "Only what is about this service, or about the whole proxy."),
            optional("after", "Begin after this event; `Last-Event-ID` goes before it. Without both: with what comes."),
        ],
        Answers::Events("Event"),
        "What happens, as server-sent events; who comes back with `Last-Event-ID` gets what he missed, or a `gap`.",
        |given| {
            let after = given.parameter("after")?.map(|id| id.parse());
            let after = after.transpose().map_err(|_| Fault::bad_request("after is the number of an event"))?;
            Ok(Route::Events { after, service: given.parameter("service")?.map(ServiceName::new) })
        },
    ),
    harmless(post(
        "/v1/services/{service}/wait",
        &[optional("version", "Fail at once, with 409, if another version is wanted.")],
        Answers::Lines("Progress"),
        "Follows the change that the configuration asks for until it has ended. The files are read first.",
        |given| {
            let version = given.parameter("version")?.map(Version::new);
            Ok(Route::Ask(Request::Wait { service: given.service()?, version }))
        },
    )),
    get("/v1/config", &[], Answers::Json("Outline"), "The configuration that runs, in outline.", |_| {
        Ok(Route::Ask(Request::Config))
    }),
    post(
        "/v1/reload",
        &[],
        Answers::Json("ConfigStatus"),
        "Reads the configuration files now. Problems in them are part of the answer, not an error.",
        |_| Ok(Route::Ask(Request::Reload)),
    ),
    post(
        "/v1/services/{service}/promote",
        &[optional("full", "`true`: end all further holds too.")],
        Answers::Json("ServiceStatus"),
        "Ends the hold of the present step.",
        |given| steer(given, if given.flag("full")? { Steering::PromoteFull } else { Steering::Promote }),
    ),
    post(
        "/v1/services/{service}/pause",
        &[],
        Answers::Json("ServiceStatus"),
        "Keeps the rollout where it is; the guard goes on judging.",
        |given| steer(given, Steering::Pause),
    ),
    post("/v1/services/{service}/resume", &[], Answers::Json("ServiceStatus"), "Goes on after a pause.", |given| {
        steer(given, Steering::Resume)
    }),
    post(
        "/v1/services/{service}/abort",
        &[],
        Answers::Json("ServiceStatus"),
        "Goes back to what served before, at once, and refuses the new version.",
        |given| steer(given, Steering::Abort),
    ),
    post(
        "/v1/services/{service}/retry",
        &[],
        Answers::Json("ServiceStatus"),
        "Tries a refused version again.",
        |given| steer(given, Steering::Retry),
    ),
    post(
        "/v1/services/{service}/hold",
        &[optional("for", "How long at most, like `30s`, which it is if it is not given; up to an hour.")],
        Answers::Json("ServiceStatus"),
        "Keeps requests waiting; those under way go on.",
        |given| {
            let length = given.duration("for")?.unwrap_or(Duration::from_secs(30));
            halt(given, Halting::Hold { for_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX) })
        },
    ),
    post("/v1/services/{service}/release", &[], Answers::Json("ServiceStatus"), "Lets held requests go.", |given| {
        halt(given, Halting::Release)
    }),
    post(
        "/v1/services/{service}/maintenance",
        &[
            optional("message", "What clients are told, in place of the service's page for 503."),
            optional("retry_after", "When clients are asked to come back, like `10m`; 60s if it is not given."),
            optional("undo", "`true`: end it instead."),
        ],
        Answers::Json("ServiceStatus"),
        "Answers every request with 503, a page and `Retry-After`; those under way go on.",
        |given| {
            let message = given.text("message")?;
            let wait = given.duration("retry_after")?.unwrap_or(Duration::from_mins(1));
            let on = Halting::MaintenanceOn { message, retry_after: wait.as_secs().max(1) };
            halt(given, if given.flag("undo")? { Halting::MaintenanceOff } else { on })
        },
    ),
    post(
        "/v1/services/{service}/nodes/{node}/drain",
        &[optional("undo", "`true`: put the node back instead.")],
        Answers::Lines("Progress"),
        "Takes one node out by hand; ends when it holds no work.",
        |given| {
            Ok(Route::Ask(Request::Drain { service: given.service()?, node: given.node()?, undo: given.flag("undo")? }))
        },
    ),
];
