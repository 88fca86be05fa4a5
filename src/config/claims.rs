//! One service against the others: each name and each match is taken once, by the first file that has it. Pure.

use std::collections::hash_map::Entry;
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
    /// the file, then none is added. What they take is remembered only if there are `more` files to come.
    pub(super) fn claim(
        &mut self,
        checked: Vec<Checked>,
        path: &Path,
        more: bool,
        findings: &Findings<'_>,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) {
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
            return;
        }
        if more {
            let here: Arc<Path> = Arc::from(path);
            let place = |at: usize| Place(Arc::clone(&here), findings.line(at));
            for one in &checked {
                let name = &one.service.name;
                self.names.insert(name.clone(), place(one.name_at.start));
                let matches = one.service.matches.iter().zip(&one.matches_at);
                let taken = matches.map(|(pattern, at)| (pattern.clone(), (name.clone(), place(at.start))));
                self.matches.extend(taken);
            }
        }
        let added = checked.into_iter().map(|one| (one.service.name.clone(), Arc::new(one.service)));
        services.extend(added);
    }
}
