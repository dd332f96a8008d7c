//! What docs/guarantees.md promises and is not shown elsewhere: mostly two or three meshes in place under a paused clock,
//! over a network in memory that loses, delays and parts.

#![allow(clippy::unwrap_used)]

#[path = "../local/actors.rs"]
#[allow(dead_code)]
mod actors;
mod cancelling;
mod elsewhere;
mod ending;
mod hoarding;
mod hostile_refs;
mod lanes;
mod losses;
mod order;
mod outages;
mod page;
mod panics;
mod patient;
mod refs;
mod repeat;
mod replies;
mod rights;
#[path = "../local/silence.rs"]
mod silence;
mod sizes;
#[path = "../local/spy.rs"]
mod spy;
mod strangers;
mod successors;
mod versions;
mod world;
