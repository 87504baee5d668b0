//! The program in the README, run as it stands there. It opens a folder where it is started, so this test has a
//! process of its own, which goes to a folder of its own.

#![expect(
    clippy::print_stdout,
    clippy::ignored_unit_patterns,
    reason = "the program is for people who read the README"
)]

mod program {
    include!("program.rs");

    pub(crate) fn run() -> Result<()> {
        main()
    }
}

#[test]
fn the_program_of_the_readme_runs() {
    let (readme, program) = (include_str!("../../../../README.md"), include_str!("program.rs"));
    let shown = format!("```rust,no_run\n{program}```\n");
    assert!(
        readme.contains(&shown),
        "the README shows another program than `program.rs`"
    );

    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    program::run().unwrap();
    assert!(folder.path().join("sample-hub/store.db").exists());
}
