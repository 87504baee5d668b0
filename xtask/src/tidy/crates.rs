//! Crates depend on each other in one direction only.

use super::{Finding, assert_clean, files};

/// Each folder with a package, its package name, and ours that it may depend on. Dependencies of
/// tests are free: a cycle through them is cargo's business.
const ALLOWED: [(&str, &str, &[&str]); 13] = [
    ("crates/core", "taskhub-core", &[]),
    ("crates/api", "taskhub-api", &["taskhub-core"]),
    ("crates/proto", "taskhub-proto", &["taskhub-core"]),
    ("crates/pages", "taskhub-pages", &[]),
    (
        "crates/store",
        "taskhub-store",
        &["taskhub-core", "taskhub-proto", "taskhub-pages"],
    ),
    ("crates/engine", "taskhub-engine", &["taskhub-core", "taskhub-store"]),
    (
        "crates/taskhub",
        "taskhub",
        &[
            "taskhub-api",
            "taskhub-core",
            "taskhub-engine",
            "taskhub-store",
            "taskhub-proto",
            "taskhub-server",
        ],
    ),
    ("samples", "taskhub-samples", &["taskhub"]),
    (
        "crates/server",
        "taskhub-server",
        &[
            "taskhub-api",
            "taskhub-core",
            "taskhub-engine",
            "taskhub-store",
            "taskhub-proto",
        ],
    ),
    (
        "crates/cli",
        "taskhub-cli",
        &[
            "taskhub-api",
            "taskhub-server",
            "taskhub-engine",
            "taskhub-core",
            "taskhub",
            "taskhub-samples",
            "taskhub-store",
        ],
    ),
    (
        "crates/sim",
        "taskhub-sim",
        &["taskhub-core", "taskhub-engine", "taskhub-store", "taskhub"],
    ),
    (
        "crates/e2e",
        "taskhub-e2e",
        &["taskhub-core", "taskhub-store", "taskhub", "taskhub-server"],
    ),
    ("xtask", "xtask", &[]),
];

fn check(path: &str, manifest: &str) -> Vec<Finding> {
    let folder = path.trim_end_matches("/Cargo.toml");
    let Some((_, _, allowed)) = ALLOWED.iter().find(|(known, _, _)| *known == folder) else {
        let what = "a package that tidy does not know; a new crate needs a decision record";
        return vec![Finding::of(path, what)];
    };
    let ours = |name: &str| ALLOWED.iter().any(|(_, package, _)| *package == name);
    let wrong = dependencies(manifest)
        .into_iter()
        .filter(|name| ours(name) && !allowed.contains(name));
    wrong
        .map(|name| Finding::of(path, format!("may not depend on `{name}`")))
        .collect()
}

/// The names in `[dependencies]`, in either notation. Other tables are left alone.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut in_table = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            in_table = table == "dependencies";
            names.extend(table.strip_prefix("dependencies."));
        } else if in_table && !line.starts_with('#') {
            let end = line.find(['.', '=', ' ']).unwrap_or(0);
            names.extend(line.get(..end).filter(|name| !name.is_empty()));
        }
    }
    names
}

#[test]
fn a_dependency_against_the_direction_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\nbytes = \"1\"\ntaskhub-engine.workspace = true\n\
                    [dependencies.taskhub-core]\npath = \"x\"\n[dev-dependencies]\ntaskhub.workspace = true\n";
    assert_eq!(dependencies(manifest), ["bytes", "taskhub-engine", "taskhub-core"]);
    let path = "crates/store/Cargo.toml";
    assert_eq!(
        check(path, manifest),
        [Finding::of(path, "may not depend on `taskhub-engine`")]
    );
    assert_eq!(check("crates/sim/Cargo.toml", manifest), []);
}

#[test]
fn an_unknown_package_is_found() {
    assert_eq!(check("crates/utils/Cargo.toml", "").len(), 1);
}

#[test]
fn dependencies_point_one_way() {
    let manifests = files().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    let checked = manifests.filter_map(|file| Some(check(&file.path, file.text.as_deref()?)));
    assert_clean(checked.flatten().collect());
}
