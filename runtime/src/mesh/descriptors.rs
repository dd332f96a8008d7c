//! What a mesh may take of the operating system.

use super::Mesh;
use webmesh_transport::shortage::{RUNTIME_DESCRIPTORS, descriptors_max};

/// Descriptors of a program around a mesh: its standard streams, its own runtime with signals, the locks of its key. A guess for others than the
/// command `webmesh`.
const PROGRAM: u64 = 16;

/// File descriptors: how many a mesh may need, and how many its process may have. By [`Mesh::descriptors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// So many may be open at a time: sockets, tunnels of others if this mesh takes them (by far the most), threads, and a few for the program
    /// around it.
    pub needed: u64,
    /// So many may this process have open (`ulimit -n`); `None`: any number, or the system doesn't say.
    pub limit: Option<u64>,
}

impl Descriptors {
    /// Whether the limit is lower than what may be needed. The mesh goes on at its limit: tunnels of others aren't taken then, and the log says so.
    pub fn are_short(&self) -> bool {
        self.limit.is_some_and(|limit| limit < self.needed)
    }
}

impl Mesh {
    /// How many file descriptors this mesh may need, and how many its process may have.
    pub fn descriptors(&self) -> Descriptors {
        let threads = 1 + std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let needed = self.inner().endpoint.descriptors_max() + threads * RUNTIME_DESCRIPTORS;
        Descriptors { needed: needed + PROGRAM, limit: descriptors_max() }
    }
}
