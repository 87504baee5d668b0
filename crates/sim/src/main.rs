//! `taskhub-sim`: runs seeds, says what struck, and stops at the first rule that does not hold.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to whoever runs it"
)]

use std::ops::Range;
use std::process::ExitCode;

use taskhub_sim::{Config, Medium, Tally, Trace, failure, run, table};

const USAGE: &str = "\
usage: taskhub-sim [--seeds N] [--from S] [--seed S] [--store mem|embedded|both] [--trace]

  --seeds N   how many seeds are run (100)
  --from S    the first of them; without it fresh ones, which are printed
  --seed S    this one only
  --store W   where hubs are kept; without it in memory, and every 20th seed on disk too
  --trace     prints everything that happens";

/// Without a choice of the store, one seed in so many runs on disk too.
const EMBEDDED_EVERY: u64 = 20;

/// Seeds that nobody chose are below this, so that they can be typed.
const FRESH_BELOW: u64 = 1 << 40;

struct Arguments {
    seeds: Range<u64>,
    media: Option<Vec<Medium>>,
    is_traced: bool,
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut from, mut count, mut media, mut is_traced) = (None, 100_u64, None, false);
    while let Some(option) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{option} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
        match option.as_str() {
            "--seeds" => count = number(value()?)?,
            "--from" => from = Some(number(value()?)?),
            "--seed" => (from, count) = (Some(number(value()?)?), 1),
            "--store" => {
                media = Some(match value()?.as_str() {
                    "mem" => vec![Medium::Mem],
                    "embedded" => vec![Medium::Embedded],
                    "both" => vec![Medium::Mem, Medium::Embedded],
                    other => return Err(format!("`{other}` is no store")),
                });
            }
            "--trace" => is_traced = true,
            other => return Err(format!("`{other}` is no option")),
        }
    }
    let from = from.unwrap_or_else(|| fastrand::u64(..FRESH_BELOW));
    let seeds = from..from.saturating_add(count);
    Ok(Arguments {
        seeds,
        media,
        is_traced,
    })
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!(
        "seeds {} to {}",
        arguments.seeds.start,
        arguments.seeds.end.saturating_sub(1)
    );
    let started = now();
    let mut tally = Tally::default();
    for seed in arguments.seeds {
        let media = arguments.media.clone().unwrap_or_else(|| usual(seed));
        for medium in media {
            let trace = if arguments.is_traced { Trace::text() } else { Trace::Off };
            let config = Config {
                trace,
                ..Config::new(seed, medium)
            };
            let outcome = run(&config);
            print!("{}", outcome.trace);
            tally.add(&outcome.tally);
            if let Some((step, violation)) = &outcome.failure {
                // Assertions that break on the way to the smallest scenario are reports of the one that is told.
                std::panic::set_hook(Box::new(|_| {}));
                println!("{}", failure(&Config::new(seed, medium), *step, violation));
                return ExitCode::FAILURE;
            }
        }
    }
    let milliseconds = started.elapsed().as_millis().max(1);
    print!("{}", table(&tally));
    println!(
        "{:<18}{:>10}",
        "runs per second",
        u128::from(tally.runs) * 1_000 / milliseconds
    );
    ExitCode::SUCCESS
}

fn usual(seed: u64) -> Vec<Medium> {
    if seed.is_multiple_of(EMBEDDED_EVERY) {
        vec![Medium::Mem, Medium::Embedded]
    } else {
        vec![Medium::Mem]
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the simulator, not what it simulates")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
