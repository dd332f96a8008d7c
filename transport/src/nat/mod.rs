//! What the NAT in front of this host is (docs/wire-transport.md has the form in which peers tell it).
//!
//! Cores without IO, time and input are arguments; but for `port_mapping`, which asks the router, and `resolver`, which asks
//! the name server. `surroundings` has them asked.

pub(crate) mod birthday;
mod class;
pub mod classify;
pub(crate) mod nat64;
#[cfg(feature = "port-mapping")]
pub(crate) mod port_mapping;
pub(crate) mod resolver;

pub use class::{CLASS_BYTES, ClassError, Mapping, NatClass, Ports, Reachability};
#[cfg(feature = "port-mapping")]
pub use port_mapping::Router;
pub use resolver::{Resolved, Resolver, SystemResolver};
