//! Two processes on loopback: what arrives, what a crash of either side does to the other, what a restart restores.
//!
//! The other processes are this test binary again, started with an environment variable: see [`host`] and [`teller`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod host;
mod leaving;
mod scenario;
mod teller;
