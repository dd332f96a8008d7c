//! Printing for people or for programs, and how a command fails.

use serde_json::Value;
use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    process::ExitCode,
};

/// Prints text, or JSON objects, one a line and flushed at once.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints `object` with `--json`, else `text`.
    pub(crate) fn print(&self, object: Value, text: impl Display) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = if self.json { writeln!(out, "{object}") } else { writeln!(out, "{text}") };
        written.and_then(|()| out.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::failed(format_args!("standard output can't be written: {error}")),
        })
    }
}

/// Says on standard error what is wrong. Where that can't be written (a full disk, a pipe whose reader has gone) the exit
/// code still tells; `eprintln!` would panic.
pub(crate) fn complain(problem: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "webmesh: {problem}");
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was called wrongly, or its input is malformed: exit code 2.
    Usage(String),
    /// It was called rightly, and failed: exit code 1.
    Failed(String),
    /// Whoever reads its output has had enough, as `head` does: exit code 0.
    Unread,
}

impl Failure {
    pub(crate) fn usage(problem: impl Display) -> Self {
        Failure::Usage(problem.to_string())
    }

    pub(crate) fn failed(problem: impl Display) -> Self {
        Failure::Failed(problem.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Failed(_) => ExitCode::FAILURE,
            Failure::Unread => ExitCode::SUCCESS,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Usage(problem) | Failure::Failed(problem) => f.write_str(problem),
            Failure::Unread => f.write_str("nobody reads standard output"),
        }
    }
}
