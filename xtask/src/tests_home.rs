//! The environment the tests run in: a home folder of their own.
//!
//! Tests must pass for any user, and must neither read that user's settings nor leave files behind.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use crate::tree;

type Variable = (OsString, OsString);

/// Makes empty folders below the target folder and returns the variables that point at them.
pub(crate) fn fresh() -> io::Result<Vec<Variable>> {
    let base = tree::target().join("test-home");
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    let (home, runtime, temporary) = (base.join("home"), base.join("run"), base.join("tmp"));
    for folder in [&home, &runtime, &temporary] {
        fs::create_dir_all(folder)?;
    }
    keep_private(&runtime)?;
    let old_home = env::home_dir();
    let toolchain = toolchain_homes(old_home.as_deref(), |name| env::var_os(name).is_some());
    let own = [
        ("HOME", home.as_path()),
        ("XDG_RUNTIME_DIR", runtime.as_path()),
        ("TMPDIR", temporary.as_path()),
    ];
    let settings = ["CONFIG", "DATA", "STATE", "CACHE"].map(|kind| {
        (
            OsString::from(format!("XDG_{kind}_HOME")),
            home.join(kind).into_os_string(),
        )
    });
    let own = own.map(|(name, path)| (name.into(), path.into()));
    Ok(own.into_iter().chain(settings).chain(toolchain).collect())
}

/// Cargo and rustup look below HOME by default, and HOME is about to change.
fn toolchain_homes(old_home: Option<&Path>, is_set: impl Fn(&str) -> bool) -> Vec<Variable> {
    let Some(old_home) = old_home else {
        return Vec::new();
    };
    [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")]
        .into_iter()
        .filter(|(name, _)| !is_set(name))
        .map(|(name, folder)| (name.into(), old_home.join(folder).into()))
        .collect()
}

#[cfg(unix)]
fn keep_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn keep_private(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unset_toolchain_homes_are_derived_from_the_old_home() {
        let found = toolchain_homes(Some(Path::new("/u")), |name| name == "CARGO_HOME");
        assert_eq!(found, [("RUSTUP_HOME".into(), Path::new("/u").join(".rustup").into())]);
    }

    #[test]
    fn without_an_old_home_nothing_is_derived() {
        assert_eq!(toolchain_homes(None, |_| false), []);
    }
}
