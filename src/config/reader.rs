//! A typed reader over the spanned TOML tree. It goes on after an error, and it knows which keys it asked for, so that
//! what nobody asked for is reported with a suggestion. (serde would stop at the first wrong type.)

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, Findings, Span, listed, nearest};
use super::units;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A key that may be missing, or hold a value of the wrong type. The second is reported already, so that nobody has to
/// complain about what follows from it.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    Missing,
    Broken,
    Is(At<T>),
}

impl<T> Field<T> {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    pub(super) fn get(&self) -> Option<&At<T>> {
        match self {
            Self::Is(at) => Some(at),
            _ => None,
        }
    }
}

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// One table. Ends with [`Table::finish`], which reports the keys that were not asked for.
pub(super) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// Where the table stands.
    pub(super) span: Span,
    findings: &'t Findings<'t>,
    /// Which kind of table, for the list of known keys: `service.*.health`.
    #[cfg(test)]
    shape: &'static str,
    known: Vec<&'static str>,
    /// Known, but reported already and no good as a suggestion.
    refused: Vec<&'static str>,
    found: usize,
}

impl<'t> Table<'t> {
    #[cfg_attr(
        not(test),
        expect(unused_variables, reason = "only the test of the reference asks for the list of keys")
    )]
    pub(super) fn new(entries: &'t DeTable<'t>, span: Span, shape: &'static str, findings: &'t Findings<'t>) -> Self {
        Self {
            entries,
            span,
            findings,
            #[cfg(test)]
            shape,
            known: Vec::with_capacity(12),
            refused: Vec::new(),
            found: 0,
        }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Value<'t>> {
        let value = self.entries.get(key);
        #[cfg(test)]
        {
            let path = if self.shape.is_empty() { key.to_owned() } else { format!("{}.{key}", self.shape) };
            *self.findings.keys.borrow_mut().entry(path).or_default() |= value.is_some();
        }
        self.known.push(key);
        self.found += usize::from(value.is_some());
        value
    }

    /// Reports a key that is known, but not to be used.
    pub(super) fn refuse(&mut self, key: &'static str, fault: Fault) {
        if let Some((written, _)) = self.entries.get_key_value(key) {
            self.found += 1;
            self.refused.push(key);
            self.findings.add(&written.span(), fault);
        }
    }

    /// Reports every key that nobody asked for. `elsewhere` gives a better hint than a similar word, if it can.
    pub(super) fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) {
        if self.found == self.entries.len() {
            return;
        }
        for (key, _) in self.entries {
            let word: &str = key.get_ref();
            if self.known.contains(&word) || self.refused.contains(&word) {
                continue;
            }
            let hint = elsewhere(word).unwrap_or_else(|| match nearest(word, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", listed(self.known.iter().copied())),
            });
            self.findings.add(&key.span(), Fault::new(format!("unknown key `{}`", units::shorten(word))).hint(hint));
        }
    }

    pub(super) fn string(&mut self, key: &'static str) -> Field<&'t str> {
        let value = self.take(key);
        self.string_of(value, "a string")
    }

    pub(super) fn string_of(&self, value: Option<&'t Value<'t>>, wanted: &str) -> Field<&'t str> {
        let Some(value) = value else {
            return Field::Missing;
        };
        match value.get_ref() {
            DeValue::String(text) => Field::Is(At { value: text, span: value.span() }),
            _ => self.wrong(value, wanted),
        }
    }

    pub(super) fn wrong<T>(&self, value: &Value<'_>, wanted: &str) -> Field<T> {
        self.findings.add(&value.span(), Fault::new(format!("expected {wanted}, found {}", describe(value.get_ref()))));
        Field::Broken
    }

    /// A value that is written as text: parsed, or `default`.
    fn parsed<T>(
        &mut self,
        key: &'static str,
        default: T,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> T {
        let value = self.take(key);
        let Field::Is(text) = self.string_of(value, wanted) else {
            return default;
        };
        parse(text.value).unwrap_or_else(|fault| {
            self.findings.add(&text.span, fault);
            default
        })
    }

    /// A duration, which may be zero.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.parsed(key, default, "a duration like \"30s\"", units::duration)
    }

    /// A duration of more than zero.
    pub(super) fn some_duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.parsed(key, default, "a duration like \"30s\"", |text| match units::duration(text)? {
            Duration::ZERO => Err(Fault::new(format!("`{key}` must be more than zero"))
                .hint(format!("the default is \"{}\"", units::written(default)))),
            duration => Ok(duration),
        })
    }

    pub(super) fn size(&mut self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.parsed(key, default, "a size like \"64KiB\"", |text| {
            let size = units::size(text)?;
            if range.contains(&size) {
                return Ok(size);
            }
            let (least, most) = (units::written_size(*range.start()), units::written_size(*range.end()));
            Err(Fault::new(format!("`{key}` must be from {least} to {most}")))
        })
    }

    /// A size that has no default.
    pub(super) fn some_size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        let written = self.entries.contains_key(key);
        let size = self.size(key, *range.start(), range);
        written.then_some(size)
    }

    pub(super) fn percent(&mut self, key: &'static str, default: f64) -> f64 {
        self.parsed(key, default, "a percentage like \"5%\"", units::percent)
    }

    /// A percentage of more than zero and not more than `most` (a part of 1), and where it stands.
    pub(super) fn some_percent(&mut self, key: &'static str, most: f64) -> Field<f64> {
        self.located(key, "a percentage like \"5%\"", |text| match units::percent(text)? {
            part if part > 0.0 && part <= most => Ok(part),
            _ => Err(Fault::new(format!("`{key}` must be more than 0% and at most {}%", most * 100.0))),
        })
    }

    /// A duration of more than zero, and where it stands.
    pub(super) fn duration_at(&mut self, key: &'static str) -> Field<Duration> {
        self.located(key, "a duration like \"30s\"", |text| match units::duration(text)? {
            Duration::ZERO => Err(Fault::new(format!("`{key}` must be more than zero"))),
            duration => Ok(duration),
        })
    }

    /// A value that is written as text: parsed, and where it stands.
    fn located<T>(&mut self, key: &'static str, wanted: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Field<T> {
        let value = self.take(key);
        let Field::Is(text) = self.string_of(value, wanted) else {
            return if value.is_some() { Field::Broken } else { Field::Missing };
        };
        match parse(text.value) {
            Ok(value) => Field::Is(At { value, span: text.span }),
            Err(fault) => {
                self.findings.add(&text.span, fault);
                Field::Broken
            }
        }
    }

    /// A whole number, and where it stands.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Field<usize> {
        let Some(value) = self.take(key) else {
            return Field::Missing;
        };
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong(value, "a whole number");
        };
        let span = value.span();
        match usize::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Field::Is(At { value, span }),
            _ => {
                let (least, most) = (range.start(), range.end());
                let message = format!("`{key}` must be from {least} to {most}");
                self.findings.add(&span, Fault::new(message));
                Field::Broken
            }
        }
    }

    pub(super) fn count_or(&mut self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.count(key, range).get().map_or(default, |at| at.value)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.flag_at(key).map_or(default, |at| at.value)
    }

    /// True or false, and where it stands.
    pub(super) fn flag_at(&mut self, key: &'static str) -> Option<At<bool>> {
        let value = self.take(key)?;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(At { value: *flag, span: value.span() });
        }
        self.wrong::<()>(value, "true or false");
        None
    }

    /// One word of a few.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&'static str, T)],
        other: impl Fn(&str) -> Option<Fault>,
    ) -> T {
        self.parsed(key, default, "a string", |text| {
            if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
                return Ok(*choice);
            }
            let words = || choices.iter().map(|(word, _)| *word);
            Err(other(text).unwrap_or_else(|| {
                let fault = Fault::new(format!("`{key}` cannot be `{}`", units::shorten(text)));
                match nearest(text, words()) {
                    Some(near) => fault.hint(format!("did you mean `{near}`?")),
                    None => fault.hint(format!("one of {}", listed(words()))),
                }
            }))
        })
    }

    /// Whether there is nothing under a key, be it of the right type or not. Does not ask for it.
    pub(super) fn lacks(&self, key: &str) -> bool {
        match self.entries.get(key).map(Spanned::get_ref) {
            None => true,
            Some(DeValue::Array(items)) => items.is_empty(),
            Some(_) => false,
        }
    }

    /// Whether there is a list under a key, and nothing in it. Does not ask for it.
    pub(super) fn holds_empty_list(&self, key: &str) -> bool {
        matches!(self.entries.get(key).map(Spanned::get_ref), Some(DeValue::Array(items)) if items.is_empty())
    }

    pub(super) fn entries(&self) -> &'t DeTable<'t> {
        self.entries
    }

    pub(super) fn findings(&self) -> &'t Findings<'t> {
        self.findings
    }
}

pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
