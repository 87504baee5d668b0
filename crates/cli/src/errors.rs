//! `taskhub errors`: what a condition's word means and what to do (L77). The pages are those of `docs/errors`,
//! built in, so that they are at hand where the program is.

macro_rules! pages {
    ($($code:literal)*) => {
        /// The pages, by their code.
        const PAGES: &[(&str, &str)] = &[
            $(($code, include_str!(concat!("../../../docs/errors/", $code, ".md"))),)*
        ];
    };
}

pages! {
    "address-in-use" "address-unprotected" "bad-instance-id" "certificate-unusable" "configuration" "declined"
    "failed" "file-not-found" "host-not-allowed" "hub-exists" "hub-not-found" "hub-stopped" "idempotency-conflict" "inbox-full" "instance-exists"
    "instance-failed" "instance-live" "instance-not-found" "instance-not-live" "instance-stalled"
    "instance-terminated" "invalid-argument" "invalid-hub-name" "invalid-idempotency-key" "invalid-instance-id" "invalid-name" "no-such-route"
    "not-allowed" "not-authenticated" "not-available-yet" "not-served" "origin-not-allowed" "output-failed" "overloaded"
    "payload-too-deep" "payload-too-large" "server-unreachable" "signal-unavailable" "stale-answer" "store-corrupt" "store-format"
    "store-full" "store-locked" "store-lost" "store-unavailable" "timed-out" "unexpected-answer" "unregistered-name" "usage"
}

/// One page, or a list of all.
pub(crate) fn run(code: Option<&str>) -> String {
    let page = PAGES.iter().find(|(known, _)| Some(*known) == code);
    page.map_or_else(list, |(_, page)| (*page).to_owned())
}

pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(code, _)| *code)
}

/// The same word, if it is one of ours: a server of another version may have others.
pub(crate) fn known(code: &str) -> Option<&'static str> {
    codes().find(|known| *known == code)
}

fn list() -> String {
    let width = codes().map(str::len).max().unwrap_or_default();
    let line = |(code, page): &(&str, &str)| format!("{code:<width$} {}\n", summary(page));
    PAGES.iter().map(line).collect()
}

/// The first sentence of a page.
fn summary(page: &str) -> &str {
    let paragraph = page.split("\n\n").nth(1).unwrap_or_default();
    let line = paragraph.lines().next().unwrap_or_default();
    line.find(". ").map_or(line, |end| &line[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        let names = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> = names.collect();
        there.sort();
        let ours: Vec<String> = PAGES.iter().map(|(code, _)| format!("{code}.md")).collect();
        assert_eq!(ours, there);
    }

    #[test]
    fn a_code_is_explained_and_all_are_listed() {
        assert!(run(Some("store-locked")).starts_with("# store-locked\n"));
        let line = "store-locked            Another process has the store open.\n";
        assert!(run(None).contains(line));
    }
}
