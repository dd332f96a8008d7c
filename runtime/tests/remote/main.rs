//! Actors of other meshes: what a sender may rely on, over real sockets between two meshes of this process and in place
//! over a network in memory.

mod basics;
mod common;
