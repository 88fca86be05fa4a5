//! Where each service of a large file stands in its text, so that the next reading parses no more than what was edited.
//!
//! A block is all that a file says of one service, from the line of its first table to the next table of anything else. It
//! is TOML by itself: a header ends whatever came before it. Only a file in which each service has exactly one block is
//! divided; others are read whole each time.

use std::ops::Range;

use super::error::Span;

/// A smaller file is read anew in less than a millisecond.
const LARGE: usize = if cfg!(test) { 1 } else { 64 << 10 };

/// A large file without a problem.
#[derive(Debug)]
pub(super) struct Blocks {
    text: String,
    /// In the order of the file, which is that of its services.
    places: Vec<Span>,
    /// Which of these name files that are read with them; in order.
    asking: Vec<usize>,
    /// Where the last table begins that is not a service's; 0 if there is none.
    foreign: usize,
}

/// What an edit changed: everything outside of it is as it was.
#[derive(Debug)]
pub(super) struct Window {
    /// These blocks of the old text.
    pub(super) old: Range<usize>,
    /// What stands in their place in the new one: whole blocks and nothing else.
    pub(super) new: Vec<Block>,
    /// Where that begins, in both texts.
    start: usize,
    /// Lines above it, in both texts.
    pub(super) above: usize,
    /// How many lines the text has more than before.
    pub(super) more: isize,
}

/// A service in the new text.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) place: Span,
}

impl Blocks {
    /// Whether a text is large enough to be divided.
    pub(super) fn are_for(text: &str) -> bool {
        text.len() >= LARGE
    }

    /// Divides a text that was read without a problem. `starts` is where the parser found the services' names, in the order of
    /// the file, and whether they name files: what is taken for a header here must be one for it too.
    pub(super) fn of(text: String, starts: &[(usize, bool)]) -> Option<Self> {
        if !Self::are_for(&text) {
            return None;
        }
        let runs = runs(&text, 0..text.len())?;
        let (services, others): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.name.is_some());
        if !services.iter().map(|run| run.name_at).eq(starts.iter().map(|(name, _)| *name)) {
            return None;
        }
        let places = services.into_iter().map(|run| run.place).collect();
        let foreign = others.last().map_or(0, |run| run.place.start);
        let asking = starts.iter().enumerate().filter(|(_, (_, asks))| *asks).map(|(index, _)| index).collect();
        Some(Self { text, places, asking, foreign })
    }

    /// The text of a service.
    pub(super) fn block(&self, index: usize) -> &str {
        self.places.get(index).and_then(|place| self.text.get(place.clone())).unwrap_or_default()
    }

    /// What an edit changed. None if it touched anything but blocks, or left anything else in their place.
    pub(super) fn window(&self, text: &str) -> Option<Window> {
        let (old, new) = (self.text.as_bytes(), text.as_bytes());
        let most = old.len().min(new.len());
        let front = same_front(&old[..most], &new[..most]);
        let most = most - front;
        let end = old.len() - same_back(&old[old.len() - most..], &new[new.len() - most..]);
        // The block of the last byte that stayed, so that a comment above the next header is still that block's.
        let first = self.places.partition_point(|place| place.start < front).checked_sub(1)?;
        let mut last = first;
        while self.places[last].end < end.max(front) {
            last += 1;
            if self.places.get(last)?.start != self.places[last - 1].end {
                return None;
            }
        }
        if self.asking.iter().any(|index| (first..=last).contains(index)) {
            return None;
        }
        let (start, behind) = (self.places[first].start, old.len() - self.places[last].end);
        let place = start..new.len() - behind;
        let changed = text.get(place.clone())?;
        // The header behind it would become a part of its last line.
        if behind > 0 && !changed.ends_with('\n') {
            return None;
        }
        let runs = runs(text, place.clone())?;
        if runs.first().is_none_or(|run| run.place.start != start) {
            return None;
        }
        let block = |run: Run<'_>| Some(Block { name: run.name?.to_owned(), place: run.place });
        let blocks: Vec<_> = runs.into_iter().map(block).collect::<Option<_>>()?;
        let more = lines(changed).cast_signed() - lines(&self.text[start..old.len() - behind]).cast_signed();
        if more != 0 && self.foreign > start {
            // What is told of its lines would be told of others.
            return None;
        }
        Some(Window { old: first..last + 1, new: blocks, start, above: lines(&self.text[..start]), more })
    }

    /// The new text with its blocks, behind a window that was read without a problem.
    pub(super) fn moved(&self, window: &Window, text: String) -> Self {
        let by = text.len().cast_signed() - self.text.len().cast_signed();
        let moved = |place: &Span| place.start.saturating_add_signed(by)..place.end.saturating_add_signed(by);
        let mut places = Vec::with_capacity(self.places.len() - window.old.len() + window.new.len());
        places.extend_from_slice(&self.places[..window.old.start]);
        places.extend(window.new.iter().map(|block| block.place.clone()));
        places.extend(self.places[window.old.end..].iter().map(moved));
        let foreign = if self.foreign > window.start { self.foreign.saturating_add_signed(by) } else { self.foreign };
        let fewer = self.places.len().cast_signed() - places.len().cast_signed();
        let moved =
            |index: &usize| if *index < window.old.start { *index } else { index.saturating_add_signed(-fewer) };
        let asking = self.asking.iter().map(moved).collect();
        Self { text, places, asking, foreign }
    }
}

/// How many lines end in a text.
pub(super) fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// What is compared at once.
const CHUNK: usize = 1024;

/// How much of the beginning is the same; both are as long.
fn same_front(ours: &[u8], theirs: &[u8]) -> usize {
    let same = ours.chunks(CHUNK).zip(theirs.chunks(CHUNK)).take_while(|(ours, theirs)| ours == theirs).count();
    let same = (same * CHUNK).min(ours.len());
    same + ours[same..].iter().zip(&theirs[same..]).take_while(|(ours, theirs)| ours == theirs).count()
}

/// How much of the end is the same; both are as long.
fn same_back(ours: &[u8], theirs: &[u8]) -> usize {
    let same = ours.rchunks(CHUNK).zip(theirs.rchunks(CHUNK)).take_while(|(ours, theirs)| ours == theirs).count();
    let same = (same * CHUNK).min(ours.len());
    let rest = ours.len() - same;
    let more = ours[..rest].iter().rev().zip(theirs[..rest].iter().rev());
    same + more.take_while(|(ours, theirs)| ours == theirs).count()
}

/// Tables of the same service, one after the other.
#[derive(Debug)]
struct Run<'t> {
    /// None: of no service.
    name: Option<&'t str>,
    /// Where the name stands in the first of them.
    name_at: usize,
    /// From the beginning of its line to the next run.
    place: Span,
}

/// Divides a part of a text, which begins at the beginning of a line outside of any value. Right for valid TOML, and to be
/// checked for any other. None if a header is written in a way that is not understood here.
fn runs(text: &str, part: Span) -> Option<Vec<Run<'_>>> {
    let bytes = &text.as_bytes()[..part.end];
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut at = part.start;
    while at < part.end {
        let line = at;
        let blank = bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        at = line_end(bytes, at);
        let written = &text[line + blank..at];
        if !written.starts_with('[') {
            continue;
        }
        let (name_at, name) = match owner(written) {
            Owner::Service(at, name) => (line + blank + at, Some(name)),
            Owner::Other => (line, None),
            Owner::Unclear => return None,
        };
        match runs.last_mut() {
            Some(last) if last.name == name => {}
            last => {
                if let Some(last) = last {
                    last.place.end = line;
                }
                runs.push(Run { name, name_at, place: line..part.end });
            }
        }
    }
    Some(runs)
}

/// What the table of a header belongs to.
enum Owner<'t> {
    /// A service: where its name stands in the header, and the name.
    Service(usize, &'t str),
    Other,
    /// It is written in an odd way.
    Unclear,
}

fn owner(header: &str) -> Owner<'_> {
    const OF: &str = "service.";
    let opened = if header.starts_with("[[") { 2 } else { 1 };
    let rest = &header[opened..];
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let (name, behind, owner) = match rest.strip_prefix(OF) {
        None => {
            let (name, behind) = rest.split_at(rest.find(|c| !bare(c)).unwrap_or(rest.len()));
            (name, behind, if name == "service" { Owner::Unclear } else { Owner::Other })
        }
        Some(rest) => {
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
            let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
            let end = rest.find(|c| !bare(c) && (quote.is_none() || c != '.')).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            // Without the quote that must follow, nothing fits.
            let behind = quote.map_or(behind, |quote| behind.strip_prefix(quote).unwrap_or_default());
            (name, behind, Owner::Service(opened + OF.len(), name))
        }
    };
    if !name.is_empty() && behind.starts_with(['.', ']']) { owner } else { Owner::Unclear }
}

/// Behind the line that begins at `at`, with all lines of the values in it.
fn line_end(bytes: &[u8], mut at: usize) -> usize {
    let mut open = 0_usize;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\n' if open == 0 => break,
            b'#' => at += bytes[at..].iter().take_while(|byte| **byte != b'\n').count(),
            b'"' | b'\'' => at = string_end(bytes, at, *byte),
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    at.min(bytes.len())
}

/// Behind the string whose first quote stands in front of `at`.
fn string_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    let follow = |at: usize, count: usize| {
        bytes.get(at..at + count).is_some_and(|bytes| bytes.iter().all(|byte| *byte == quote))
    };
    let long = follow(at, 2);
    at += if long { 2 } else { 0 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 2,
            b'\n' if !long => break,
            byte if *byte != quote => at += 1,
            _ if !long => return at + 1,
            _ if follow(at, 3) => {
                // Up to two quotes in front of the closing three are the string's own.
                at += 3;
                return at + (0..2).take_while(|more| follow(at, more + 1)).count();
            }
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}
