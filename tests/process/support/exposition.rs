//! A strict reader of OpenMetrics text: what it does not expect fails the test.

// Counts are whole numbers, far below what a float holds exactly.
#![allow(clippy::float_cmp)]

use std::collections::{BTreeMap, BTreeSet};

/// Everything that was told.
pub struct Exposition {
    /// By name without the suffixes.
    pub families: BTreeMap<String, Family>,
}

/// One family.
pub struct Family {
    pub kind: String,
    /// By the name of the sample and its labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

impl Exposition {
    /// Reads it, and fails on anything that is not well formed.
    pub fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut lines = text.lines().peekable();
        let mut current: Option<(String, String)> = None;
        let mut helped: Option<String> = None;
        while let Some(line) = lines.next() {
            if line == "# EOF" {
                assert_eq!(lines.next(), None, "something behind the end");
                assert!(text.ends_with("# EOF\n"));
                return Self { families };
            }
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("help");
                assert!(!help.is_empty() && !families.contains_key(name), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(helped.take().as_deref(), Some(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let family = Family { kind: kind.to_owned(), samples: BTreeMap::new() };
                assert!(families.insert(name.to_owned(), family).is_none(), "twice: {line}");
                current = Some((name.to_owned(), kind.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').expect("a unit");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            } else {
                let (family, kind) = current.as_ref().unwrap_or_else(|| panic!("outside of a family: {line}"));
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("of another family: {line}"));
                let fits = match kind.as_str() {
                    "counter" => suffix == "_total",
                    "gauge" => suffix.is_empty(),
                    _ => ["_sum", "_count", "_bucket"].contains(&suffix),
                };
                assert!(fits && (suffix == "_bucket") == labels.contains_key("le"), "{line}");
                assert!(kind == "gauge" || value >= 0.0, "{line}");
                let family = families.get_mut(family).expect("the family");
                assert!(family.samples.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        panic!("it ends without `# EOF`");
    }

    /// The value of one sample.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let key = (name.to_owned(), labels);
        let found = self.families.values().find_map(|family| family.samples.get(&key));
        *found.unwrap_or_else(|| panic!("there is no {key:?}"))
    }

    /// The sum of all samples of this name.
    pub fn sum(&self, name: &str) -> f64 {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.filter(|((known, _), _)| known == name).map(|(_, value)| value).sum()
    }

    /// How many samples have these labels, and perhaps more.
    pub fn count(&self, labels: &[(&str, &str)]) -> usize {
        let has = |all: &Labels| labels.iter().all(|(key, value)| all.get(*key).is_some_and(|known| known == value));
        self.families.values().flat_map(|family| family.samples.keys()).filter(|(_, all)| has(all)).count()
    }

    /// Names of samples.
    pub fn sample_names(&self) -> BTreeSet<String> {
        self.families.values().flat_map(|family| family.samples.keys()).map(|(name, _)| name.clone()).collect()
    }

    /// Every counter of `before` is still there, and not smaller; and histograms add up.
    pub fn assert_grew_from(&self, before: &Self) {
        for (name, family) in before.families.iter().filter(|(_, family)| family.kind != "gauge") {
            let now = &self.families[name].samples;
            for (key, value) in &family.samples {
                let grown = now.get(key).unwrap_or_else(|| panic!("{key:?} is gone"));
                assert!(grown >= value, "{key:?} went from {value} to {grown}");
            }
        }
        for (name, family) in self.families.iter().filter(|(_, family)| family.kind == "histogram") {
            for ((sample, labels), count) in &family.samples {
                if *sample == format!("{name}_count") {
                    let mut last = labels.clone();
                    last.insert("le".into(), "+Inf".into());
                    assert_eq!(family.samples[&(format!("{name}_bucket"), last)], *count);
                }
            }
        }
    }
}

/// `name{label="value",…} value`.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label without a value: {line}"));
            assert!(label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            let (value, after) = quoted(after).unwrap_or_else(|| panic!("a value without an end: {line}"));
            assert_eq!(labels.insert(label.to_owned(), value), None, "a label twice: {line}");
            if let Some(more) = after.strip_prefix(',') {
                rest = more;
            } else {
                rest = after.strip_prefix('}').unwrap_or_else(|| panic!("no end of the labels: {line}"));
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok());
    (name.to_owned(), labels, value.unwrap_or_else(|| panic!("no value: {line}")))
}

/// What stands before the next `"` that is not escaped, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}
