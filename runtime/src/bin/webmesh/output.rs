//! Printing for people or for programs.

use crate::failure::{Code, Failure};
use serde_json::{Value, json};
use std::{
    fmt::Display,
    io::{ErrorKind, Write},
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
            _ => Failure::new(
                Code::Output,
                format_args!("standard output can't be written: {error}"),
            ),
        })
    }

    /// Says how the command failed: on standard error, and as an object with `--json`.
    pub(crate) fn fail(&self, failure: &Failure) {
        if let Failure::Failed { code, .. } = failure {
            complain(failure);
            self.object_of(*code, &failure.to_string());
        }
    }

    /// The object of a failure that standard error has been told of.
    pub(crate) fn object_of(&self, code: Code, message: &str) {
        if self.json {
            // Where that can't be written, the exit code still tells.
            let object = json!({ "event": "error", "code": code.name(), "message": message });
            let _ = self.print(object, "");
        }
    }
}

/// Says on standard error what is wrong. Where that can't be written (a full disk, a pipe whose reader has gone) the exit
/// code still tells; `eprintln!` would panic.
pub(crate) fn complain(problem: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "webmesh: {problem}");
}
