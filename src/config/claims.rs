//! One service against the others: each name and each match is taken once, by the first file that has it. Pure.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::error::{Fault, Findings};
use super::validate::Checked;
use super::{ClientTls, Match, Service};
use crate::model::ServiceName;

/// What earlier files, and earlier services of the same file, have taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    names: HashMap<ServiceName, Place>,
    matches: HashMap<Match, (ServiceName, Place)>,
}

/// A service, and the lines where its name and its matches stand.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    service: Arc<Service>,
    name_line: usize,
    match_lines: Vec<usize>,
}

impl Placed {
    pub(super) fn new(one: Checked, findings: &Findings<'_>) -> Self {
        Self {
            name_line: findings.line(one.name_at.start),
            match_lines: one.matches_at.iter().map(|at| findings.line(at.start)).collect(),
            service: Arc::new(one.service),
        }
    }

    pub(super) fn name(&self) -> &ServiceName {
        &self.service.name
    }

    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The same, so many lines further down.
    pub(super) fn moved(&self, by: isize) -> Self {
        let mut moved = self.clone();
        if by != 0 {
            for line in std::iter::once(&mut moved.name_line).chain(&mut moved.match_lines) {
                *line = line.saturating_add_signed(by);
            }
            if self.service.tls != ClientTls::default() {
                let tls = &mut Arc::make_mut(&mut moved.service).tls;
                tls.files_mut().for_each(|file| file.move_lines(by));
            }
        }
        moved
    }
}

/// Where something was taken: the file and the line. A file of which only a part was read again has stale lines in here,
/// which nobody is told: if anything is taken twice, all is read anew.
#[derive(Clone, Debug)]
struct Place(Arc<Path>, usize);

impl Claims {
    /// Whether none of these is taken.
    pub(super) fn are_free(&self, services: &[Placed]) -> bool {
        services.iter().all(|Placed { service, .. }| {
            !self.names.contains_key(&service.name)
                && !service.matches.iter().any(|pattern| self.matches.contains_key(pattern))
        })
    }

    /// Adds what is free to the services of the files before.
    pub(super) fn take<'a>(
        &mut self,
        placed: impl IntoIterator<Item = &'a Placed>,
        path: &Path,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) {
        let here: Arc<Path> = Arc::from(path);
        for Placed { service, name_line, match_lines } in placed {
            let name = &service.name;
            self.names.insert(name.clone(), Place(Arc::clone(&here), *name_line));
            let matches = service.matches.iter().zip(match_lines);
            let taken =
                matches.map(|(pattern, line)| (pattern.clone(), (name.clone(), Place(Arc::clone(&here), *line))));
            self.matches.extend(taken);
            services.insert(name.clone(), Arc::clone(service));
        }
    }

    /// The same, but for what is taken already: then none is added, and it is for others to tell.
    pub(super) fn try_take(
        &mut self,
        placed: &[&Placed],
        path: &Path,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) -> bool {
        let here: Arc<Path> = Arc::from(path);
        for (at, one) in placed.iter().enumerate() {
            if !self.try_take_one(one, &here) {
                self.release(placed[..at].iter().copied(), services);
                return false;
            }
            services.insert(one.service.name.clone(), Arc::clone(&one.service));
        }
        true
    }

    fn try_take_one(&mut self, Placed { service, name_line, match_lines }: &Placed, here: &Arc<Path>) -> bool {
        if self.names.contains_key(&service.name) {
            return false;
        }
        for (at, (pattern, line)) in service.matches.iter().zip(match_lines).enumerate() {
            let Entry::Vacant(entry) = self.matches.entry(pattern.clone()) else {
                for pattern in &service.matches[..at] {
                    self.matches.remove(pattern);
                }
                return false;
            };
            entry.insert((service.name.clone(), Place(Arc::clone(here), *line)));
        }
        self.names.insert(service.name.clone(), Place(Arc::clone(here), *name_line));
        true
    }

    /// Takes a file's services back, before another state of the file is read.
    pub(super) fn release<'a>(
        &mut self,
        placed: impl IntoIterator<Item = &'a Placed>,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) {
        for Placed { service, .. } in placed {
            self.names.remove(&service.name);
            services.remove(&service.name);
            for pattern in &service.matches {
                self.matches.remove(pattern);
            }
        }
    }

    /// Adds a file's services to those of the files before, and gives them back. If one of them is taken, or anything else
    /// was found wrong with the file, then none is added. What they take is remembered only if there are `more` files to come.
    pub(super) fn claim(
        &mut self,
        checked: Vec<Checked>,
        path: &Path,
        more: bool,
        findings: &Findings<'_>,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) -> Option<Vec<Placed>> {
        let mut own: HashMap<&Match, (&ServiceName, usize)> = HashMap::with_capacity(checked.len());
        for one in &checked {
            let name = &one.service.name;
            if let Some(Place(file, line)) = self.names.get(name) {
                let message = format!("service `{name}` is already in {}, line {line}", file.display());
                let fault = Fault::new(message).hint("one of the two must go or be renamed");
                findings.add(&one.name_at, fault);
            }
            for (pattern, span) in one.service.matches.iter().zip(&one.matches_at) {
                let taken = if let Some((other, Place(file, line))) = self.matches.get(pattern) {
                    format!("by `{other}` in {}, line {line}", file.display())
                } else {
                    match own.entry(pattern) {
                        Entry::Vacant(entry) => {
                            entry.insert((name, span.start));
                            continue;
                        }
                        Entry::Occupied(entry) => {
                            let (other, at) = entry.get();
                            format!("by `{other}` in line {}", findings.line(*at))
                        }
                    }
                };
                let fault = Fault::new(format!("`{pattern}` is already matched {taken}"));
                let hint = "each host and path prefix can lead to one service only";
                findings.add(span, fault.hint(hint));
            }
        }
        if !findings.is_empty() {
            return None;
        }
        if !more {
            services.extend(checked.into_iter().map(|one| (one.service.name.clone(), Arc::new(one.service))));
            return None;
        }
        let placed: Vec<_> = checked.into_iter().map(|one| Placed::new(one, findings)).collect();
        self.take(&placed, path, services);
        Some(placed)
    }
}
