//! Unpredictable random bits, for ids and keys.

use crate::stop::{Result, Stop, exit};

/// 128 of them, as 32 hexadecimal digits.
pub(crate) fn digits() -> Result<String> {
    let mut bytes = [0; 16];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| {
        Stop::error(
            exit::FAILED,
            "failed",
            format!("the system has no random bits: {error}"),
        )
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
