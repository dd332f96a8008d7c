//! Actors of other meshes: what a sender may rely on, over real sockets between two meshes of this process and in place
//! over a network in memory.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod asking;
mod basics;
#[allow(dead_code, reason = "not every story needs all of it")]
mod common;
mod corners;
mod failures;
mod hostile;
mod in_place;
mod large;
mod mixed;
mod older;
mod restarts;
mod watches;
