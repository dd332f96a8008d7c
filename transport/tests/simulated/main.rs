//! Whole endpoints over the simulated network, under a paused clock: a second of theirs is none of ours.
//!
//! Times here are those of the simulated clock, the same on every machine, and may be asserted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod ipv6_only;
mod meetings;
mod restarts;
mod roads;
mod throughput;
mod world;
