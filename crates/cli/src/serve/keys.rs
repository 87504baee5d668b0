//! The keys of a server: from a file or the environment, never shown (L81, H30).

use taskhub_server::Key;

use crate::args::Serve;
use crate::stop::{Result, Stop, exit};
use crate::world::World;

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
        keys.extend(value.map(|value| make(&value)));
    }
    if keys.is_empty() {
        return Ok((keys, None));
    }
    let token = token()?;
    keys.push(Key::master(&token));
    Ok((keys, Some(token)))
}

/// A secret nobody guesses.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| Stop::error(exit::FAILED, "failed", format!("there is no randomness: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
