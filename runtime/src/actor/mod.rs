//! Actors: what stays of one over its restarts, who restarts it, and what it can do from inside.
//!
//! - `spawn`, `expose`: how an actor comes into a mesh.
//! - `cell`: what stays of it while its instances come and go. `supervise`, `restart`: who makes the next one, and when.
//! - `drain`: what feeds it from its mailbox.
//! - `context`, `current`: what its handlers can do, and how they are known.
//! - `watcher`: how what it watches is told to it.

pub(crate) mod cell;
pub(crate) mod context;
mod current;
mod drain;
pub(crate) mod expose;
pub(crate) mod restart;
pub(crate) mod spawn;
mod supervise;
mod watcher;
