//! Which clients may ask at all, by their address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::Table;
use super::super::words;
use super::checked_list;

/// `[service.NAME.access]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// If there are any, the client must be in one of them.
    pub allow: Vec<IpNet>,
    /// The client must be in none of them, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether this client may ask. IPv4 in IPv6 (`::ffff:…`) must have been turned into IPv4.
    pub fn admits(&self, client: IpAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

pub(super) fn read(mut t: Table<'_>) -> Option<Access> {
    let access = Access {
        allow: checked_list(&mut t, "allow", words::network),
        deny: checked_list(&mut t, "deny", words::network),
    };
    // `allow = []` would let everybody in, which is not what it says.
    for key in ["allow", "deny"] {
        if t.holds_empty_list(key) {
            let fault = Fault::new(format!("`{key}` is empty"));
            t.findings().add(&t.span, fault.hint(format!("remove `{key}`, or write a network like \"10.0.0.0/8\"")));
        }
    }
    t.finish(misplaced);
    (access != Access::default()).then_some(access)
}
