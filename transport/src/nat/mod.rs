//! What the NAT in front of this host is (docs/wire-transport.md has the form in which peers tell it).
//!
//! A core without IO: time and input are arguments.

pub(crate) mod birthday;
mod class;
pub mod classify;

pub use class::{CLASS_BYTES, ClassError, Mapping, NatClass, Ports, Reachability};
