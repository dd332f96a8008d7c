//! The road to a peer: is it alive, and which one is it (docs/architecture.md)?
//!
//! - [`liveness`]: core; when to probe, and what silence means
//! - `roads`: core; which roads to a peer are proven, and which one is in use
//! - `pulse`: the probes of one connection: carries out what `roads` decides
//! - `nonces`: numbers that nobody can guess
//! - `turns`: core; how neighbours get through routers that took their first probes for their own
//! - `candidates`: which addresses of a peer to dial
//! - [`explain`]: how a peer is reached, and why not better
//! - `kind`: the kinds of roads
//! - `origin`: whose word it is what comes along a road
//! - `order`: what a link and its probes tell the connection actor

pub mod candidates;
pub mod explain;
pub(crate) mod kind;
pub mod liveness;
pub(crate) mod nonces;
pub(crate) mod order;
pub(crate) mod origin;
pub mod pulse;
pub(crate) mod roads;
pub(crate) mod turns;

pub use crate::peer_ref::hints;
