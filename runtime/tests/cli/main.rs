//! The `webmesh` command as its users meet it: real processes, their output and exit codes.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;
mod failures;
mod identity;
mod joining;
mod nodes;
mod output;
mod pinging;
mod references;
#[cfg(unix)]
mod status;
