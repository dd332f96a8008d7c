//! The road to a peer: is it alive, and which one is it (docs/architecture.md)?
//!
//! - [`liveness`]: core; when to probe, and what silence means
//! - `roads`: core; which roads to a peer are proven, and which one is in use
//! - `pulse`: the probes of one connection: carries out what `roads` decides
//! - `rtt`: how long answers take on one road
//! - `acks`: what QUIC got acknowledged along the road in use
//! - `nonces`: numbers that nobody can guess
//! - `turns`: core; how neighbours get through routers that took their first probes for their own
//! - `scouts`: how a symmetric NAT is got through, with luck
//! - `candidates`: which addresses of a peer to dial
//! - `congestion`: congestion control that starts anew on another road
//! - [`explain`]: how a peer is reached, and why not better
//! - [`hints`]: where others say that it is, and whose word may lead where
//! - `places`: where else it may be dialled: its rendezvous, and tunnels where UDP is blocked

pub(crate) mod acks;
pub mod candidates;
pub(crate) mod congestion;
pub mod explain;
pub mod hints;
pub mod liveness;
pub(crate) mod nonces;
pub(crate) mod places;
pub mod pulse;
pub(crate) mod roads;
pub(crate) mod rtt;
pub(crate) mod scouts;
pub(crate) mod turns;
