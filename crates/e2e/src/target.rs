//! The command line of `kill-target`.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;

/// Its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Folder of the store.
    pub folder: PathBuf,
    /// A file with the numbers of the jobs to start, a line each; none without it.
    pub starts: Option<PathBuf>,
    /// Starts that wait for an answer at once, each in a task of its own; as many make a wave.
    pub wave: usize,
    /// How many waves an activity lasts.
    pub step_waves: u64,
    /// A file until which activities do not end, but the first of each job.
    pub hold: Option<PathBuf>,
    /// Activities that run at once.
    pub activities_max: usize,
    /// The time that running activities get when the program is asked to stop.
    pub grace_ms: u64,
    /// Whether starts, events and waits go over HTTP to a server in front of the hub.
    pub over_http: bool,
    /// Commits in two groups what belongs in one, to see that the checker notices.
    pub split_commits: bool,
}

impl Target {
    /// With nothing to start.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            starts: None,
            wave: 1,
            step_waves: 0,
            hold: None,
            // More than all jobs together can have, so that no call waits for another's end.
            activities_max: 100_000,
            grace_ms: 120_000,
            over_http: false,
            split_commits: false,
        }
    }

    /// The command that runs the program so.
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        command.arg("--folder").arg(&self.folder);
        if let Some(starts) = &self.starts {
            command.arg("--starts").arg(starts);
        }
        if let Some(hold) = &self.hold {
            command.arg("--hold").arg(hold);
        }
        command.arg("--wave").arg(self.wave.to_string());
        command.arg("--activities-max").arg(self.activities_max.to_string());
        for (name, value) in [("--step-waves", self.step_waves), ("--grace-ms", self.grace_ms)] {
            command.arg(name).arg(value.to_string());
        }
        if self.over_http {
            command.arg("--over-http");
        }
        if self.split_commits {
            command.arg("--split-commits");
        }
        command
    }

    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// An option that is unknown, lacks its value, or is not a number where one is expected.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut target = Self::new(PathBuf::new());
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            if name == "--over-http" {
                target.over_http = true;
                continue;
            }
            if name == "--split-commits" {
                target.split_commits = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--folder" => target.folder = value.into(),
                "--starts" => target.starts = Some(value.into()),
                "--hold" => target.hold = Some(value.into()),
                "--wave" => target.wave = value.parse()?,
                "--activities-max" => target.activities_max = value.parse()?,
                "--step-waves" => target.step_waves = value.parse()?,
                "--grace-ms" => target.grace_ms = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if target.folder.as_os_str().is_empty() {
            return Err("--folder is missing".into());
        }
        Ok(target)
    }

    /// The jobs to start.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds something else than numbers.
    pub fn jobs(&self) -> Result<Vec<u32>> {
        let Some(starts) = &self.starts else {
            return Ok(Vec::new());
        };
        let text = std::fs::read_to_string(starts)?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_is_what_is_read() {
        let mut target = Target::new("a folder".into());
        (target.starts, target.hold) = (Some("a file".into()), Some("another".into()));
        (target.wave, target.step_waves, target.split_commits, target.over_http) = (7, 8, true, true);
        let command = target.command("program".as_ref());
        let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
        assert_eq!(Target::parse(args).unwrap(), target);
        for wrong in [&["--wave"][..], &["--wave", "x"], &["--else", "1"], &[]] {
            assert!(Target::parse(wrong.iter().map(|&word| word.to_owned())).is_err());
        }
    }
}
