//! Random numbers and random JSON texts, for what must come back as it was given.

use std::fmt::Write as _;

use fastrand::Rng;

/// A generator, with its seed printed: the environment variable `SEED` repeats a run.
pub(crate) fn random() -> Rng {
    #[expect(clippy::disallowed_methods, reason = "the seed of a run that failed is given so")]
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    #[expect(clippy::print_stdout, reason = "a test that fails shows it")]
    {
        println!("SEED={seed}");
    }
    Rng::with_seed(seed)
}

/// A double of any bit pattern but those that are no number.
pub(crate) fn double(rng: &mut Rng) -> f64 {
    const ODD: [f64; 12] = [
        117.633_313_394_000_17,
        -0.0,
        0.0,
        5e-324,
        -2.225_073_858_507_201e-308,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        9_007_199_254_740_993.0,
        0.1,
        1e23,
    ];
    if rng.u8(..) < 8 {
        return ODD[rng.usize(..ODD.len())];
    }
    loop {
        let number = match rng.u8(..4) {
            0 => rng.f64() * 1_000.0,
            _ => f64::from_bits(rng.u64(..)),
        };
        if number.is_finite() {
            return number;
        }
    }
}

/// A JSON text, without white space around it.
pub(crate) fn document(rng: &mut Rng) -> String {
    let mut text = String::new();
    value(rng, 3, &mut text);
    text
}

fn value(rng: &mut Rng, depth: u32, out: &mut String) {
    match rng.u8(..if depth == 0 { 6 } else { 10 }) {
        0 => out.push_str(["null", "true", "false"][rng.usize(..3)]),
        1 => write!(out, "{}", double(rng)).unwrap(),
        2 | 3 => number(rng, out),
        4 | 5 => string(rng, out),
        6 | 7 => list(rng, ['[', ']'], out, |rng, out| value(rng, depth - 1, out)),
        _ => list(rng, ['{', '}'], out, |rng, out| {
            string(rng, out);
            blank(rng, out);
            out.push(':');
            blank(rng, out);
            value(rng, depth - 1, out);
        }),
    }
}

fn list(rng: &mut Rng, [open, close]: [char; 2], out: &mut String, part: impl Fn(&mut Rng, &mut String)) {
    out.push(open);
    blank(rng, out);
    for index in 0..rng.u8(..5) {
        if index > 0 {
            out.push(',');
            blank(rng, out);
        }
        part(rng, out);
        blank(rng, out);
    }
    out.push(close);
}

/// A number in any of the forms JSON has, longer than any type holds.
fn number(rng: &mut Rng, out: &mut String) {
    if rng.bool() {
        out.push('-');
    }
    if rng.u8(..4) == 0 {
        out.push('0');
    } else {
        out.push(rng.char('1'..='9'));
        digits(rng, out);
    }
    if rng.bool() {
        out.push('.');
        out.push(rng.char('0'..='9'));
        digits(rng, out);
    }
    if rng.u8(..4) == 0 {
        out.push(*rng.choice(&['e', 'E']).unwrap());
        out.push_str(rng.choice(["", "+", "-"]).unwrap());
        write!(out, "{}", rng.u16(..300)).unwrap();
    }
}

fn digits(rng: &mut Rng, out: &mut String) {
    for _ in 0..rng.u8(..40) {
        out.push(rng.char('0'..='9'));
    }
}

fn string(rng: &mut Rng, out: &mut String) {
    out.push('"');
    for _ in 0..rng.u8(..8) {
        match rng.u8(..8) {
            0 => out.push_str(
                rng.choice(["\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\ud83d\\ude00", "\\u0000"])
                    .unwrap(),
            ),
            1 => out.push(
                *rng.choice(&['é', 'ß', '状', '😀', '\u{2028}', '\u{feff}', '/'])
                    .unwrap(),
            ),
            _ => out.push(rng.alphanumeric()),
        }
    }
    out.push('"');
}

fn blank(rng: &mut Rng, out: &mut String) {
    for _ in 0..rng.u8(..3).saturating_sub(1) {
        out.push(*rng.choice(&[' ', '\t', '\n', '\r']).unwrap());
    }
}
