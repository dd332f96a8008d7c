//! The processes of a benchmark: this very program, started again as server, client or busy loop.

use crate::{busy, report::Case};
use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdout, Command, Stdio},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Server,
    Client,
    Busy,
    Flood,
}

/// What a started process is to do.
pub(crate) struct Task {
    pub(crate) role: Role,
    pub(crate) system: String,
    pub(crate) workload: String,
    /// Where the server is: what it printed first.
    pub(crate) address: Option<String>,
}

impl Task {
    /// The task in this process's arguments, if it is a child of the benchmark.
    pub(crate) fn from_args() -> Option<Task> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let role = match args.first()?.as_str() {
            "as-server" => Role::Server,
            "as-client" => Role::Client,
            "as-busy" => Role::Busy,
            "as-flood" => Role::Flood,
            _ => return None,
        };
        Some(Task {
            role,
            system: args[1].clone(),
            workload: args[2].clone(),
            address: args.get(3).cloned(),
        })
    }

    fn words(&self) -> Vec<String> {
        let role = match self.role {
            Role::Server => "as-server",
            Role::Client => "as-client",
            Role::Busy => "as-busy",
            Role::Flood => "as-flood",
        };
        let mut words = vec![role.to_owned(), self.system.clone(), self.workload.clone()];
        words.extend(self.address.clone());
        words
    }
}

/// A started process; dropping it closes its standard input, which ends it, and waits.
pub(crate) struct Child {
    process: std::process::Child,
    out: BufReader<ChildStdout>,
}

impl Child {
    pub(crate) fn spawn(task: &Task) -> Child {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(task.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Child { process, out }
    }

    /// The next line that the process prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the process ended without its answer");
        line.trim_end().to_owned()
    }

    /// Sends the process a line on its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Blocks until the parent has closed this process's standard input.
pub(crate) fn wait_for_parent() {
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {
        line.clear();
    }
}

/// One figure: a fresh server, a fresh client, and what was measured.
fn figure(system: &str, workload: &str) -> f64 {
    let task =
        |role, address| Task { role, system: system.into(), workload: workload.into(), address };
    let mut server = Child::spawn(&task(Role::Server, None));
    let address = server.line();
    let mut client = Child::spawn(&task(Role::Client, Some(address)));
    if workload == "idle" {
        // The client says how many connections stand; the server then prints its bytes for each.
        let count = client.line();
        server.tell(&count);
        return server.line().parse().unwrap();
    }
    client.line().parse().unwrap()
}

/// The pairs (webmesh, reference) of `rounds` interleaved rounds, whose order alternates.
pub(crate) fn rounds(case: &Case, rounds: usize) -> Vec<(f64, f64)> {
    let _awake = case.quiet_cpu.then(busy::keep_cpus_awake);
    (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let reference = figure(case.reference, case.workload);
                (figure(case.webmesh, case.workload), reference)
            } else {
                let webmesh = figure(case.webmesh, case.workload);
                (webmesh, figure(case.reference, case.workload))
            }
        })
        .collect()
}

/// Resident memory of this process in bytes, after handing free heap back is given a moment.
pub(crate) fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}
