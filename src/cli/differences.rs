//! What an edit changed, for people. Pure.

/// The lines that differ, as `-` and `+` lines in order, for people.
pub fn differences(before: &str, after: &str) -> Vec<String> {
    let old: Vec<&str> = before.lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    // Edits are small and never move lines, so the nearest line that both have is where they meet again.
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let meet = (i..old.len())
            .filter_map(|a| new[j..].iter().position(|line| *line == old[a]).map(|b| (a, j + b)))
            .min_by_key(|(a, b)| a - i + b - j)
            .unwrap_or((old.len(), new.len()));
        lines.extend(old[i..meet.0].iter().map(|line| format!("-{line}")));
        lines.extend(new[j..meet.1].iter().map(|line| format!("+{line}")));
        (i, j) = meet;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_only_what_differs() {
        assert!(differences("a\nb\n", "a\nb\n").is_empty());
        assert_eq!(differences("a\nb\nc\nd\n", "a\nx\nc\nd\ny\n"), ["-b", "+x", "+y"]);
        assert_eq!(differences("", "a\n"), ["+a"]);
        assert_eq!(differences("a\n", ""), ["-a"]);
    }
}
