//! Which services are shown, and in which order. Pure.

use std::cmp::Ordering;

use super::rates::Rates;
use crate::api::ServiceStatus;
use crate::model::NodeState;

/// How bad it is. What is worse comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Users feel it: no healthy node, or requests that wait.
    Down,
    /// A version failed, a node is out, or somebody stopped the traffic.
    Failing,
    /// On its way; somebody may have to steer.
    Moving,
    /// Nothing to see.
    None,
}

impl Trouble {
    /// Told without a colour.
    pub fn mark(self) -> char {
        match self {
            Self::Down => '✖',
            Self::Failing => '!',
            Self::Moving => '~',
            Self::None => ' ',
        }
    }

    /// How bad it is with a service.
    pub fn of(service: &ServiceStatus) -> Self {
        if service.all_down || service.waiting > 0 {
            return Self::Down;
        }
        let trial = service.rollout.as_ref().and_then(|rollout| rollout.trial.as_ref());
        let judged = trial.and_then(|trial| trial.evidence.as_ref()).is_some_and(|evidence| evidence.verdict == "fail");
        let ejected = service.nodes.iter().any(|node| node.state == NodeState::Ejected);
        if service.phase == "failed" || service.halt.is_some() || judged || ejected {
            return Self::Failing;
        }
        if service.phase == "settled" { Self::None } else { Self::Moving }
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worst.
    #[default]
    Trouble,
    /// By name.
    Name,
    /// The busiest.
    Requests,
    /// The largest part of requests that fail.
    Failed,
}

impl Sort {
    /// The next one, round and round.
    pub fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Name,
            Self::Name => Self::Requests,
            Self::Requests => Self::Failed,
            Self::Failed => Self::Trouble,
        }
    }
}

/// Places of the services to show, in order. `filter` is a part of a name, a phase or a version, in any case.
pub fn order(services: &[ServiceStatus], rates: &Rates, filter: &str, sort: Sort) -> Vec<usize> {
    let filter = filter.to_lowercase();
    let mut shown: Vec<(usize, f64)> = services
        .iter()
        .enumerate()
        .filter(|(_, service)| filter.is_empty() || fits(service, &filter))
        .map(|(at, service)| (at, key(service, rates, sort)))
        .collect();
    shown.sort_by(|(one, left), (other, right)| {
        let by_key = right.partial_cmp(left).unwrap_or(Ordering::Equal);
        by_key.then_with(|| services[*one].name.cmp(&services[*other].name))
    });
    shown.into_iter().map(|(at, _)| at).collect()
}

fn fits(service: &ServiceStatus, filter: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(filter);
    has(service.name.as_str())
        || has(&service.phase)
        || service.versions.iter().any(|version| version.share > 0.0 && has(version.version.as_str()))
}

/// The larger, the further up.
fn key(service: &ServiceStatus, rates: &Rates, sort: Sort) -> f64 {
    let rate = || rates.service(&service.name).unwrap_or_default();
    match sort {
        Sort::Trouble => match Trouble::of(service) {
            Trouble::Down => 3.0,
            Trouble::Failing => 2.0,
            Trouble::Moving => 1.0,
            Trouble::None => 0.0,
        },
        Sort::Name => 0.0,
        Sort::Requests => rate().requests,
        Sort::Failed => rate().failed().unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::admin::fake;
    use crate::model::Timestamp;

    fn services() -> Vec<ServiceStatus> {
        ["blog", "Shop", "mail", "api"]
            .into_iter()
            .zip(["settled", "rolling", "failed", "settled"])
            .map(|(name, phase)| {
                let mut service = fake::service(name, Path::new("/s.toml"));
                service.phase = phase.into();
                service
            })
            .collect()
    }

    fn names(services: &[ServiceStatus], rates: &Rates, filter: &str, sort: Sort) -> Vec<String> {
        order(services, rates, filter, sort).into_iter().map(|at| services[at].name.to_string()).collect()
    }

    #[test]
    fn trouble_comes_first() {
        let mut all = services();
        let rates = Rates::default();
        assert_eq!(names(&all, &rates, "", Sort::Trouble), ["mail", "Shop", "api", "blog"]);
        all[3].waiting = 1;
        all[0].nodes[0].state = NodeState::Ejected;
        assert_eq!(names(&all, &rates, "", Sort::Trouble), ["api", "blog", "mail", "Shop"]);
        assert_eq!(names(&all, &rates, "", Sort::Name), ["Shop", "api", "blog", "mail"]);
    }

    #[test]
    fn a_filter_is_a_part_of_a_name_a_phase_or_a_version_that_serves() {
        let mut all = services();
        let rates = Rates::default();
        assert_eq!(names(&all, &rates, "SHO", Sort::Name), ["Shop"]);
        assert_eq!(names(&all, &rates, "settled", Sort::Name), ["api", "blog"]);
        all[0].versions[0].version = "2026-11".into();
        assert_eq!(names(&all, &rates, "2026", Sort::Name), ["blog"]);
        all[0].versions[0].share = 0.0;
        assert!(names(&all, &rates, "2026", Sort::Name).is_empty());
    }

    #[test]
    fn the_busiest_and_those_that_fail_most_come_first() {
        let mut rates = Rates::default();
        let mut all = services();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let mut status = fake::status(all);
        rates.note(&status, true);
        status.now = Timestamp(status.now.0 + 1000);
        // Shop, api, blog, mail
        for (at, (requests, failures)) in [(10, 1), (200, 2), (30, 30), (0, 0)].into_iter().enumerate() {
            status.services[at].versions[0].requests += requests;
            status.services[at].versions[0].failures += failures;
        }
        rates.note(&status, true);
        assert_eq!(names(&status.services, &rates, "", Sort::Requests), ["api", "blog", "Shop", "mail"]);
        assert_eq!(names(&status.services, &rates, "", Sort::Failed), ["blog", "Shop", "api", "mail"]);
    }
}
