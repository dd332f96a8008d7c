//! The road to a peer: is it alive, and which one is it (DESIGN.md section 5)?
//!
//! - [`liveness`]: core; when to probe, and what silence means
//! - `pulse`: the probes of one connection, and the checks that bind a new address
//! - `candidates`: which addresses of a peer to dial

pub mod candidates;
pub mod liveness;
pub mod pulse;
