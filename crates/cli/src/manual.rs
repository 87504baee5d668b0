//! What is made of the definition of the commands besides parsing: pages and completions (L76, L77).

use clap_complete::Shell;

use crate::parse::tree;
use crate::report;

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
