//! What changes around this host, and what an endpoint does about it.
//!
//! - `roaming`: notices that this host has moved, has another way to the internet, or has slept
//! - `port_mapping`: keeps the port that a router forwards here
//! - `nat64`: asks whether the network has a NAT64

pub(crate) mod nat64;
#[cfg(feature = "port-mapping")]
pub(crate) mod port_mapping;
pub(crate) mod roaming;
