//! Outside judges: a webhook and Prometheus queries, asked again and again while a step holds.
//!
//! The loop asks and looks what came; each question is a task of its own with a deadline, at most one a judge at a time, and none
//! outlives its window.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::endpoint::{ask, request};
use crate::api::{Evidence, Opinion};
use crate::config::{Endpoint, Judge, Question, Unavailable};
use crate::model::{ServiceName, Timestamp, Version};
use crate::net::ask::encode;
use crate::rollout::Verdict;

/// A reason from outside is cut after so many characters.
const REASON: usize = 500;

/// All the judges of one window.
#[derive(Debug, Default)]
pub(super) struct Judges {
    seats: Vec<Seat>,
    /// Whether an opinion came, or the judges changed, since it was asked last.
    news: bool,
}

/// What an answer means.
type Read = fn(&Question, &[u8]) -> Result<Finding, String>;

/// One judge, and what it said.
#[derive(Debug)]
struct Seat {
    judge: Judge,
    /// When it is asked next.
    next: Instant,
    /// The open question; aborted with the seat.
    asking: Option<AbortHandle>,
    /// Written by the question's task.
    answer: Rc<RefCell<Option<Finding>>>,
    said: Option<Finding>,
}

/// What a judge found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    Pass(String),
    Hold(String),
    Fail(String),
    Unavailable(String),
}

/// What judges are told of a trial.
#[derive(Debug, Serialize)]
pub(super) struct Case {
    pub(super) service: ServiceName,
    /// On trial.
    pub(super) version: Version,
    /// In percent.
    pub(super) share: f64,
    /// When the step began.
    pub(super) since: Timestamp,
    /// For how long it has been judged, in milliseconds.
    pub(super) window_ms: u64,
    /// What the guard sees.
    pub(super) evidence: Evidence,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

impl Judges {
    /// Follows the configuration: judges that did not change keep what they said.
    pub(super) fn follow(&mut self, wanted: &[Judge], now: Instant) {
        if self.seats.iter().map(|seat| &seat.judge).eq(wanted) {
            return;
        }
        let mut before = std::mem::take(&mut self.seats);
        let mut seat = |judge: &Judge| match before.iter().position(|seat| seat.judge == *judge) {
            Some(at) => before.swap_remove(at),
            None => Seat { judge: judge.clone(), next: now, asking: None, answer: Rc::default(), said: None },
        };
        self.seats = wanted.iter().map(&mut seat).collect();
        self.news = true;
    }

    /// Takes in what came. Whether somebody is to be asked now.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        for seat in &mut self.seats {
            if seat.asking.take_if(|asking| asking.is_finished()).is_none() {
                continue;
            }
            seat.next = now + seat.judge.interval;
            // Without an answer, its task broke down.
            let answer = seat.answer.take().unwrap_or_else(|| Finding::Unavailable("it could not be asked".into()));
            self.news |= seat.said.as_ref() != Some(&answer);
            seat.said = Some(answer);
        }
        self.seats.iter().any(|seat| seat.asking.is_none() && seat.next <= now)
    }

    /// Whether anything changed since this was called last.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Asks those whose turn it is.
    pub(super) fn ask(&mut self, case: &Case, now: Instant) {
        for seat in self.seats.iter_mut().filter(|seat| seat.asking.is_none() && seat.next <= now) {
            let (endpoint, answer) = (seat.judge.endpoint.clone(), Rc::clone(&seat.answer));
            let (request, read): (_, Read) = match &seat.judge.question {
                Question::Webhook => (post(&endpoint, case), |_, body| verdict(body)),
                Question::Prometheus { query, .. } => (query_of(&endpoint, query, case), values),
            };
            let question = seat.judge.question.clone();
            let task = tokio::task::spawn_local(async move {
                let found = match request {
                    Ok(request) => ask(&endpoint, request).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error),
                };
                let found = found.and_then(|body| read(&question, &body));
                answer.replace(Some(found.unwrap_or_else(|error| Finding::Unavailable(cut(&error)))));
            });
            seat.asking = Some(task.abort_handle());
        }
    }

    /// The guard's verdict with theirs: the worst counts, and before each of them lets it pass, nothing does.
    pub(super) fn weigh(&self, verdict: Verdict) -> Verdict {
        if matches!(verdict, Verdict::Fail(_)) {
            return verdict;
        }
        let failed = self.seats.iter().find_map(|seat| match &seat.said {
            Some(Finding::Fail(why)) => Some(Verdict::Fail(seat.says("does not accept it", why))),
            _ => None,
        });
        let held = || {
            self.seats.iter().find_map(|seat| match &seat.said {
                None => Some(Verdict::Hold(seat.says("has not answered yet", ""))),
                Some(Finding::Hold(why)) => Some(Verdict::Hold(seat.says("does not let it pass yet", why))),
                Some(Finding::Unavailable(why)) if seat.judge.unavailable == Unavailable::Hold => {
                    Some(Verdict::Hold(seat.says("cannot be asked", why)))
                }
                _ => None,
            })
        };
        failed.or_else(held).unwrap_or(verdict)
    }

    /// What they say, for people.
    pub(super) fn opinions(&self) -> Vec<Opinion> {
        let opinion = |seat: &Seat| {
            let (verdict, reason) = match &seat.said {
                None => ("waiting", ""),
                Some(Finding::Pass(why)) => ("pass", why.as_str()),
                Some(Finding::Hold(why)) => ("hold", why.as_str()),
                Some(Finding::Fail(why)) => ("fail", why.as_str()),
                Some(Finding::Unavailable(why)) => ("unavailable", why.as_str()),
            };
            Opinion { judge: seat.name(), verdict: verdict.into(), reason: reason.into() }
        };
        self.seats.iter().map(opinion).collect()
    }
}

impl Seat {
    fn name(&self) -> String {
        let what = match self.judge.question {
            Question::Webhook => "webhook",
            Question::Prometheus { .. } => "prometheus",
        };
        format!("{what} at {}", self.judge.endpoint.host)
    }

    fn says(&self, what: &str, why: &str) -> String {
        let between = if why.is_empty() { "" } else { ": " };
        format!("the {} {what}{between}{why}", self.name())
    }
}

/// What came from outside goes into logs and onto terminals: one line, not too long.
fn cut(text: &str) -> String {
    text.chars().take(REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn post(endpoint: &Endpoint, case: &Case) -> Result<Request<Full<Bytes>>, String> {
    let body = serde_json::to_vec(case).map_err(|error| error.to_string())?;
    request(endpoint, Method::POST, &endpoint.path, body.into())
}

/// The webhook's answer.
fn verdict(body: &[u8]) -> Result<Finding, String> {
    #[derive(Deserialize)]
    struct Answer {
        verdict: String,
        #[serde(default)]
        reason: String,
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is not like {{\"verdict\": \"pass\"}}: {error}"))?;
    let reason = cut(&answer.reason);
    match answer.verdict.as_str() {
        "pass" => Ok(Finding::Pass(reason)),
        "hold" => Ok(Finding::Hold(reason)),
        "fail" => Ok(Finding::Fail(reason)),
        other => Err(format!("its verdict is neither pass, hold nor fail, but {other:?}")),
    }
}

fn query_of(endpoint: &Endpoint, query: &str, case: &Case) -> Result<Request<Full<Bytes>>, String> {
    // Prometheus knows no shorter range than this.
    let window = Duration::from_millis(case.window_ms).as_secs().max(1);
    let query = query
        .replace("{service}", case.service.as_str())
        .replace("{version}", case.version.as_str())
        .replace("{window}", &format!("{window}s"));
    let (path, args) = endpoint.path.split_once('?').unwrap_or((&endpoint.path, ""));
    let path = path.trim_end_matches('/');
    let between = if args.is_empty() { "" } else { "&" };
    let path = format!("{path}/api/v1/query?{args}{between}query={}", encode(&query));
    request(endpoint, Method::GET, &path, Bytes::new())
}

/// Prometheus' answer: each value lies between the bounds, or it fails.
fn values(question: &Question, body: &[u8]) -> Result<Finding, String> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    #[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
    enum Data {
        Scalar((f64, String)),
        Vector(Vec<Series>),
    }
    #[derive(Deserialize)]
    struct Series {
        value: (f64, String),
    }
    let Question::Prometheus { min, max, .. } = question else {
        return Err("it was not asked for values".into());
    };
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is not that of an instant query, a scalar or a vector: {error}"))?;
    let values = match answer.data {
        Data::Scalar((_, value)) => vec![value],
        Data::Vector(all) => all.into_iter().map(|series| series.value.1).collect(),
    };
    // 0/0: there was nothing to divide.
    let values = values.iter().map(|text| text.parse::<f64>().map_err(|_| format!("{text:?} is no number")));
    let values: Vec<f64> =
        values.filter(|value| !matches!(value, Ok(number) if number.is_nan())).collect::<Result<_, _>>()?;
    if values.is_empty() {
        return Err("the query finds nothing".into());
    }
    let wrong = |value: &&f64| min.is_some_and(|min| **value < min) || max.is_some_and(|max| **value > max);
    let bounds = match (min, max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (_, Some(max)) => format!("at most {max}"),
        (None, None) => "anything".into(),
    };
    Ok(match values.iter().find(wrong) {
        Some(value) => Finding::Fail(format!("the value is {value}, allowed is {bounds}")),
        None => Finding::Pass(format!("the value is {}, allowed is {bounds}", values[0])),
    })
}

#[cfg(test)]
mod tests;
