//! Into namespaces of our own, as root or as anybody: user (if not root), network, mount and process namespace.
//!
//! The process namespace is what cleans up: however this binary ends, the kernel kills whatever it left.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

/// Set for the process inside.
const INSIDE: &str = "WEBMESH_LABORATORY_INSIDE";

/// The first argument of a process that shall tell whether a laboratory can be built where it runs.
pub(crate) const PROBE: &str = "probe";

/// Becomes the process inside (returning only there), or says why this machine cannot have a laboratory.
pub(crate) fn enter() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let root = command("id", &["-u"])?.trim() == "0";
    let probe = outside(root)?.arg(PROBE).stdin(Stdio::null()).output();
    let probe = probe.map_err(|error| format!("unshare: {error}"))?;
    if !probe.status.success() {
        return Err(String::from_utf8_lossy(&probe.stderr).trim().to_owned());
    }
    let error = outside(root)?.env(INSIDE, "1").args(std::env::args_os().skip(1)).exec();
    Err(format!("unshare: {error}"))
}

/// This binary, to be run in namespaces of its own.
fn outside(root: bool) -> Result<Command, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("unshare");
    command.env("PATH", search_path());
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(this);
    Ok(command)
}

/// Tries everything that the laboratory is made of once.
pub(crate) fn probe() -> Result<(), String> {
    command("ip", &["link", "add", "bridge", "type", "bridge"])?;
    command("ip", &["link", "add", "here", "type", "veth", "peer", "name", "there"])?;
    command("nft", &["add table ip nat"])?;
    command("nft", &["add chain ip nat out { type nat hook postrouting priority srcnat; }"])?;
    command("nft", &["add rule ip nat out masquerade fully-random"])?;
    command("nft", &["add rule ip nat out numgen random mod 100 < 1 drop"])?;
    command("nsenter", &["-t", "1", "-n", "true"])?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        .map_err(|error| format!("ip_forward: {error}"))
}

fn command(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .env("PATH", search_path())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Where the tools are also for those whose own path lacks the administrator's directories.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default())
}
