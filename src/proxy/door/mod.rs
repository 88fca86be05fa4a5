//! What a request meets on its way in, besides being routed and sent: one file a policy.
//!
//! The order is fixed: the client's address → `access` → `rate` → `basic` and `forward` (who is it?) → `redirect` → bounds →
//! `redirect::rewrite` → `fields` → a node; and on the way out `pages` → `compress` → `fields`. A path is always taken as routing
//! takes it ([`normalised`](crate::pool::router::normalised)), so that no spelling of it leads past a policy.
//!
//! A service without policies has no [`State`], and its requests pay one look for it.

mod basic;
mod client;
#[cfg(feature = "compression")]
mod compress;
mod fields;
mod forward;
mod pages;
mod redirect;

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, Uri};

use super::access_log::Entry;
use super::body::RespBody;
use super::call::Call;
use super::error::Fault;
use super::headers::Seen;
use super::trial::Guest;
use super::view::{ServiceLocal, View};
use super::worker::Worker;
use crate::config::{self, Errors, RateKey};
use crate::model::ServiceName;
use crate::pool::Meters;
use crate::pool::meters::{Flight, client_key};
use crate::pool::rate::Limiter;
use crate::pool::router::normalised;

pub use client::{address as client_address, is_https as client_is_https, is_trusted};
#[cfg(feature = "compression")]
pub use compress::Compressed;
pub use fields::hide;

/// A service's policies as a worker carries them out.
#[derive(Debug)]
pub struct State {
    service: ServiceName,
    door: Arc<config::Door>,
    /// For each of `door.rates`.
    limiters: Vec<Arc<Limiter>>,
    flight: Option<Arc<Flight>>,
}

/// Where a worker keeps it from one request to the next.
#[derive(Debug, Default)]
pub struct Slot(RefCell<Option<Rc<State>>>);

impl Slot {
    /// The state for these policies. What workers count together goes on where an edit left it alone.
    pub fn state(&self, service: &config::Service, door: &Arc<config::Door>, meters: &Meters) -> Rc<State> {
        let mut slot = self.0.borrow_mut();
        if let Some(known) = slot.as_ref().filter(|known| Arc::ptr_eq(&known.door, door)) {
            return Rc::clone(known);
        }
        let name = &service.name;
        let state = Rc::new(State {
            service: name.clone(),
            door: Arc::clone(door),
            limiters: door.rates.iter().map(|rate| meters.limiter(name, rate)).collect(),
            flight: door.requests.map(|_| meters.flight(name)),
        });
        *slot = Some(Rc::clone(&state));
        state
    }
}

/// What this worker keeps for the policies of all services.
#[derive(Debug, Default)]
pub struct Kit {
    verified: basic::Verified,
    deciders: forward::Deciders,
    /// Bodies that are being compressed.
    #[cfg(feature = "compression")]
    compressing: Rc<std::cell::Cell<usize>>,
}

impl Kit {
    /// The watchdog's look.
    pub fn sweep(&self, now: Instant) {
        self.deciders.sweep(now);
    }
}

/// What an answer to this request is made with, whoever makes it. Filled in as the request is understood.
#[derive(Debug, Default)]
pub struct Context {
    /// The request's `Accept`.
    pub accept: Option<HeaderValue>,
    /// The pages of the whole process.
    pub pages: Option<Arc<Errors>>,
    /// What the request is while two versions of its service serve; none for nearly all.
    pub guest: Option<Box<Guest>>,
    /// Set once the request is known to be for a service with policies.
    pub pass: Option<Box<Pass>>,
    /// Set once the request is known to be for a service.
    pub local: Option<Rc<ServiceLocal>>,
    /// What is noted for the access log, if there is one.
    pub entry: Option<Rc<Entry>>,
    /// The header that names the request, and its name, if it shall have one.
    pub request_id: Option<Box<(HeaderName, HeaderValue)>>,
    /// It is the last one on its connection.
    pub is_last: bool,
}

/// One request to a service with policies.
#[derive(Debug)]
pub struct Pass {
    state: Rc<State>,
    /// As trusted proxies tell it.
    client: IpAddr,
    https: bool,
    host: Option<HeaderValue>,
    #[cfg(feature = "compression")]
    method: http::Method,
    /// What the client asked for, if a policy still has to know.
    uri: Uri,
    /// The answer is no node's: it was given here.
    answered: bool,
    /// Set by `basic`.
    user: Option<String>,
    /// Drawn when it is first asked for.
    request_id: OnceCell<HeaderValue>,
    /// Drawn for `request_id`.
    random: [u64; 2],
    #[cfg(feature = "compression")]
    accepted: compress::Accepted,
}

impl Pass {
    /// A request that was routed to a service with this state.
    pub fn new(worker: &Worker, call: &Call, view: &View, state: Rc<State>, head: &Parts, seen: &Seen) -> Self {
        let trusted = &view.edge().trusted_proxies;
        let peer = call.front.remote().ip().to_canonical();
        Self {
            client: client::address(peer, &head.headers, trusted),
            https: client::is_https(&call.front, peer, &head.headers, trusted),
            host: seen.host.clone(),
            #[cfg(feature = "compression")]
            method: head.method.clone(),
            uri: head.uri.clone(),
            answered: false,
            user: None,
            request_id: OnceCell::new(),
            random: [worker.random(), worker.random()],
            #[cfg(feature = "compression")]
            accepted: compress::Accepted::of(state.door.compression.as_ref(), &head.headers),
            state,
        }
    }

    /// The request has an id already.
    pub fn set_request_id(&self, id: &HeaderValue) {
        let _ = self.request_id.set(id.clone());
    }

    /// The client's address, as trusted proxies tell it.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Bytes that a request body may have; `general` unless the service says otherwise.
    pub fn body_limit(&self, general: Option<u64>) -> Option<u64> {
        self.state.door.body.or(general)
    }

    /// What stands between the client and the service. `Some`: the answer, and the request goes no further.
    pub async fn enter(
        &mut self,
        worker: &Worker,
        view: &View,
        call: &Call,
        seen: &Seen,
        head: &mut Parts,
    ) -> Result<Option<Response<RespBody>>, Fault> {
        let state = Rc::clone(&self.state);
        let door = &*state.door;
        if door.access.as_ref().is_some_and(|access| !access.admits(self.client)) {
            return Err(Fault::Denied);
        }
        self.keep_rates(&head.headers)?;
        if let Some(basic) = &door.basic_auth {
            let user = worker.door.verified.check(basic, &worker.meters.passwords, call, &head.headers).await?;
            self.user = Some(user);
            if !basic.forward {
                head.headers.remove(http::header::AUTHORIZATION);
            }
        }
        if let Some(forward) = &door.forward_auth
            && let Some(answer) = worker.door.deciders.ask(forward, call, seen, view.edge(), head).await?
        {
            self.answered = true;
            return Ok(Some(answer));
        }
        if let Some(answer) = redirect::answer(self, door) {
            self.answered = true;
            return Ok(Some(answer));
        }
        if let (Some(most), Some(flight)) = (door.requests, &state.flight) {
            call.set_ticket(flight.enter(most).ok_or(Fault::ServiceFull)?);
        }
        Ok(None)
    }

    fn keep_rates(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let mut path = None;
        for (rate, limiter) in self.state.door.rates.iter().zip(&self.state.limiters) {
            if let Some(pattern) = &rate.path {
                let path = path.get_or_insert_with(|| normalised(self.uri.path()));
                if pattern.rest(path).is_none() {
                    continue;
                }
            }
            let taken = match &rate.by {
                RateKey::Header(name) if headers.contains_key(name) => {
                    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
                    match (values.next(), values.next()) {
                        (Some(value), None) => limiter.check(value),
                        // Nobody knows which one the node will believe, and together they would be another one each time.
                        _ => limiter.check(client_key(self.client)),
                    }
                }
                RateKey::Header(_) | RateKey::Client => limiter.check(client_key(self.client)),
            };
            taken.map_err(|wait| Fault::RateLimited(seconds(wait)))?;
        }
        Ok(())
    }

    /// What the node is asked for, if that is another path than `uri` has.
    pub fn rewrite(&self, uri: &Uri) -> Result<Option<Uri>, Fault> {
        redirect::rewrite(&self.state.door.rewrites, uri)
    }

    /// Has the last word on the node's header fields.
    pub fn change_request(&self, headers: &mut HeaderMap) {
        fields::carry_out(&self.state.door.request_headers, self, headers);
    }
}

/// What is told of a request that nothing is known of.
pub fn tell(worker: &Worker, fault: &Fault) -> Response<RespBody> {
    let view = worker.view();
    pages::Pages { own: None, general: view.edge().errors.as_deref(), request_id: None }.tell(fault, None)
}

/// For `Retry-After`: rounded up, or the client would come back a moment too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl Context {
    /// Has `response` be what the client gets for a request that came out like this.
    pub fn finish(&mut self, worker: &Worker, outcome: Result<(), Fault>, response: &mut Response<RespBody>) {
        let own = self.pass.as_ref().and_then(|pass| pass.state.door.errors.as_ref());
        let answered = self.pass.as_ref().is_some_and(|pass| pass.answered);
        let request_id = self.request_id.as_ref().map(|named| &named.1);
        let pages = pages::Pages { own, general: self.pages.as_deref(), request_id };
        match outcome {
            Ok(()) if !answered && pages.intercept(response) => pages.replace(response, self.accept.as_ref()),
            Ok(()) => {}
            Err(fault) => *response = pages.tell(&fault, self.accept.as_ref()),
        }
        if let Some(pass) = &self.pass {
            #[cfg(feature = "compression")]
            compress::apply(pass, &worker.door.compressing, response);
            fields::carry_out(&pass.state.door.response_headers, pass, response.headers_mut());
        }
        if let Some((name, id)) = self.request_id.take().map(|named| *named) {
            response.headers_mut().insert(name, id);
        }
        if self.is_last {
            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        #[cfg(not(feature = "compression"))]
        let _ = worker;
    }
}
