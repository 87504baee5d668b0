//! The keys of a server: from a file or the environment, never shown (L81, H30).

use taskhub_server::Key;

use crate::args::Serve;
use crate::random::digits;
use crate::stop::Result;
use crate::world::World;

/// A key that has fewer is warned about.
const CHARS_MIN: usize = 16;

/// The keys, and the token that commands of this user present, which is a master key of this process alone.
pub(super) fn read(args: &Serve, world: &World) -> Result<(Vec<Key>, Option<String>)> {
    let mut keys = Vec::new();
    for (path, variable, make) in [
        (&args.key_file, "TASKHUB_KEY", Key::system as fn(&str) -> Key),
        (&args.master_key_file, "TASKHUB_MASTER_KEY", Key::master),
    ] {
        let value = match path {
            Some(path) => Some(crate::durable::key_of_file(&world.folder.join(path))?),
            None => world.filled(variable).map(str::to_owned),
        };
        if let Some(value) = &value {
            doubt(value, path.as_ref().map_or(variable, |_| "the file"));
        }
        keys.extend(value.map(|value| make(&value)));
    }
    if keys.is_empty() {
        return Ok((keys, None));
    }
    let token = digits()?;
    keys.push(Key::master(&token));
    Ok((keys, Some(token)))
}

/// Tells what is probably not meant of a key, which is not shown.
fn doubt(key: &str, origin: &str) {
    let chars = key.chars().count();
    if chars < CHARS_MIN {
        tracing::warn!(
            chars,
            "the key of {origin} is short and soon guessed; take {CHARS_MIN} random characters or more"
        );
    }
    if key.trim() != key {
        tracing::warn!("the key of {origin} begins or ends with a blank, which belongs to it");
    }
}
