//! A simulated network inside one process (feature `sim`): whole endpoints with real QUIC, by tokio's (paused) clock.
//!
//! Hosts have addresses, [`Link`]s between them have latency, jitter, loss, reordering, bandwidth and an MTU, and hosts
//! live behind [`Nat`]s of every kind, also behind several. Everything that chance decides follows from one seed, so
//! that a run whose endpoints are placed `InPlace` repeats itself. What there is not: TCP, hence no tunnels of TLS, and the
//! birthday attempt, which opens sockets of the kernel.

mod link;
mod nat;
mod network;
mod socket;
mod ticks;
mod wire;

pub use link::{Fate, Link};
pub use nat::{Dependence, Nat, Ports};
pub use network::{Carried, Copied, MemoryNetwork, Sent};
pub(crate) use wire::MemoryWire;
