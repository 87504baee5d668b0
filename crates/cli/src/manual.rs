//! What is made of the definition of the commands besides parsing: completions and manual pages (L76, L77).

use std::path::Path;
use std::{fs, io};

use clap_complete::Shell;
use clap_mangen::Man;

use crate::parse::tree;
use crate::report;
use crate::stop::{Stop, exit};
use crate::world::World;
use crate::{Ended, version_line};

/// The help of one of the commands.
pub(crate) fn page(program: &str, command: &str) -> String {
    let mut tree = tree(program);
    let command = tree.find_subcommand_mut(command);
    command.map_or_else(String::new, |command| command.render_help().to_string())
}

/// The script with which a shell completes the program's words.
pub(crate) fn completions(shell: Shell, program: &str) -> report::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(program), program, &mut script);
    Ok(String::from_utf8(script)?)
}

/// `taskhub man`: the main page, or all pages in a folder.
pub(crate) fn run(dir: Option<&Path>, world: &World) -> Result<String, Box<Ended>> {
    let tree = tree(&world.program());
    let Some(dir) = dir else {
        let mut page = Vec::new();
        of(&tree).render(&mut page).map_err(Stop::from)?;
        return Ok(String::from_utf8_lossy(&page).into_owned());
    };
    let dir = world.path(dir);
    let written = fs::create_dir_all(&dir).and_then(|()| write_all(&tree, &dir));
    written.map_err(|error| {
        let message = format!("cannot write the manual pages to {}: {error}", dir.display());
        Stop::error(exit::FAILED, "output-failed", message)
    })?;
    Ok(String::new())
}

fn of(command: &clap::Command) -> Man {
    Man::new(command.clone()).source(version_line().trim_end())
}

/// Writes the page of a command and of all below it.
fn write_all(command: &clap::Command, dir: &Path) -> io::Result<()> {
    for inner in command.get_subcommands() {
        write_all(inner, dir)?;
    }
    of(command).generate_to(dir).map(|_| ())
}
