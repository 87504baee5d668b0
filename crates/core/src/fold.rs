//! Names of functions and events as they are compared: without regard to case (R77).
//!
//! What counts as the same letter is Unicode's simple case folding, letter by letter and the same in every
//! language. The standard library has no table of it, but it follows from its two others: a letter is folded to
//! the small form of its capital, with the exceptions that `fold` names.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::id::Name;

/// A name that equals every spelling of it that differs in case only. It keeps the spelling it was made with.
#[derive(Clone)]
pub struct FoldedName(Name);

impl FoldedName {
    /// Wraps a name.
    pub fn new(name: Name) -> Self {
        Self(name)
    }

    /// The name as it is spelled.
    pub fn name(&self) -> &Name {
        &self.0
    }
}

impl From<&Name> for FoldedName {
    fn from(name: &Name) -> Self {
        Self(name.clone())
    }
}

impl PartialEq for FoldedName {
    fn eq(&self, other: &Self) -> bool {
        is_same(self.0.as_str(), other.0.as_str())
    }
}

impl Eq for FoldedName {}

impl Hash for FoldedName {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for letter in self.0.as_str().chars() {
            hasher.write_u32(u32::from(fold(letter)));
        }
    }
}

impl PartialOrd for FoldedName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FoldedName {
    fn cmp(&self, other: &Self) -> Ordering {
        folded(self.0.as_str()).cmp(folded(other.0.as_str()))
    }
}

impl fmt::Debug for FoldedName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl Name {
    /// The text that all spellings have in common which differ in case only.
    pub fn folded(&self) -> String {
        folded(self.as_str()).collect()
    }

    /// Whether a text is this name, but for case.
    pub fn eq_ignore_case(&self, text: &str) -> bool {
        is_same(self.as_str(), text)
    }
}

/// Whether two texts differ in nothing but case.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || folded(one).eq(folded(other))
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(fold)
}

/// The letter that stands for all that differ from this one in case only.
fn fold(letter: char) -> char {
    match letter {
        _ if letter.is_ascii() => letter.to_ascii_lowercase(),
        // A small i without a dot is a letter of its own wherever the language is not known, and Cherokee is folded to
        // its capitals, which were there first.
        'ı' | 'Ꭰ'..='Ᏽ' => letter,
        'ᏸ'..='ᏽ' | 'ꭰ'..='ꮿ' => single(letter.to_uppercase()).unwrap_or(letter),
        // Written twice in Unicode, and their capitals are more than one letter.
        '\u{1fd3}' => '\u{390}',
        '\u{1fe3}' => '\u{3b0}',
        '\u{fb05}' => '\u{fb06}',
        _ => {
            let capital = single(letter.to_uppercase()).unwrap_or(letter);
            single(capital.to_lowercase()).unwrap_or(letter)
        }
    }
}

fn single(mut letters: impl Iterator<Item = char>) -> Option<char> {
    letters.next().filter(|_| letters.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;

    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange, HirKind};

    use super::*;

    fn name(text: &str) -> FoldedName {
        FoldedName::new(Name::new(text).unwrap())
    }

    fn hash(name: &FoldedName) -> u64 {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn spellings_that_differ_in_case_only_are_one_name() {
        for (one, other) in [
            ("E1_HelloSequence", "e1_hELLOsEQUENCE"),
            ("σοφός", "ΣΟΦΌΣ"),
            ("ΟΔΟΣ", "οδος"),
            ("\u{b5}", "\u{39c}"),
            ("\u{b5}", "\u{3bc}"),
            ("ſ", "S"),
            ("\u{212a}", "k"),
            ("\u{212b}", "å"),
            ("ẞ", "ß"),
            ("Ǆ", "ǅ"),
            ("ᏸ", "Ᏸ"),
            ("ꭰ", "Ꭰ"),
            ("𐐀", "𐐨"),
            ("\u{390}", "\u{1fd3}"),
            ("ﬅ", "ﬆ"),
            ("\u{2126}", "ω"),
            ("\u{345}", "ι"),
            ("\u{1fbe}", "Ι"),
            ("ᾈ", "ᾀ"),
            ("ϐ", "Β"),
            ("ა", "Ა"),
        ] {
            let (one, other) = (name(one), name(other));
            assert_eq!(one, other);
            assert_eq!(one.cmp(&other), Ordering::Equal);
            assert_eq!(hash(&one), hash(&other), "{one:?} {other:?}");
            assert!(one.name().eq_ignore_case(other.name().as_str()));
        }
    }

    #[test]
    fn other_letters_are_other_names() {
        for (one, other) in [
            ("ı", "i"),
            ("ı", "I"),
            ("İ", "i"),
            ("İ", "I"),
            ("İ", "i\u{307}"),
            ("ß", "ss"),
            ("ﬁ", "fi"),
            ("é", "e"),
            ("é", "e\u{301}"),
            ("a", "ab"),
            ("A b", "a  b"),
        ] {
            assert_ne!(name(one), name(other));
            assert_ne!(name(one).cmp(&name(other)), Ordering::Equal);
            assert!(!name(one).name().eq_ignore_case(other));
        }
    }

    /// All letters that a table made independently of the standard library takes for the same as this one.
    fn relatives(letter: char) -> Vec<char> {
        let mut class = ClassUnicode::new([ClassUnicodeRange::new(letter, letter)]);
        class.case_fold_simple();
        let ranges = class.ranges().iter();
        ranges.flat_map(|range| range.start()..=range.end()).collect()
    }

    #[test]
    fn every_letter_there_is_folds_as_unicode_says() {
        let HirKind::Class(class) = regex_syntax::parse(r"\P{Unassigned}").unwrap().into_kind() else {
            panic!("a property is a class");
        };
        let regex_syntax::hir::Class::Unicode(assigned) = class else {
            panic!("it is one of characters");
        };
        let mut checked = 0;
        // Letters that the table does not know yet may be newer than it.
        for letter in assigned.ranges().iter().flat_map(|range| range.start()..=range.end()) {
            let relatives = relatives(letter);
            let stand_in = fold(letter);
            assert!(
                relatives.contains(&stand_in),
                "{letter:?} folds to {stand_in:?}, its relatives are {relatives:?}"
            );
            for relative in relatives {
                assert_eq!(fold(relative), stand_in, "{letter:?} and {relative:?}");
            }
            assert_eq!(fold(stand_in), stand_in, "{letter:?}");
            checked += 1;
        }
        assert!(checked > 200_000, "{checked}");
    }
}
