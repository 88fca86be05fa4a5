//! What the origins really did: the one witness that does not depend on what a proxy or a client believes.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Every order that any origin executed, and how often. Shared by the origins of one test.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<HashMap<String, u32>>>);

/// An order that was executed more than once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// The order's id.
    pub order: String,
    /// How often it was executed; two or more.
    pub times: u32,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an order was executed.
    pub fn record(&self, order: &str) {
        *self.lock().entry(order.to_owned()).or_default() += 1;
    }

    /// Adds what an origin in another process wrote to its ledger file, one order a line. A last line without its end
    /// is left out: the process died while it wrote it, so nobody was answered.
    pub fn absorb(&self, file: &Path) -> io::Result<()> {
        let text = std::fs::read_to_string(file)?;
        for line in text.split_inclusive('\n') {
            if let Some(order) = line.strip_suffix('\n') {
                self.record(order);
            }
        }
        Ok(())
    }

    /// How often an order was executed.
    pub fn times(&self, order: &str) -> u32 {
        self.lock().get(order).copied().unwrap_or(0)
    }

    /// Number of different orders that were executed.
    pub fn orders(&self) -> u64 {
        self.lock().len() as u64
    }

    /// Orders that were executed more than once, by id.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        let mut found: Vec<_> = self
            .lock()
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(order, times)| Duplicate { order: order.clone(), times: *times })
            .collect();
        found.sort();
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        // Counting cannot leave the map half changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_executed_twice_is_a_duplicate() {
        let ledger = Ledger::new();
        ledger.record("a");
        ledger.record("b");
        assert_eq!(ledger.duplicates(), []);
        ledger.clone().record("a");
        assert_eq!(ledger.duplicates(), [Duplicate { order: "a".into(), times: 2 }]);
        assert_eq!((ledger.orders(), ledger.times("b")), (2, 1));
    }

    #[test]
    fn a_file_of_another_process_counts_whole_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger");
        std::fs::write(&file, "a\nb\na\nhal").unwrap();
        let ledger = Ledger::new();
        ledger.absorb(&file).unwrap();
        assert_eq!((ledger.times("a"), ledger.times("b")), (2, 1));
        assert_eq!(ledger.times("hal"), 0);
    }
}
