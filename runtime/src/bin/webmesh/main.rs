//! The `webmesh` command: a small daemon and the tools around it.
//!
//! One file a subcommand: [`id`], [`node`], [`status`], [`ping`], [`explain`], [`inspect`]; [`joining`] has the options that they share, [`output`] prints for people or, with `--json`, for
//! programs (one object a line on standard output), [`failure`] has the codes of what can go wrong. Logs go to standard error, filtered by `RUST_LOG`.
//! docs/cli.md has all of it.

mod explain;
mod failure;
mod id;
mod inspect;
mod joining;
mod node;
mod output;
mod ping;
mod status;

use clap::{Parser, Subcommand};
use failure::{Code, Failure};
use joining::BadReference;
use output::Output;
use std::{io::IsTerminal, path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;
use webmesh::shortage;

/// Distributed actors on the public internet: node and tools.
#[derive(Parser)]
#[command(name = "webmesh", version, propagate_version = true)]
struct Cli {
    /// Print one JSON object a line on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the identity of this host, creating it on first use.
    Id(id::Args),
    /// Run a node until SIGINT, SIGTERM or SIGHUP.
    Node(node::Args),
    /// Ask the node that runs with a data directory what it does.
    Status(status::Args),
    /// Measure the round trip to a peer.
    ///
    /// Pings leave at the interval, whatever comes back: several may be under way, and each is given up after --timeout. A summary
    /// follows the last, also on SIGINT: loss in percent; the least, median, 95th percentile and longest round trip of those that
    /// were answered; and how often the road in use changed from the first reply to the last, other than for the first direct
    /// road after a relay.
    Ping(ping::Args),
    /// Explain how a peer is reached, and why not better.
    Explain(explain::Args),
    /// Verify a PeerRef and explain it.
    Inspect(inspect::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(error),
    };
    tracing_subscriber::fmt()
        .with_env_filter(log_filter())
        .with_writer(std::io::stderr)
        // Colours in a file are rubbish.
        .with_ansi(std::io::stderr().is_terminal())
        // Of a log that can't be written nobody can be told; least of all by a panic.
        .log_internal_errors(false)
        .init();
    let output = Output::new(cli.json);
    let result = match cli.command {
        Command::Id(args) => id::run(&args, &output),
        Command::Node(args) => on_runtime(node::run(&args, &output)),
        Command::Status(args) => on_runtime(status::run(&args, &output)),
        Command::Ping(args) => on_runtime(ping::run(&args, &output)),
        Command::Explain(args) => on_runtime(explain::run(&args, &output)),
        Command::Inspect(args) => inspect::run(&args, &output),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            output.fail(&failure);
            failure.exit_code()
        }
    }
}

/// The command line isn't one of this program's, or asks for help.
fn misused(error: clap::Error) -> ExitCode {
    // To standard error, or to standard output where help was asked for.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let malformed =
        std::error::Error::source(&error).is_some_and(|source| source.is::<BadReference>());
    let code = if malformed { Code::BadReference } else { Code::Usage };
    let options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    let json = { options }.any(|argument| argument == "--json");
    // What is wrong, without the hints how to use the program.
    let text = error.to_string();
    let problem: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let problem = problem.join(" ");
    let failure = Failure::new(code, problem.strip_prefix("error: ").unwrap_or(&problem));
    Output::new(json).object_of(code, &failure.to_string());
    failure.exit_code()
}

/// What `RUST_LOG` says; warnings if it says nothing.
fn log_filter() -> EnvFilter {
    let default = || EnvFilter::new("warn");
    let Some(text) = std::env::var_os("RUST_LOG").filter(|text| !text.is_empty()) else {
        return default();
    };
    let text = text.to_string_lossy();
    EnvFilter::try_new(&text).unwrap_or_else(|error| {
        output::complain(format_args!("RUST_LOG={text} is ignored: {error}"));
        default()
    })
}

fn on_runtime(
    future: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    let lacking = |error| Failure::new(Code::Resources, shortage::with_remedy(&error));
    let runtime = shortage::runtime().map_err(lacking)?;
    runtime.block_on(future)
}

/// Where a host keeps its identity.
#[derive(clap::Args)]
struct DataDir {
    /// The directory of this host's identity [default: $XDG_DATA_HOME/webmesh or ~/.local/share/webmesh].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataDir {
    /// The directory, or an error where neither the option nor the environment names one.
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.data {
            return Ok(dir.clone());
        }
        let set = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let base =
            set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        base.map(|base| base.join("webmesh")).ok_or_else(|| {
            Failure::new(
                Code::NoDataDir,
                "neither HOME nor XDG_DATA_HOME is set: name a directory by --data DIR",
            )
        })
    }
}
