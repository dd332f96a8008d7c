//! Actors of other meshes: what a sender may rely on, over real sockets between two meshes of this process and in place
//! over a network in memory.

mod basics;
#[allow(dead_code)]
mod common;
