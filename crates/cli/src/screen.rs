//! The two streams and their colours. Standard output carries the answer and nothing else; notes, hints, prompts and
//! errors go to standard error (L29). Colours are used only on terminals (L30).

use std::borrow::Cow;
use std::io::{self, BufWriter, Stderr, Stdout, Write};

use clap::ValueEnum;

use crate::stop::{Result, Stop};
use crate::world::World;

/// Colours of Core Tools (L30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Success.
    Green,
    /// Warnings, dark yellow.
    Yellow,
    /// Errors and "not found".
    Red,
    /// None.
    Plain,
}

impl Colour {
    fn number(self) -> Option<u8> {
        match self {
            Self::Green => Some(32),
            Self::Yellow => Some(33),
            Self::Red => Some(91),
            Self::Plain => None,
        }
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On terminals.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which streams have colours.
#[derive(Clone, Copy, Debug, Default)]
struct Paints {
    out: bool,
    err: bool,
}

/// The streams.
#[derive(Debug)]
pub(crate) struct Screen {
    out: BufWriter<Stdout>,
    err: Stderr,
    paints: Paints,
    out_is_terminal: bool,
    /// Whether errors are one line of JSON (L35).
    pub(crate) errors_are_json: bool,
    is_quiet: bool,
    /// Remarks that wait for the end of the command: an error in JSON takes them in, so that it stands alone.
    held: Vec<(Colour, String)>,
}

impl Screen {
    /// The streams of this process.
    pub(crate) fn new(world: &World) -> Self {
        let mut screen = Self {
            out: BufWriter::new(io::stdout()),
            err: io::stderr(),
            paints: Paints::default(),
            out_is_terminal: world.out_is_terminal,
            errors_are_json: false,
            is_quiet: false,
            held: Vec::new(),
        };
        screen.colour_when(When::Auto, world);
        screen
    }

    /// Decides about colours: `--color`, then `NO_COLOR`, `CLICOLOR_FORCE`, `TERM=dumb`, then the terminal.
    pub(crate) fn colour_when(&mut self, when: When, world: &World) {
        let forced = match when {
            When::Always => Some(true),
            When::Never => Some(false),
            When::Auto if world.filled("NO_COLOR").is_some() => Some(false),
            When::Auto if world.filled("CLICOLOR_FORCE").is_some_and(|value| value != "0") => Some(true),
            When::Auto if world.var("TERM") == Some("dumb") => Some(false),
            When::Auto => None,
        };
        self.paints.out = forced.unwrap_or(world.out_is_terminal);
        self.paints.err = forced.unwrap_or(world.err_is_terminal);
    }

    /// Leaves notes and hints out.
    pub(crate) fn be_quiet(&mut self) {
        self.is_quiet = true;
    }

    /// A line of the answer.
    pub(crate) fn say(&mut self, colour: Colour, line: &str) -> Result<()> {
        let shown = if self.out_is_terminal {
            harmless(line)
        } else {
            Cow::Borrowed(line)
        };
        let painted = paint(&shown, colour, self.paints.out);
        Ok(writeln!(self.out, "{painted}")?)
    }

    /// Writes a part of the answer unchanged.
    pub(crate) fn print(&mut self, text: &str) -> Result<()> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Hands over what was said so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    /// A warning.
    pub(crate) fn warn(&mut self, line: &str) {
        self.remark(Colour::Yellow, line);
    }

    /// A remark that one can do without.
    pub(crate) fn note(&mut self, line: &str) {
        if !self.is_quiet {
            self.remark(Colour::Plain, line);
        }
    }

    /// A remark on how the command goes about its work, said at once.
    pub(crate) fn tell(&mut self, line: &str) {
        if !self.is_quiet {
            self.remark_now(Colour::Plain, line);
        }
    }

    fn remark(&mut self, colour: Colour, line: &str) {
        if self.errors_are_json {
            self.held.push((colour, line.to_owned()));
        } else {
            self.remark_now(colour, line);
        }
    }

    /// Says the remarks that waited.
    pub(crate) fn release(&mut self) {
        for (colour, line) in std::mem::take(&mut self.held) {
            self.remark_now(colour, &line);
        }
    }

    fn remark_now(&mut self, colour: Colour, line: &str) {
        let painted = paint(&harmless(line), colour, self.paints.err);
        // Errors on standard error are ignored, because the answer matters more.
        let _closed = writeln!(self.err, "{painted}");
    }

    /// A question, without an end of line.
    pub(crate) fn ask(&mut self, question: &str) {
        let question = harmless(question);
        let _closed = write!(self.err, "{question} ").and_then(|()| self.err.flush());
    }

    /// Prints why a command ended; returns its exit code.
    pub(crate) fn end(&mut self, stop: &Stop) -> u8 {
        // What was answered before it broke comes first.
        let _closed = self.out.flush();
        if stop.message.is_empty() {
            self.release();
            return stop.exit;
        }
        if self.errors_are_json {
            let held = std::mem::take(&mut self.held).into_iter().map(|(_, line)| line);
            let held = held.map(|line| line.strip_prefix("hint: ").map(str::to_owned).unwrap_or(line));
            let hints: Vec<String> = stop.hints.iter().cloned().chain(held).collect();
            let hint = (!hints.is_empty()).then(|| hints.join("; "));
            // In the order that L35 gives, which a JSON map would not keep.
            let (code, message) = (quoted(stop.code), quoted(&stop.message));
            let hint = hint.map_or_else(|| "null".to_owned(), |hint| quoted(&hint));
            let line = format!(
                r#"{{"error":{{"code":{code},"message":{message},"hint":{hint},"exitCode":{},"requestId":null}}}}"#,
                stop.exit
            );
            self.remark_now(Colour::Plain, &line);
            return stop.exit;
        }
        let first = if stop.is_plain {
            stop.message.clone()
        } else {
            format!("error[{}]: {}", stop.code, stop.message)
        };
        self.remark(Colour::Red, &first);
        if let Some(line) = &stop.usage {
            self.remark(Colour::Plain, line);
        }
        for hint in stop.hints.iter().take(2) {
            self.remark(Colour::Plain, &format!("hint: {hint}"));
        }
        stop.exit
    }
}

/// A text whose control characters are shown and not obeyed: what it quotes may come from anybody, and a terminal does what
/// they say. Ends of lines stay.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_harmful(letter) {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal may do something else than show it. The last are those that turn the direction of writing.
fn is_harmful(letter: char) -> bool {
    (letter.is_control() && !matches!(letter, '\n' | '\t'))
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    // JSON leaves some as they are.
    let mut out = String::with_capacity(quoted.len());
    for letter in quoted.chars() {
        if is_harmful(letter) {
            // All of them are in the first plane.
            out.extend(["\\u", &format!("{:04x}", u32::from(letter))]);
        } else {
            out.push(letter);
        }
    }
    out
}

fn paint(line: &str, colour: Colour, is_on: bool) -> String {
    match colour.number().filter(|_| is_on) {
        Some(number) => format!("\u{1b}[{number}m{line}\u{1b}[0m"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_what_is_quoted_are_shown() {
        for (text, shown) in [
            ("plain, with é and\ttab\nand line", "plain, with é and\ttab\nand line"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("\u{9b}2J\u{7f}\r", "\\u{9b}2J\\u{7f}\\u{d}"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
        ] {
            assert_eq!(harmless(text), shown);
        }
    }

    #[test]
    fn errors_in_json_stay_json() {
        let text = quoted("a\u{1b}[0m\u{9b}\u{7f}\u{202e}\"\nz");
        assert_eq!(text, r#""a\u001b[0m\u009b\u007f\u202e\"\nz""#);
    }

    #[test]
    fn colours_are_those_of_core_tools() {
        assert_eq!(paint("done", Colour::Green, true), "\u{1b}[32mdone\u{1b}[0m");
        assert_eq!(paint("no", Colour::Red, true), "\u{1b}[91mno\u{1b}[0m");
        assert_eq!(paint("done", Colour::Green, false), "done");
        assert_eq!(paint("so", Colour::Plain, true), "so");
    }
}
