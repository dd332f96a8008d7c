//! What the runtime promises within one mesh; docs/guarantees.md has the list.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod actors;
mod embedding;
mod inside;
mod last_panics;
mod ordering;
mod panics;
mod placement;
mod publishing;
mod refs;
mod restarts;
mod silence;
mod spy;
mod stopping;
mod watching;
