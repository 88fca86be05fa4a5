//! Values with a unit: `"1m 30s"`, `"64KiB"`, `"5%"`. A bare number is refused: nobody should have to look up what it counts.

use std::time::Duration;

use super::error::Fault;

/// Longer waits are surely mistakes, and clocks can still add this without overflow.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// One or more of `1d 2h 3m 4s 5ms`, larger units first.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let fault = || {
        Fault::new(format!("`{}` is not a duration", shorten(text)))
            .hint("write a number and a unit, like \"500ms\", \"30s\", \"1m 30s\", \"2h\", \"1d\"")
    };
    let mut total: u64 = 0;
    let mut allowed = &UNITS[..];
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after.trim_start(), |c| c.is_ascii_alphabetic());
        let number: u64 = number.parse().map_err(|_| fault())?;
        let index = allowed.iter().position(|(name, _)| *name == unit).ok_or_else(fault)?;
        total = number.checked_mul(allowed[index].1).and_then(|part| total.checked_add(part)).ok_or_else(fault)?;
        allowed = &allowed[index + 1..];
        rest = after.trim_start();
    }
    let total = Duration::from_millis(total);
    if total > LONGEST {
        return Err(Fault::new(format!("`{}` is too long", shorten(text))).hint("the longest is \"365d\""));
    }
    Ok(total)
}

/// The same for those who ask elsewhere than in a file.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|_| format!("`{}` is not a duration: write `30s`, `5m` or `1m30s`", shorten(text)))
}

/// `512B`, `64KiB`, `10MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<usize, Fault> {
    let fault = || {
        Fault::new(format!("`{}` is not a size", shorten(text)))
            .hint("write a number and B, KiB, MiB or GiB, like \"64KiB\"")
    };
    let (number, unit) = split(text.trim(), |c| c.is_ascii_digit());
    let unit: usize = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(fault()),
    };
    let number: usize = number.parse().map_err(|_| fault())?;
    number.checked_mul(unit).ok_or_else(fault)
}

/// `5%` or `12.5%`, as a part of 1; 100% at most.
pub(super) fn percent(text: &str) -> Result<f64, Fault> {
    let fault =
        || Fault::new(format!("`{}` is not a percentage", shorten(text))).hint("write it like \"5%\" or \"12.5%\"");
    let number = text.trim().strip_suffix('%').ok_or_else(fault)?.trim_end();
    // `f64` would also take `inf`, `1e3` and a sign.
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(fault());
    }
    let number: f64 = number.parse().map_err(|_| fault())?;
    if number > 100.0 {
        return Err(Fault::new(format!("`{}` is more than 100%", shorten(text))));
    }
    Ok(number / 100.0)
}

/// A duration as it would be written in a file.
pub(super) fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".into(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// A size as it would be written in a file.
pub(super) fn written_size(bytes: usize) -> String {
    match bytes {
        0 => "0B".into(),
        n if n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n => format!("{n}B"),
    }
}

/// A value as an error quotes it: in one line, and not longer than people read.
pub(super) fn shorten(text: &str) -> String {
    let mut out: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}

fn split(text: &str, part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !part(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_from_large_units_to_small_ones() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            (" 2 h ", 7_200_000),
            ("1d 2h 3m 4s 5ms", 93_784_005),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "5",
            "s",
            "5 5",
            "-1s",
            "1.5s",
            "1s 1m",
            "1s 1s",
            "5 secs",
            "1S",
            "366d",
            "99999999999999999999s",
            "9999999999999999999d",
            "٣s",
            "1s,",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("512B"), Ok(512));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("10 MiB"), Ok(10 << 20));
        for text in ["", "64", "64KB", "64k", "KiB", "1.5MiB", "-1B", "99999999999GiB", "9999999999999999999999B"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_parts_of_one() {
        for (text, part) in [("0%", 0.0), ("5%", 0.05), ("12.5%", 0.125), ("100 %", 1.0)] {
            assert_eq!(percent(text), Ok(part), "{text}");
        }
        for text in ["", "%", "5", "0.05", "-5%", "101%", "inf%", "NaN%", "1e1%", "1.2.3%", ".%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 1000, 1001, 60_000, 90_000, 3_600_000] {
            let wanted = Duration::from_millis(ms);
            assert_eq!(duration(&written(wanted)), Ok(wanted));
        }
        for bytes in [0, 1, 1024, 1500, 1 << 20, 3 << 30] {
            assert_eq!(size(&written_size(bytes)), Ok(bytes));
        }
    }
}
