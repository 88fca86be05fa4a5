//! A list of nodes as it is written: `"host:port"`, or a table that says more of a node.

use std::collections::{BTreeMap, HashSet};

use toml::de::DeValue;

use super::error::{Fault, Findings};
use super::reader::{At, Field, Table, Value};
use super::{NodeProtocol, protocol, words};
use crate::model::NodeAddress;

/// The largest weight: nodes that differ by more belong to different services.
const HEAVIEST: usize = 100;

pub(super) type Nodes<'t> = Vec<RawNode<'t>>;

/// One entry of a list.
pub(super) struct RawNode<'t> {
    pub(super) address: At<&'t str>,
    /// Its part of the traffic beside the others'.
    pub(super) weight: Option<usize>,
}

/// A checked list.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) addresses: Vec<NodeAddress>,
    /// Of those that have another weight than 1.
    pub(super) weights: BTreeMap<NodeAddress, u32>,
}

/// One entry of a list, if it can be read.
pub(super) fn entry<'t>(table: &Table<'t>, item: &'t Value<'t>) -> Option<RawNode<'t>> {
    match item.get_ref() {
        DeValue::String(text) => Some(RawNode { address: At { value: text, span: item.span() }, weight: None }),
        DeValue::Table(entries) => {
            let mut t = Table::new(entries, item.span(), "service.*.node", table.findings());
            let address = t.string("address");
            let weight = t.count("weight", 1..=HEAVIEST).get().map(|at| at.value);
            if address.is_missing() {
                let fault = Fault::new("this node has no `address`");
                t.findings().add(&item.span(), fault.hint("write it like { address = \"10.0.0.5:5001\", weight = 2 }"));
            }
            t.finish(|key| match key {
                "host" | "port" | "url" | "addr" => Some("write `address = \"host:port\"`".into()),
                _ => None,
            });
            match address {
                Field::Is(address) => Some(RawNode { address, weight }),
                _ => None,
            }
        }
        _ => {
            table.wrong::<()>(item, "a string like \"10.0.0.5:5001\" or a table with an `address`");
            None
        }
    }
}

/// Checks every address of a list, and that none is in it twice.
pub(super) fn check(written: &Nodes<'_>, protocol: NodeProtocol, findings: &Findings<'_>) -> Checked {
    let mut seen = HashSet::with_capacity(written.len());
    let mut checked = Checked::default();
    for RawNode { address: at, weight } in written {
        match words::node(at.value) {
            Ok(plain) => {
                if !seen.insert(plain) {
                    findings.add(&at.span, Fault::new(format!("the node {} is in this list twice", at.value)));
                }
                let address = NodeAddress::new(at.value);
                if let Err(fault) = protocol::check_node(at.value, protocol) {
                    findings.add(&at.span, fault);
                }
                if let Some(weight) = weight.filter(|weight| *weight != 1) {
                    checked.weights.insert(address.clone(), weight as u32);
                }
                checked.addresses.push(address);
            }
            Err(fault) => findings.add(&at.span, fault),
        }
    }
    checked
}
