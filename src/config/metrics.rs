//! `[metrics]`: how much `/metrics` tells.

use super::file::misplaced;
use super::reader::Table;

/// How much `/metrics` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// What concerns each service and version.
    pub services: bool,
    /// State and requests in flight of each node.
    pub nodes: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            // Without it there is little to look at; some fifty series a version are no load below thousands of services.
            services: true,
            // A series for every address that ever served is what fills a Prometheus.
            nodes: false,
        }
    }
}

pub(super) fn read(mut t: Table<'_>) -> Metrics {
    let d = Metrics::default();
    let metrics = Metrics { services: t.flag("services", d.services), nodes: t.flag("nodes", d.nodes) };
    t.finish(misplaced);
    metrics
}
