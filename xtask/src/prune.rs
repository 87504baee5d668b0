//! Takes rows out of the lists of rules and scenarios without touching the text around them.

use crate::citations::row_name;

/// The list without the rows that `keep` refuses. A section left without any row goes as a whole,
/// because a heading over an empty table says nothing.
pub(crate) fn rows(text: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for section in sections(text) {
        let names = || section.iter().filter_map(|line| row_name(line));
        if names().next().is_some() && !names().any(&keep) {
            continue;
        }
        for line in section.iter().filter(|line| row_name(line).is_none_or(&keep)) {
            out.push_str(line);
            out.push('\n');
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

/// The lines of a file of names, one a line, without those that `keep` refuses.
pub(crate) fn names(text: &str, keep: impl Fn(&str) -> bool) -> String {
    let kept = text
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && keep(name));
    kept.fold(String::new(), |out, name| out + name + "\n")
}

fn sections(text: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with("## ") {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_rows_go_and_empty_sections_with_them() {
        let text = "# T\n\n## One\n\n| r | w |\n|---|---|\n| R1 | a |\n| R2 | b |\n\n## Two\n\n| R3 | c |\n";
        let left = rows(text, |name| name == "R2");
        assert_eq!(left, "# T\n\n## One\n\n| r | w |\n|---|---|\n| R2 | b |\n");
    }

    #[test]
    fn nothing_changes_when_all_is_kept() {
        let text = "# T\n\nWords.\n\n| R1 | a |\n";
        assert_eq!(rows(text, |_| true), text);
    }

    #[test]
    fn names_keep_their_order() {
        assert_eq!(names("S-b\nS-a\n\nS-c\n", |name| name != "S-a"), "S-b\nS-c\n");
    }
}
