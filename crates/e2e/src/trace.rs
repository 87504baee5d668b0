//! Reads what `strace` says of a program, and checks that nothing was acknowledged before it was synced.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::Result;

/// System calls that are traced.
const CALLS: &str = "openat,write,pwrite64,fsync,fdatasync";

/// A system call on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCall {
    pub name: String,
    /// What its file descriptor stands for.
    pub file: String,
    /// Begin of what is written, as the trace shows it.
    pub text: String,
    /// Line of the trace at which it began.
    pub begun: usize,
    /// Line at which it returned.
    pub ended: Option<usize>,
    /// What it returned.
    pub result: Option<i64>,
}

/// What the check looked at. It is worth nothing unless all of it occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncOrder {
    /// Acknowledgements.
    pub acks: usize,
    /// Of those, how many came behind writes that the one before had not come behind.
    pub acks_with_writes: usize,
    /// Writes to files of the store.
    pub writes: usize,
    /// Completed syncs of them.
    pub syncs: usize,
    /// Acknowledgements before their sync, each as a line for people.
    pub violations: Vec<String>,
}

/// The command that runs a program under `strace`, with the trace in a file.
///
/// # Errors
///
/// `strace` is not there.
pub fn command(program: &Path, trace: &Path) -> Result<Command> {
    let version = Command::new("strace").arg("-V").output();
    version.map_err(|_| "strace is missing; install it: apt-get install strace")?;
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "32", "-e", &format!("trace={CALLS}"), "-o"]);
    command.arg(trace).arg(program);
    Ok(command)
}

/// Reads a trace of several threads (`-f`) with the files of descriptors (`-y`).
pub fn parse(trace: &str) -> Vec<SystemCall> {
    let mut calls: Vec<SystemCall> = Vec::new();
    let mut unfinished: BTreeMap<&str, usize> = BTreeMap::new();
    for (line, text) in trace.lines().enumerate() {
        let Some((thread, text)) = text.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        if text.starts_with("<... ") {
            let resumed = unfinished.remove(thread).and_then(|index| calls.get_mut(index));
            if let Some(call) = resumed {
                (call.ended, call.result) = (Some(line), result(text));
            }
            continue;
        }
        let Some(mut call) = begin(text, line) else { continue };
        if text.ends_with("<unfinished ...>") {
            unfinished.insert(thread, calls.len());
        } else {
            (call.ended, call.result) = (Some(line), result(text));
        }
        calls.push(call);
    }
    calls
}

/// `name(5</a/file>, "text"..., 4096, 0) = 4096`, or the beginning of it.
fn begin(text: &str, line: usize) -> Option<SystemCall> {
    let (name, args) = text.split_once('(')?;
    let (descriptor, rest) = args.split_once('<')?;
    if !descriptor.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (file, rest) = rest.split_once('>')?;
    Some(SystemCall {
        name: name.to_owned(),
        file: file.to_owned(),
        text: rest.split('"').nth(1).unwrap_or_default().to_owned(),
        begun: line,
        ended: None,
        result: None,
    })
}

fn result(text: &str) -> Option<i64> {
    let (_, result) = text.rsplit_once(" = ")?;
    result.split(' ').next()?.parse().ok()
}

impl SystemCall {
    fn is_write(&self) -> bool {
        self.name == "write" || self.name == "pwrite64"
    }

    fn is_completed_sync(&self) -> bool {
        (self.name == "fsync" || self.name == "fdatasync") && self.result == Some(0)
    }

    /// Whether the file is the store's database or its log. The index beside the log is never synced: it
    /// is made anew from the log.
    fn is_on_store(&self, folder: &str) -> bool {
        let name = self.file.strip_prefix(folder).unwrap_or_default();
        name == "/store.db" || name == "/store.db-wal"
    }

    fn is_ack(&self) -> bool {
        self.is_write() && self.text.starts_with("acked ")
    }
}

/// Checks that each acknowledgement, a line that begins with `acked`, came behind a completed sync of each
/// file of the store that began behind the last write to that file (P1). Exact only for a program that has
/// nothing else to write when it acknowledges.
pub fn order(calls: &[SystemCall], folder: &Path) -> SyncOrder {
    let folder = folder.to_string_lossy();
    let mut order = SyncOrder::default();
    let mut writes_acked = 0;
    for ack in calls.iter().filter(|call| call.is_ack()) {
        order.acks += 1;
        let before = calls
            .iter()
            .filter(|call| call.begun < ack.begun && call.is_on_store(&folder));
        let mut last_writes: BTreeMap<&str, &SystemCall> = BTreeMap::new();
        let (mut writes, mut syncs) = (0, Vec::new());
        for call in before {
            if call.is_write() {
                writes += 1;
                last_writes.insert(&call.file, call);
            } else if call.is_completed_sync() && call.ended.is_some_and(|ended| ended < ack.begun) {
                syncs.push(call);
            }
        }
        order.acks_with_writes += usize::from(writes > writes_acked);
        writes_acked = writes;
        (order.writes, order.syncs) = (writes, syncs.len());
        for (file, write) in last_writes {
            let is_behind =
                |sync: &&&SystemCall| sync.file == file && write.ended.is_some_and(|ended| ended < sync.begun);
            if !syncs.iter().any(|sync| is_behind(&sync)) {
                let (ack, line, write) = (&ack.text, ack.begun + 1, write.begun + 1);
                order.violations.push(format!(
                    "line {line}, `{ack}`: {file} was written at line {write} and not synced"
                ));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(trace: &str) -> Vec<String> {
        order(&parse(trace), Path::new("/s")).violations
    }

    #[test]
    fn calls_of_several_threads_are_put_together() {
        let calls = parse(
            "10 openat(AT_FDCWD</>, \"/s/store.db\", O_RDWR) = 5</s/store.db>\n\
             10 pwrite64(5</s/store.db-wal>, \"7\\177\"..., 24, 0) = 24\n\
             10 fdatasync(5</s/store.db-wal> <unfinished ...>\n\
             11 write(1<pipe:[3]>, \"acked 1\\n\", 8) = 8\n\
             10 <... fdatasync resumed>)          = -1 EIO (Input/output error)\n\
             11 +++ exited with 0 +++\n",
        );
        let seen: Vec<_> = calls
            .iter()
            .map(|call| (call.name.as_str(), call.begun, call.ended, call.result))
            .collect();
        let wanted = [
            ("pwrite64", 1, Some(1), Some(24)),
            ("fdatasync", 2, Some(4), Some(-1)),
            ("write", 3, Some(3), Some(8)),
        ];
        assert_eq!(seen, wanted);
        assert_eq!(
            (calls[2].file.as_str(), calls[2].text.as_str()),
            ("pipe:[3]", "acked 1\\n")
        );
    }

    #[test]
    fn a_sync_between_write_and_acknowledgement_is_in_order() {
        let trace = "1 pwrite64(5</s/store.db-wal>, \"x\", 1, 0) = 1\n\
                     1 fdatasync(5</s/store.db-wal>) = 0\n\
                     2 pwrite64(6</s/store.db-shm>, \"x\", 1, 0) = 1\n\
                     2 write(1<pipe:[3]>, \"acked 1\\n\", 8) = 8\n";
        let order = order(&parse(trace), Path::new("/s"));
        let wanted = SyncOrder {
            acks: 1,
            acks_with_writes: 1,
            writes: 1,
            syncs: 1,
            violations: Vec::new(),
        };
        assert_eq!(order, wanted);
    }

    #[test]
    fn no_sync_a_failed_one_an_open_one_and_one_of_another_file_are_found() {
        let around = |sync: &str| {
            format!(
                "1 pwrite64(5</s/store.db-wal>, \"x\", 1, 0) = 1\n{sync}2 write(1<pipe:[3]>, \"acked 1\\n\", 8) = 8\n"
            )
        };
        for sync in [
            "",
            "1 fdatasync(5</s/store.db-wal>) = -1 EIO (Input/output error)\n",
            "1 fdatasync(5</s/store.db-wal> <unfinished ...>\n",
            "1 fdatasync(6</s/store.db>) = 0\n",
            "1 fdatasync(6</else/store.db-wal>) = 0\n",
        ] {
            assert_eq!(violations(&around(sync)).len(), 1, "{sync}");
        }
    }

    #[test]
    fn a_sync_that_began_before_the_write_ended_does_not_count() {
        let trace = "1 pwrite64(5</s/store.db-wal>, \"x\", 1, 0 <unfinished ...>\n\
                     2 fdatasync(5</s/store.db-wal>) = 0\n\
                     1 <... pwrite64 resumed>) = 1\n\
                     2 write(1<pipe:[3]>, \"acked 1\\n\", 8) = 8\n";
        assert_eq!(violations(trace).len(), 1);
    }
}
