//! Whole endpoints over the simulated network, under a paused clock: a second of theirs is none of ours.
//!
//! Times here are those of the simulated clock, the same on every machine, and may be asserted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../hostile/attacker.rs"]
#[allow(dead_code, unreachable_pub)]
mod attacker;
#[path = "../common/mod.rs"]
mod common;
mod drawn;
mod expired;
mod ipv6_only;
mod lossy;
#[path = "../../benches/roads/measure/mod.rs"]
#[allow(dead_code)]
mod measure;
mod meetings;
mod network;
mod restarts;
mod roads;
mod sessions;
mod throughput;
mod unrelayed;
mod watching;
mod world;
