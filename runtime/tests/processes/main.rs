//! Two processes on loopback: what arrives, what a crash of either side does to the other, what a restart restores.
//!
//! The host is this test binary again, started with an environment variable: see [`host`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod host;
mod scenario;
