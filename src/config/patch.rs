//! A large file again, of which a few services changed: they alone are parsed and checked, each by itself.
//!
//! Nothing is told from here. Whatever is not that simple (a problem, a service that names a file to be read, an edit outside
//! of the services) is left to the whole reading, which tells it well.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::Service;
use super::attached::attach;
use super::blocks::{Window, lines};
use super::cache::Known;
use super::claims::{Claims, Placed};
use super::door::Attachments;
use super::error::Findings;
use super::load::Read;
use super::{file, syntax, validate};
use crate::model::ServiceName;

/// From what is known of a file to what it says now.
pub(super) struct Patch {
    /// Its services now.
    services: Vec<Placed>,
    /// Which of them were read.
    fresh: Vec<usize>,
    /// Which are as they were, but name files, and do so in another line than before.
    moved: Vec<usize>,
    /// Which of the known ones are no more, or no more as they were.
    gone: Vec<usize>,
    window: Window,
}

impl Patch {
    /// Reads what changed. None if the file must be read whole.
    pub(super) fn new(known: &Known, text: &str, path: &Path) -> Option<Self> {
        let blocks = known.blocks.as_ref()?;
        let window = blocks.window(text)?;
        let old: HashMap<_, _> =
            window.old.clone().map(|index| (known.services[index].name().as_str(), index)).collect();
        // Where each of the old ones began, in lines below the window's beginning.
        let mut below = 0;
        let mut began = Vec::with_capacity(window.old.len());
        for index in window.old.clone() {
            began.push(below);
            below += lines(blocks.block(index));
        }
        let mut services = Vec::with_capacity(known.services.len() + window.new.len());
        services.extend_from_slice(&known.services[..window.old.start]);
        let (mut fresh, mut moved, mut kept) = (Vec::new(), Vec::new(), vec![false; window.old.len()]);
        let mut below = 0_usize;
        for block in &window.new {
            let text = &text[block.place.clone()];
            let same = old.get(block.name.as_str()).filter(|index| blocks.block(**index) == text);
            if let Some(index) = same {
                let at = index - window.old.start;
                if std::mem::replace(&mut kept[at], true) {
                    return None;
                }
                let by = below.cast_signed() - began[at].cast_signed();
                push_moved(&mut services, &known.services[*index], by, &mut moved);
            } else {
                fresh.push(services.len());
                services.push(read(text, window.above + below, path).filter(|one| one.name().as_str() == block.name)?);
            }
            below += lines(text);
        }
        for old in &known.services[window.old.end..] {
            push_moved(&mut services, old, window.more, &mut moved);
        }
        let gone = window.old.clone().zip(kept).filter(|(_, kept)| !kept).map(|(index, _)| index).collect();
        Some(Self { services, fresh, moved, gone, window })
    }

    /// Sets what changed against all other services, whose claims are `claims`. False if something is taken; all is as it was
    /// then.
    pub(super) fn apply(
        &self,
        known: &Known,
        path: &Path,
        claims: &mut Claims,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) -> bool {
        let gone: Vec<_> = self.gone.iter().map(|index| &known.services[*index]).collect();
        let fresh: Vec<_> = self.fresh.iter().map(|index| &self.services[*index]).collect();
        claims.release(gone.iter().copied(), services);
        if !claims.try_take(&fresh, path, services) {
            claims.take(gone, path, services);
            return false;
        }
        for index in &self.moved {
            let service = self.services[*index].service();
            services.insert(service.name.clone(), Arc::clone(service));
        }
        true
    }

    /// The same where none of the file's services has a claim yet.
    pub(super) fn apply_all(
        &self,
        path: &Path,
        claims: &mut Claims,
        services: &mut BTreeMap<ServiceName, Arc<Service>>,
    ) -> bool {
        claims.try_take(&self.services.iter().collect::<Vec<_>>(), path, services)
    }

    /// What is known of the file from now on.
    pub(super) fn into_known(self, known: &Known, Read { text, stamp, hash }: Read) -> Known {
        let blocks = known.blocks.as_ref().map(|blocks| Arc::new(blocks.moved(&self.window, text)));
        Known { stamp, hash, services: self.services.into(), blocks, attached: Arc::clone(&known.attached) }
    }
}

fn push_moved(services: &mut Vec<Placed>, old: &Placed, by: isize, moved: &mut Vec<usize>) {
    let new = old.moved(by);
    if !Arc::ptr_eq(new.service(), old.service()) {
        moved.push(services.len());
    }
    services.push(new);
}

/// Reads the block of one service.
fn read(block: &str, above: usize, path: &Path) -> Option<Placed> {
    let findings = Findings::of_part(block, above);
    let table = syntax::parse(block, &findings)?;
    let mut raw = file::read_included(&table, path, &findings);
    let asks = attach(&mut raw, path, &mut Nothing, &findings).contains(&true);
    let mut checked = validate::services(&raw, path, &findings);
    let one = checked.pop().filter(|_| checked.is_empty() && !asks && findings.is_empty())?;
    Some(Placed::new(one, &findings))
}

/// A service that names files is read with them, and so with all.
struct Nothing;

impl Attachments for Nothing {
    fn read(&mut self, _base: &Path, _file: &Path, _largest: u64) -> Option<Result<Vec<u8>, String>> {
        None
    }
}
