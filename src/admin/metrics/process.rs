//! What the kernel counts of this process.

use rustix::process::{Resource, getrlimit};

/// What the kernel counts; what it does not tell is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) memory: Option<u64>,
    pub(super) descriptors: Option<u64>,
    pub(super) max_descriptors: Option<u64>,
}

impl Process {
    /// As it is now. Reads a few files that are not on a disk.
    pub(super) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        let statm = std::fs::read_to_string("/proc/self/statm").ok();
        Self {
            cpu_seconds: stat.as_deref().and_then(cpu_seconds),
            memory: statm.as_deref().and_then(|text| {
                let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
                Some(pages * rustix::param::page_size() as u64)
            }),
            // The folder that is read is among them.
            descriptors: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_descriptors: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)). The name of the program, in parentheses, may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 99 1000 10";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat), Some(300.0 / ticks));
        assert_eq!(cpu_seconds("7 (a"), None);
    }
}
