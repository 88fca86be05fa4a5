//! What is shown and what a key does. Pure: reports and keys in, what to do out; it knows no terminal and no clock.

use super::deeds::Deed;
use super::paint::Look;
use super::rates::Rates;
use super::rows::{self, Sort};
use crate::api::{HistoryEntry, ServiceStatus, Status};
use crate::model::{ServiceName, Timestamp};

/// A filter is no longer than this.
const LONGEST_FILTER: usize = 60;

/// A key, as far as there is something to do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A sign.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// So many rows down, or up if it is negative.
    Move(isize),
    /// So many screens.
    Page(isize),
    /// The first row.
    Home,
    /// The last row.
    End,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-L: draw everything again.
    Redraw,
    /// Ctrl-Z: back to the shell for a while.
    Suspend,
}

/// What the terminal and the network are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Draw what has changed.
    Draw,
    /// Draw everything.
    Redraw,
    /// Ask now: something else is wanted.
    Ask,
    /// Do it, if the service is still as it was seen.
    Do(Question),
    /// Go to the background.
    Suspend,
    /// End.
    Quit,
}

/// What fills the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// All services.
    Services,
    /// One service.
    Service(ServiceName),
    /// The configuration: errors, listeners, certificates.
    Problems,
    /// The keys.
    Help,
}

/// What is asked before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The service.
    pub service: ServiceName,
    /// What would be done.
    pub deed: Deed,
    /// What the service was when it was asked: whoever came first has changed it.
    pub tag: String,
}

/// What keys mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Commands.
    Usual,
    /// Letters of the filter.
    Filter,
    /// `y`, or not.
    Confirm(Question),
}

/// Whether what is shown is of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// No answer yet.
    Waiting,
    /// The last question was answered.
    Live,
    /// It was not.
    Gone {
        /// Since when.
        since: Timestamp,
        /// What happened, and what to do.
        why: String,
    },
}

/// Everything.
#[derive(Debug)]
pub struct App {
    /// How to draw.
    pub look: Look,
    /// The machine's clock at the last tick.
    pub clock: Timestamp,
    /// Whether the proxy answers.
    pub link: Link,
    /// What it answered last.
    pub status: Option<Status>,
    /// What happens a second.
    pub rates: Rates,
    /// Finished rollouts of the service that is open.
    pub history: Option<(ServiceName, Vec<HistoryEntry>)>,
    /// What fills the screen.
    pub page: Page,
    /// What keys mean.
    pub mode: Mode,
    /// What the services are filtered by.
    pub filter: String,
    /// How they are sorted.
    pub sort: Sort,
    /// Places in `status.services` that are shown, in order.
    pub shown: Vec<usize>,
    /// The service that the cursor is on. It stays there wherever the service moves.
    pub selected: Option<ServiceName>,
    /// The row of the cursor, for when its service goes.
    pub cursor: usize,
    /// The first row on the screen; drawing corrects it.
    pub scroll: usize,
    /// Rows that the page has room for; written when it is drawn.
    pub room: usize,
    /// What came of the last deed, until the next key.
    pub notice: Option<Result<String, String>>,
    /// The page to go back to.
    back: Page,
}

impl App {
    /// Nothing is known yet.
    pub fn new(look: Look) -> Self {
        Self {
            look,
            clock: Timestamp(0),
            link: Link::Waiting,
            status: None,
            rates: Rates::default(),
            history: None,
            page: Page::Services,
            mode: Mode::Usual,
            filter: String::new(),
            sort: Sort::default(),
            shown: Vec::new(),
            selected: None,
            cursor: 0,
            scroll: 0,
            room: 1,
            notice: None,
            back: Page::Services,
        }
    }

    /// Begins with the page of a service.
    pub fn start_with(&mut self, service: ServiceName) {
        self.selected = Some(service.clone());
        self.page = Page::Service(service);
    }

    /// Time has passed.
    pub fn tick(&mut self, clock: Timestamp) {
        self.clock = clock;
    }

    /// The time that durations are counted to: it stands still while nothing is known.
    pub fn now(&self) -> Timestamp {
        match (&self.link, &self.status) {
            (Link::Gone { .. }, Some(status)) => status.now,
            _ => self.clock,
        }
    }

    /// The service whose details are wanted.
    pub fn open(&self) -> Option<&ServiceName> {
        match (&self.page, &self.back) {
            (Page::Service(name), _) | (Page::Help | Page::Problems, Page::Service(name)) => Some(name),
            _ => None,
        }
    }

    /// A service as it was when last heard of.
    pub fn service(&self, name: &ServiceName) -> Option<&ServiceStatus> {
        self.status.as_ref()?.services.iter().find(|service| service.name == *name)
    }

    /// The proxy answered; `only` if it was asked for this service alone.
    pub fn answered(&mut self, mut status: Status, only: Option<&ServiceName>) {
        self.link = Link::Live;
        self.clock = self.clock.max(status.now);
        self.rates.note(&status, only.is_none());
        if let (Some(name), Some(before)) = (only, self.status.take()) {
            let one = std::mem::replace(&mut status.services, before.services).into_iter().next();
            let at = status.services.iter().position(|service| service.name == *name);
            match (at, one) {
                (Some(at), Some(one)) => status.services[at] = one,
                (Some(at), None) => drop(status.services.remove(at)),
                (None, Some(one)) => status.services.push(one),
                (None, None) => {}
            }
        }
        self.status = Some(status);
        self.arrange();
    }

    /// The proxy did not answer.
    pub fn failed(&mut self, why: String) {
        let since = match self.link {
            Link::Gone { since, .. } => since,
            _ => self.clock,
        };
        self.link = Link::Gone { since, why };
    }

    /// What came of a deed.
    pub fn done(&mut self, result: Result<String, String>) {
        self.notice = Some(result);
    }

    /// A key was pressed.
    pub fn press(&mut self, key: Key) -> Act {
        match key {
            Key::Interrupt => return Act::Quit,
            Key::Redraw => return Act::Redraw,
            Key::Suspend => return Act::Suspend,
            _ => self.notice = None,
        }
        match self.mode.clone() {
            Mode::Usual => self.command(key),
            Mode::Filter => self.edit_filter(key),
            Mode::Confirm(question) => {
                self.mode = Mode::Usual;
                match key {
                    Key::Char('y' | 'Y') => Act::Do(question),
                    _ => Act::Draw,
                }
            }
        }
    }

    /// Text was pasted. It is a filter's, or nobody's: pasted letters are no commands.
    pub fn paste(&mut self, text: &str) {
        if self.mode == Mode::Filter {
            for letter in text.chars().filter(|letter| !letter.is_control()).take(LONGEST_FILTER) {
                self.edit_filter(Key::Char(letter));
            }
        }
    }

    fn command(&mut self, key: Key) -> Act {
        match key {
            Key::Char('q') => return Act::Quit,
            Key::Char('?') if self.page != Page::Help => return self.visit(Page::Help),
            Key::Char('c') if self.page != Page::Problems => return self.visit(Page::Problems),
            Key::Escape | Key::Backspace | Key::Char('?' | 'c') => return self.leave(key),
            Key::Move(rows) => self.go(rows),
            Key::Char('j') => self.go(1),
            Key::Char('k') => self.go(-1),
            Key::Page(pages) => self.go(pages.saturating_mul((self.room.max(2) - 1).cast_signed())),
            Key::Home | Key::Char('g') => self.go(isize::MIN / 2),
            Key::End | Key::Char('G') => self.go(isize::MAX / 2),
            Key::Enter if self.page == Page::Services => {
                if let Some(name) = self.selected.clone() {
                    self.history = None;
                    return self.visit(Page::Service(name));
                }
            }
            Key::Char('/') => {
                self.mode = Mode::Filter;
                self.page = Page::Services;
                self.scroll = 0;
            }
            Key::Char('s') if self.page == Page::Services => {
                self.sort = self.sort.next();
                self.arrange();
            }
            Key::Char(letter) => self.confirm(letter),
            _ => {}
        }
        Act::Draw
    }

    fn confirm(&mut self, key: char) {
        let service = match &self.page {
            Page::Service(name) => Some(name.clone()),
            Page::Services => self.selected.clone(),
            _ => None,
        };
        if let Some(status) = service.as_ref().and_then(|name| self.service(name))
            && let Some(deed) = Deed::of(key, status)
        {
            let (service, tag) = (status.name.clone(), status.tag.clone());
            self.mode = Mode::Confirm(Question { service, deed, tag });
        }
    }

    fn edit_filter(&mut self, key: Key) -> Act {
        match key {
            Key::Enter => self.mode = Mode::Usual,
            Key::Escape => {
                self.filter.clear();
                self.mode = Mode::Usual;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(letter) if self.filter.chars().count() < LONGEST_FILTER => self.filter.push(letter),
            Key::Move(rows) => self.go(rows),
            Key::Page(pages) => self.go(pages.saturating_mul((self.room.max(2) - 1).cast_signed())),
            _ => {}
        }
        self.arrange();
        Act::Draw
    }

    fn visit(&mut self, page: Page) -> Act {
        if matches!(self.page, Page::Services | Page::Service(_)) {
            self.back = self.page.clone();
        }
        if matches!(page, Page::Service(_)) {
            self.back = Page::Services;
        }
        self.page = page;
        self.scroll = 0;
        Act::Ask
    }

    /// A step back; from the first page, out of the filter, and then out.
    fn leave(&mut self, key: Key) -> Act {
        match &self.page {
            Page::Services if !self.filter.is_empty() => {
                self.filter.clear();
                self.arrange();
                Act::Draw
            }
            Page::Services if key == Key::Escape => Act::Quit,
            Page::Services => Act::Draw,
            Page::Service(_) => self.visit(Page::Services),
            Page::Help | Page::Problems => {
                let back = self.back.clone();
                self.visit(back)
            }
        }
    }

    fn go(&mut self, rows: isize) {
        if self.page == Page::Services {
            let last = self.shown.len().saturating_sub(1);
            self.cursor = self.cursor.saturating_add_signed(rows).min(last);
            self.selected = self.name_at(self.cursor);
        } else {
            self.scroll = self.scroll.saturating_add_signed(rows);
        }
    }

    fn name_at(&self, row: usize) -> Option<ServiceName> {
        let services = &self.status.as_ref()?.services;
        self.shown.get(row).and_then(|at| services.get(*at)).map(|service| service.name.clone())
    }

    /// Sorts and filters, and finds the cursor's service again.
    fn arrange(&mut self) {
        let Some(status) = &self.status else { return };
        self.shown = rows::order(&status.services, &self.rates, &self.filter, self.sort);
        let again = self.selected.as_ref().and_then(|selected| {
            self.shown.iter().position(|at| status.services.get(*at).is_some_and(|service| service.name == *selected))
        });
        self.cursor = again.unwrap_or(self.cursor.min(self.shown.len().saturating_sub(1)));
        if again.is_none() {
            self.selected = self.name_at(self.cursor);
        }
    }
}
