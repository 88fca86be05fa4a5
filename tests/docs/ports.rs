//! Documentation names ports; tests must not. So each page gets its own, in what it says and in the files it uses.

use std::net::TcpListener;

/// The ports that pages name.
const NAMED: [u16; 14] = [8080, 8443, 9901, 5001, 5002, 5003, 5004, 5005, 5006, 5011, 5012, 8000, 8081, 9100];

/// Other numbers in their places.
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Ports that are free now. They stay below those that the system gives out by itself, so that nobody takes them by chance.
    pub fn free() -> Self {
        let mut held = Vec::new();
        while held.len() < NAMED.len() {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", fastrand::u16(15_000..32_000))) {
                held.push(listener);
            }
        }
        let free = held.iter().map(|listener| listener.local_addr().unwrap().port());
        Self(NAMED.into_iter().zip(free).collect())
    }

    /// The port in the place of the named one.
    pub fn of(&self, named: u16) -> u16 {
        self.0.iter().find(|(from, _)| *from == named).expect("a port that pages name").1
    }

    /// The text with every named port replaced.
    pub fn replace(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
            let (digits, after) = from.split_at(end);
            replaced.push_str(before);
            let other = digits.parse::<u16>().ok().and_then(|port| self.0.iter().find(|(named, _)| *named == port));
            match other {
                Some((_, port)) => replaced.push_str(&port.to_string()),
                None => replaced.push_str(digits),
            }
            rest = after;
        }
        replaced.push_str(rest);
        replaced
    }
}

#[test]
fn only_whole_numbers_are_replaced() {
    let ports = Ports(vec![(5001, 20_000), (8080, 30_000)]);
    assert_eq!(ports.replace("127.0.0.1:5001 5001x 15001 8080"), "127.0.0.1:20000 20000x 15001 30000");
}
