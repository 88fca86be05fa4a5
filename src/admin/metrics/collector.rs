//! From measures to series.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::families::{self as f, Family, Kind};
use super::process::Process;
use crate::api::{EDGES, HaltKind, Measures, ServiceMeasures, VersionMeasures};
use crate::model::{FailureKind, NodeState};

/// The classes of a status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One scrape.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) measures: Arc<Measures>,
    pub(super) process: Process,
}

/// A value as its family tells it.
#[derive(Clone, Copy)]
enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// A family that is being told. Nothing is written before its first series: a family without one is left out.
struct Open<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    family: &'static Family,
}

impl Open<'_, '_> {
    /// Tells the family by its series. `tell` is given where to put them.
    fn series(self, tell: impl FnOnce(&mut Series<'_>) -> fmt::Result) -> fmt::Result {
        let unit = self.family.unit.map(|unit| Unit::Other(unit.into()));
        let kind = match self.family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let (name, help) = (self.family.name, self.family.help);
        let encoder = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        tell(&mut Series { encoder, family: self.family })
    }
}

struct Series<'e> {
    encoder: MetricEncoder<'e>,
    family: &'static Family,
}

impl Series<'_> {
    /// One series; the values of its labels, in the order of the family's.
    fn put<const N: usize>(&mut self, values: [&str; N], value: impl Into<Value>) -> fmt::Result {
        debug_assert_eq!(self.family.labels.len(), N, "{}", self.family.name);
        let labels = labels(self.family, values);
        // Without labels there must be no braces either.
        if N == 0 {
            return one(&mut self.encoder, self.family.kind, value.into());
        }
        one(&mut self.encoder.encode_family(&labels)?, self.family.kind, value.into())
    }

    /// A histogram: so many in each bucket, and the sum of what was measured, in seconds.
    fn put_histogram<const N: usize>(&mut self, values: [&str; N], buckets: &[u64], sum: f64) -> fmt::Result {
        let labels = labels(self.family, values);
        let edges = EDGES.iter().map(|edge| *edge as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = edges.zip(buckets.iter().copied()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn labels<'v, const N: usize>(family: &'static Family, values: [&'v str; N]) -> [(&'static str, &'v str); N] {
    std::array::from_fn(|place| (family.labels.get(place).copied().unwrap_or_default(), values[place]))
}

fn one(encoder: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(count)) => encoder.encode_counter::<NoLabelSet, _, f64>(&count, None),
        (Kind::Counter, Value::Real(count)) => encoder.encode_counter::<NoLabelSet, _, f64>(&count, None),
        // Histograms go their own way.
        (_, Value::Whole(value)) => encoder.encode_gauge(&value.min(i64::MAX as u64).cast_signed()),
        (_, Value::Real(value)) => encoder.encode_gauge(&value),
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.process_wide(&mut encoder)?;
        self.workers(&mut encoder)?;
        if !self.measures.services.is_empty() {
            self.services(&mut encoder)?;
            self.versions(&mut encoder)?;
            self.nodes(&mut encoder)?;
        }
        self.system(&mut encoder)
    }
}

/// The series of a family that has one without labels.
fn single(encoder: &mut DescriptorEncoder<'_>, family: &'static Family, value: impl Into<Value>) -> fmt::Result {
    Open { encoder, family }.series(|series| series.put([], value))
}

fn seconds(at: crate::model::Timestamp) -> f64 {
    at.0 as f64 / 1e3
}

impl Scrape {
    fn process_wide(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let m = &*self.measures;
        let version = env!("CARGO_PKG_VERSION");
        Open { encoder, family: &f::BUILD }.series(|series| series.put([version], true))?;
        single(encoder, &f::READY, m.ready)?;
        single(encoder, &f::GENERATION, m.generation)?;
        single(encoder, &f::CONFIG_OK, m.config_ok)?;
        single(encoder, &f::CONFIG_LOADED, seconds(m.config_loaded))?;
        single(encoder, &f::CONFIG_PROBLEMS, m.problems)?;
        single(encoder, &f::JOURNAL_OK, m.journal_ok)?;
        single(encoder, &f::LOG_OK, m.access_log_ok)?;
        single(encoder, &f::LOG_LINES, m.access_log.0)?;
        single(encoder, &f::LOG_DROPPED, m.access_log.1)?;
        single(encoder, &f::SPANS, m.spans.0)?;
        single(encoder, &f::SPANS_DROPPED, m.spans.1)?;
        Open { encoder, family: &f::LISTENER_UP }.series(|series| {
            m.listeners.iter().try_for_each(|listener| series.put([&listener.name], listener.error.is_none()))
        })?;
        Open { encoder, family: &f::CERTIFICATE }.series(|series| {
            m.certificates
                .iter()
                .try_for_each(|shown| series.put([&shown.file.to_string_lossy()], seconds(shown.not_after)))
        })?;
        single(encoder, &f::SERVICES, m.service_count)
    }

    fn workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let workers = &self.measures.workers;
        let names: Vec<String> = (0..workers.len()).map(|worker| worker.to_string()).collect();
        let mut each = |family, value: fn(&crate::api::WorkerMeasures) -> u64| {
            Open { encoder, family }.series(|series| {
                names.iter().zip(workers).try_for_each(|(name, worker)| series.put([name], value(worker)))
            })
        };
        each(&f::WORKER_ACCEPTED, |worker| worker.accepted)?;
        each(&f::WORKER_REFUSED, |worker| worker.refused)?;
        each(&f::WORKER_OPEN, |worker| worker.open)?;
        each(&f::WORKER_REQUESTS, |worker| worker.requests)?;
        each(&f::WORKER_FAILED, |worker| worker.failed)?;
        each(&f::WORKER_HANDSHAKES_FAILED, |worker| worker.handshakes_failed)?;
        each(&f::WORKER_ABUSIVE, |worker| worker.abusive)?;
        Open { encoder, family: &f::WORKER_HANDSHAKES }.series(|series| {
            names.iter().zip(workers).try_for_each(|(name, worker)| {
                series.put([name, "full"], worker.handshakes.saturating_sub(worker.resumed))?;
                series.put([name, "resumed"], worker.resumed)
            })
        })?;
        Open { encoder, family: &f::UNROUTED }.series(|series| {
            CLASSES.iter().zip(self.measures.unrouted).try_for_each(|(class, count)| series.put([class], count))
        })
    }

    fn services(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let services = &self.measures.services;
        let mut each = |family, tell: &dyn Fn(&mut Series<'_>, &str, &ServiceMeasures) -> fmt::Result| {
            let all = |series: &mut Series<'_>| {
                services.iter().try_for_each(|service| tell(series, service.name.as_str(), service))
            };
            Open { encoder, family }.series(all)
        };
        each(&f::REQUESTS, &|series, name, service| {
            CLASSES.iter().zip(service.classes).try_for_each(|(class, count)| series.put([name, class], count))
        })?;
        each(&f::OWN_ANSWERS, &|series, name, service| series.put([name], service.failed))?;
        each(&f::RETRIES, &|series, name, service| series.put([name], service.retried))?;
        each(&f::WAITING, &|series, name, service| series.put([name], service.waiting))?;
        each(&f::HELD, &|series, name, service| series.put([name], service.held))?;
        each(&f::HELD_IN_VAIN, &|series, name, service| series.put([name], service.held_in_vain))?;
        each(&f::PHASE, &|series, name, service| series.put([name, service.phase], true))?;
        each(&f::ROLLOUTS, &|series, name, service| {
            service.ended.iter().try_for_each(|(outcome, count)| series.put([name, outcome], *count))
        })?;
        each(&f::ALL_DOWN, &|series, name, service| series.put([name], service.all_down))?;
        each(&f::HALTED, &|series, name, service| {
            HaltKind::ALL
                .into_iter()
                .try_for_each(|kind| series.put([name, kind.as_str()], service.halted == Some(kind)))
        })?;
        each(&f::REFUSED, &|series, name, service| series.put([name], service.refused))?;
        each(&f::VERDICTS, &|series, name, service| {
            service.verdicts.iter().try_for_each(|(verdict, count)| series.put([name, verdict], *count))
        })?;
        each(&f::DRAINED, &|series, name, service| series.put([name], service.drained))?;
        each(&f::CUT, &|series, name, service| {
            service.cut.iter().try_for_each(|(kind, count)| series.put([name, kind], *count))
        })
    }

    fn versions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let services = &self.measures.services;
        let mut each = |family, tell: &dyn Fn(&mut Series<'_>, [&str; 2], &VersionMeasures) -> fmt::Result| {
            let all = |series: &mut Series<'_>| {
                let versions = services
                    .iter()
                    .flat_map(|service| service.versions.iter().map(move |version| (&service.name, version)));
                versions.into_iter().try_for_each(|(service, version)| {
                    tell(series, [service.as_str(), version.version.as_str()], version)
                })
            };
            Open { encoder, family }.series(all)
        };
        each(&f::SHARE, &|series, labels, version| series.put(labels, version.share))?;
        each(&f::IN_FLIGHT, &|series, labels, version| series.put(labels, version.in_flight))?;
        each(&f::NODES, &|series, [service, name], version| {
            NodeState::ALL
                .iter()
                .zip(version.states)
                .try_for_each(|(state, count)| series.put([service, name, state.as_str()], count))
        })?;
        each(&f::CONNECTIONS, &|series, labels, version| series.put(labels, version.connections))?;
        each(&f::OPENED, &|series, labels, version| series.put(labels, version.totals.opened))?;
        each(&f::TRIES, &|series, labels, version| series.put(labels, version.totals.requests))?;
        each(&f::ANSWERS, &|series, [service, name], version| {
            CLASSES
                .iter()
                .zip(version.totals.classes)
                .try_for_each(|(class, count)| series.put([service, name, class], count))
        })?;
        each(&f::FAILURES, &|series, [service, name], version| {
            FailureKind::ALL
                .iter()
                .zip(version.totals.failures)
                .try_for_each(|(kind, count)| series.put([service, name, kind.as_str()], count))
        })?;
        each(&f::LATENCY, &|series, labels, version| {
            series.put_histogram(labels, &version.totals.latencies, version.totals.latency_sum as f64 / 1e6)
        })?;
        each(&f::SHIELDED, &|series, labels, version| series.put(labels, version.totals.shielded))?;
        each(&f::SHADOWED, &|series, labels, version| series.put(labels, version.totals.shadowed))?;
        each(&f::SHADOW_DIFFERED, &|series, labels, version| series.put(labels, version.totals.shadow_differed))?;
        each(&f::PROBES, &|series, [service, name], version| {
            series.put([service, name, "passed"], version.totals.probes_passed)?;
            series.put([service, name, "failed"], version.totals.probes_failed)
        })
    }

    fn nodes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let services = &self.measures.services;
        if services.iter().any(|service| !service.nodes.is_empty()) {
            let nodes = || services.iter().flat_map(|service| service.nodes.iter().map(|node| (&service.name, node)));
            Open { encoder, family: &f::NODE_STATE }.series(|series| {
                nodes().try_for_each(|(service, node)| {
                    let labels = [service.as_str(), node.version.as_str(), node.address.as_str(), node.state.as_str()];
                    series.put(labels, true)
                })
            })?;
            Open { encoder, family: &f::NODE_IN_FLIGHT }.series(|series| {
                nodes().try_for_each(|(service, node)| {
                    series.put([service.as_str(), node.version.as_str(), node.address.as_str()], node.in_flight)
                })
            })?;
        }
        single(encoder, &f::NODES_LEFT_OUT, self.measures.nodes_left_out)
    }

    fn system(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let process = &self.process;
        let mut known = |family, value: Option<Value>| match value {
            Some(value) => single(encoder, family, value),
            None => Ok(()),
        };
        known(&f::CPU, process.cpu_seconds.map(Value::Real))?;
        known(&f::MEMORY, process.memory.map(Value::Whole))?;
        known(&f::DESCRIPTORS, process.descriptors.map(Value::Whole))?;
        known(&f::MAX_DESCRIPTORS, process.max_descriptors.map(Value::Whole))?;
        known(&f::STARTED, Some(Value::Real(seconds(self.measures.started))))
    }
}
