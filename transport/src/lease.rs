//! A connection's share in the socket's table of handles: it goes when the connection goes.

use std::{net::SocketAddr, sync::Arc};

use crate::socket::{cid::Cid, mesh_socket::MeshSocket};

/// Keeps a connection id matched to its handle until dropped.
pub(crate) struct Lease {
    socket: Arc<MeshSocket>,
    cid: Cid,
    handle: SocketAddr,
}

impl Lease {
    /// Matches `cid` to `handle`; `local` is the address of ours that a literal handle answers from.
    pub(crate) fn new(
        socket: &Arc<MeshSocket>,
        cid: Cid,
        handle: SocketAddr,
        local: Option<std::net::IpAddr>,
    ) -> Self {
        socket.handles().attach(cid, handle, local);
        Self { socket: socket.clone(), cid, handle }
    }

    /// The handshake is complete: the address it came from is the peer's.
    pub(crate) fn settle(&self) {
        self.socket.handles().settle(&self.cid);
    }

    pub(crate) fn handle(&self) -> SocketAddr {
        self.handle
    }

    pub(crate) fn socket(&self) -> &Arc<MeshSocket> {
        &self.socket
    }

    /// The peer's address on the road in use.
    pub(crate) fn via(&self) -> SocketAddr {
        let road = self.socket.handles().active(self.handle);
        road.map_or(self.handle, |road| road.remote)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.socket.handles().release(&self.cid);
    }
}
