//! One service against the others: each name and each match is taken once, by the first file that has it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::error::{Fault, Findings};
use super::validate::Checked;
use super::{Match, Service};
use crate::model::ServiceName;

/// What earlier files, and earlier services of the same file, have taken.
#[derive(Default)]
pub(super) struct Claims {
    names: HashMap<ServiceName, Place>,
    matches: HashMap<Match, (ServiceName, Place)>,
}

/// Where something was taken: the file and the line.
#[derive(Clone)]
struct Place(Arc<Path>, usize);

impl Claims {
    /// Adds a file's services to those of the files before. If one of them is taken, or anything else was found wrong with
    /// the file, then none is added.
    pub(super) fn claim(
        &mut self,
        checked: Vec<Checked>,
        path: &Path,
        findings: &Findings<'_>,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) {
        let here: Arc<Path> = Arc::from(path);
        let mut own: HashMap<&Match, (&ServiceName, usize)> = HashMap::new();
        for Checked {
            service,
            name_at,
            matches_at,
        } in &checked
        {
            if let Some(Place(file, line)) = self.names.get(&service.name) {
                let message = format!(
                    "service `{}` is already in {}, line {line}",
                    service.name,
                    file.display()
                );
                findings.add(
                    name_at,
                    Fault::new(message).hint("one of the two must go or be renamed"),
                );
            }
            for (pattern, span) in service.matches.iter().zip(matches_at) {
                let line = findings.line(span.start);
                let taken = match (self.matches.get(pattern), own.get(pattern)) {
                    (Some((other, Place(file, line))), _) => {
                        format!("by `{other}` in {}, line {line}", file.display())
                    }
                    (_, Some((other, line))) => format!("by `{other}` in line {line}"),
                    (None, None) => {
                        own.insert(pattern, (&service.name, line));
                        continue;
                    }
                };
                let fault = Fault::new(format!("`{pattern}` is already matched {taken}"));
                findings.add(
                    span,
                    fault.hint("each host and path prefix can lead to one service only"),
                );
            }
        }
        if !findings.is_empty() {
            return;
        }
        for Checked {
            service,
            name_at,
            matches_at,
        } in checked
        {
            for (pattern, span) in service.matches.iter().zip(matches_at) {
                let place = Place(Arc::clone(&here), findings.line(span.start));
                self.matches
                    .insert(pattern.clone(), (service.name.clone(), place));
            }
            self.names.insert(
                service.name.clone(),
                Place(Arc::clone(&here), findings.line(name_at.start)),
            );
            services.insert(service.name.clone(), Arc::new(service));
        }
    }
}
