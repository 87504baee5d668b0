//! Text in, text out: runs the scripts in `tests/turns`.
//!
//! A script is a list of blocks with an empty line between them: lines that say what happens, `----`,
//! lines that say what changed. `UPDATE=1 cargo test` rewrites the second halves. `show times` before
//! the first block shows times in history. What a line may say is in [`script`]; a line that begins
//! with `ID:` is about that instance and not about `main`.

mod journal;
mod script;
mod show;
mod words;
mod world;

use std::fs;
use std::path::PathBuf;

use taskhub_core::time::Timestamp;

use world::World;

const RULE: &str = "----";
const HEADER: &str = "show times";

/// The folder of the scripts.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/turns")
}

/// Runs a script and compares what changed with what it says.
pub(crate) fn check(test: &str) {
    let path = folder().join(format!("{}.txt", test.replace('_', "-")));
    let Ok(written) = fs::read_to_string(&path) else {
        panic!("cannot read {}", path.display())
    };
    let played = play(&written);
    if played == written {
        return;
    }
    if is_update() {
        assert!(fs::write(&path, played).is_ok(), "cannot write {}", path.display());
    } else {
        panic!("{}", difference(&written, &played));
    }
}

#[expect(clippy::disallowed_methods, reason = "asked for by the person who runs the tests")]
fn is_update() -> bool {
    std::env::var("UPDATE").is_ok_and(|value| value == "1")
}

/// The script with its expected halves as they come out.
fn play(written: &str) -> String {
    let start = format!("{}T10:00:00Z", words::DAY);
    let Some(now) = Timestamp::parse(&start) else {
        unreachable!("the day is a day")
    };
    let mut world = World::new(now, written.lines().any(|line| line == HEADER));
    let blocks = written
        .trim_end()
        .split("\n\n")
        .map(|block| play_block(&mut world, block));
    let blocks: Vec<String> = blocks.collect();
    blocks.join("\n")
}

fn play_block(world: &mut World, block: &str) -> String {
    let said = block.lines().take_while(|line| *line != RULE);
    let mut played = String::new();
    let mut is_played = false;
    for line in said {
        played += line;
        played.push('\n');
        if !line.starts_with('#') && line != HEADER {
            script::play(world, line);
            is_played = true;
        }
    }
    if is_played {
        played.extend([RULE, "\n", &world.close_block()]);
    }
    played
}

/// The first line that differs, with the block around it.
fn difference(written: &str, played: &str) -> String {
    let blocks = written.trim_end().split("\n\n").zip(played.trim_end().split("\n\n"));
    let differing = blocks.into_iter().find(|(expected, found)| expected != found);
    let (expected, found) = differing.unwrap_or((written, played));
    format!("expected\n\n{expected}\n\nfound\n\n{found}\n\n`UPDATE=1 cargo test` accepts what was found")
}
