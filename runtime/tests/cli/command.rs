//! The command, run to its end or in the background.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

pub(crate) fn webmesh(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webmesh"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    webmesh(args).output().unwrap()
}

pub(crate) fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The code of an object that says how a command failed.
#[track_caller]
pub(crate) fn failure_of(object: &Value) -> &str {
    assert_eq!(object["event"], "error", "{object}");
    assert!(object["message"].as_str().is_some_and(|message| !message.is_empty()), "{object}");
    object["code"].as_str().unwrap()
}

/// Its last object, which must be that.
#[track_caller]
pub(crate) fn code_of(output: &Output) -> String {
    failure_of(objects(output).last().unwrap()).to_owned()
}

pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `webmesh node` and its `ready` object; killed when dropped.
pub(crate) struct Node {
    pub(crate) process: Child,
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) ready: Value,
}

impl Node {
    pub(crate) fn start(data: &Path, listen: &str) -> Node {
        Self::start_with(data, listen, &[])
    }

    pub(crate) fn start_with(data: &Path, listen: &str, more: &[&str]) -> Node {
        let args = ["--json", "node", "--data", data.to_str().unwrap(), "--listen", listen];
        let mut command = webmesh(&args);
        command.args(more).stderr(Stdio::inherit());
        Self::read(command)
    }

    pub(crate) fn read(mut command: Command) -> Node {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap();
        Node { process, out, ready }
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.ready["listen"][0].as_str().unwrap()
    }

    /// Asks the node to end and gives its exit code.
    pub(crate) fn signal(mut self, signal: &str) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let code = self.process.wait().unwrap().code();
        let mut rest = String::new();
        self.out.read_line(&mut rest).unwrap();
        assert_eq!(rest, "", "nothing but `ready` belongs on standard output");
        code
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
