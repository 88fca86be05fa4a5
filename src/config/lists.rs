//! The part of the reader that is about lists and tables in a table.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::error::{Fault, Span};
use super::nodes::{self, Nodes};
use super::reader::{At, Field, Table, Value, describe};
use super::units;

/// One of a list of strings and tables.
pub(super) enum Item<'t> {
    Text(At<&'t str>),
    Table(Table<'t>),
}

impl<'t> Table<'t> {
    /// A list of strings; what is not a string is reported and left out.
    pub(super) fn strings(&mut self, key: &'static str) -> Field<Vec<At<&'t str>>> {
        match self.take(key) {
            Some(value) => self.strings_of(value),
            None => Field::Missing,
        }
    }

    fn strings_of(&self, value: &'t Value<'t>) -> Field<Vec<At<&'t str>>> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(value, "a list of strings");
        };
        let strings = items.iter().filter_map(|item| match self.string_of(Some(item), "a string") {
            Field::Is(at) => Some(at),
            _ => None,
        });
        Field::Is(At { value: strings.collect(), span: value.span() })
    }

    /// [`Self::strings`], with at least one in it.
    pub(super) fn some_strings(&mut self, key: &'static str, empty: &str) -> Field<Vec<At<&'t str>>> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        self.refuse_empty(value, empty);
        self.strings_of(value)
    }

    /// A list of nodes, with at least one in it.
    pub(super) fn some_nodes(&mut self, key: &'static str, empty: &str) -> Field<Nodes<'t>> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        self.nodes_of(value, empty)
    }

    fn nodes_of(&self, value: &'t Value<'t>, empty: &str) -> Field<Nodes<'t>> {
        self.refuse_empty(value, empty);
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(value, "a list of nodes");
        };
        Field::Is(At { value: items.iter().filter_map(|item| nodes::entry(self, item)).collect(), span: value.span() })
    }

    fn refuse_empty(&self, value: &Value<'_>, message: &str) {
        if matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
            self.findings().add(&value.span(), Fault::new(message));
        }
    }

    /// One string, or a list with at least one in it.
    pub(super) fn string_or_strings(&mut self, key: &'static str, empty: &str) -> Field<Vec<At<&'t str>>> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        match value.get_ref() {
            DeValue::String(text) => {
                Field::Is(At { value: vec![At { value: text, span: value.span() }], span: value.span() })
            }
            DeValue::Array(_) => {
                self.refuse_empty(value, empty);
                self.strings_of(value)
            }
            _ => self.wrong(value, "a string or a list of strings"),
        }
    }

    /// One scalar or a list of them, each an integer or a string, as text.
    pub(super) fn numbers_or_strings(&mut self, key: &'static str, empty: &str) -> Field<Vec<At<&'t str>>> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        self.refuse_empty(value, empty);
        let one = |item: &'t Value<'t>| match item.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => Some(At { value: number.as_str(), span: item.span() }),
            DeValue::String(text) => Some(At { value: &**text, span: item.span() }),
            _ => {
                self.wrong::<()>(item, "a whole number or a string");
                None
            }
        };
        let values = match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(one).collect(),
            _ => one(value).into_iter().collect(),
        };
        Field::Is(At { value: values, span: value.span() })
    }

    /// A list of strings and tables; each table is read as a `shape`.
    pub(super) fn items(&mut self, key: &'static str, shape: &'static str) -> Field<Vec<Item<'t>>> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(value, "a list of strings and tables");
        };
        let read = |item: &'t Value<'t>| match item.get_ref() {
            DeValue::String(text) => Some(Item::Text(At { value: text, span: item.span() })),
            DeValue::Table(entries) => Some(Item::Table(Table::new(entries, item.span(), shape, self.findings()))),
            _ => {
                self.wrong::<()>(item, "a string or a table");
                None
            }
        };
        Field::Is(At { value: items.iter().filter_map(read).collect(), span: value.span() })
    }

    /// A list of durations; what is not one is reported and left out.
    pub(super) fn durations(&mut self, key: &'static str) -> Option<Vec<Duration>> {
        let list = self.strings(key);
        let read = |at: &At<&str>| units::duration(at.value).map_err(|fault| self.findings().add(&at.span, fault)).ok();
        list.get().map(|list| list.value.iter().filter_map(read).collect())
    }

    /// The table under `key`; read as a `shape`.
    pub(super) fn table(&mut self, key: &'static str, shape: &'static str) -> Option<Table<'t>> {
        let value = self.take(key)?;
        self.table_of(value, value.span(), shape)
    }

    fn table_of(&self, value: &'t Value<'t>, span: Span, shape: &'static str) -> Option<Table<'t>> {
        if let DeValue::Table(entries) = value.get_ref() {
            return Some(Table::new(entries, span, shape, self.findings()));
        }
        self.wrong::<()>(value, "a table");
        None
    }

    /// Every `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str, shape: &'static str) -> Vec<Table<'t>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            let fault = Fault::new(format!("expected a list of tables, found {}", describe(value.get_ref())));
            self.findings().add(&value.span(), fault.hint(format!("write `[[{key}]]`")));
            return Vec::new();
        };
        items.iter().filter_map(|item| self.table_of(item, item.span(), shape)).collect()
    }

    /// Every `[key.NAME]`, in the order of the file.
    pub(super) fn named_tables(&mut self, key: &'static str, shape: &'static str) -> Vec<(At<&'t str>, Table<'t>)> {
        let Some(table) = self.table(key, "") else {
            return Vec::new();
        };
        let read = |(name, value): (&'t Spanned<_>, &'t Value<'t>)| {
            let name: At<&'t str> = at_key(name);
            let table = self.table_of(value, name.span.clone(), shape)?;
            Some((name, table))
        };
        let mut tables: Vec<_> = table.entries().iter().filter_map(read).collect();
        tables.sort_by_key(|(name, _)| name.span.start);
        tables
    }

    /// The table under `key`, whose keys are free and whose values are lists of nodes; in the order of the file.
    pub(super) fn named_nodes(
        &mut self,
        key: &'static str,
        empty: &str,
    ) -> Field<Vec<(At<&'t str>, Field<Nodes<'t>>)>> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        let DeValue::Table(entries) = value.get_ref() else {
            return self.wrong(value, "a table");
        };
        let read = |(name, value): (&'t Spanned<_>, &'t Value<'t>)| (at_key(name), self.nodes_of(value, empty));
        let mut lists: Vec<_> = entries.iter().map(read).collect();
        lists.sort_by_key(|(name, _)| name.span.start);
        Field::Is(At { value: lists, span: value.span() })
    }

    /// The table under `key`, whose keys are free and whose values are strings; in the order of the file.
    pub(super) fn named_texts(&mut self, key: &'static str) -> Vec<(At<&'t str>, At<&'t str>)> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let DeValue::Table(entries) = value.get_ref() else {
            self.wrong::<()>(value, "a table");
            return Vec::new();
        };
        let read = |(name, value): (&'t Spanned<_>, &'t Value<'t>)| {
            let text = self.string_of(Some(value), "a string");
            Some((at_key(name), text.get()?.clone()))
        };
        let mut texts: Vec<_> = entries.iter().filter_map(read).collect();
        texts.sort_by_key(|(name, _)| name.span.start);
        texts
    }
}

fn at_key<'t>(key: &'t Spanned<std::borrow::Cow<'t, str>>) -> At<&'t str> {
    At { value: key.get_ref(), span: key.span() }
}
