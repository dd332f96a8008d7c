//! A connection's share in the socket's table of handles: it goes when the connection goes.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    path::nonces::Nonces,
    quic::cid::{CID_LEN, Cid},
    socket::mesh_socket::MeshSocket,
    wire::road::Road,
};

/// Longer than the shortest stateless reset, which must be shorter than what draws it (RFC 9000,
/// section 10.3).
const PROVOCATION_BYTES: usize = 64;

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

    /// Keeps (or forgets) the last datagrams sent, to be repeated by [`Lease::repeat`].
    pub(crate) fn keep_echo(&self, keep: bool) {
        self.socket.handles().keep_echo(self.handle, keep);
    }

    /// Sends a packet that only looks like one of the connection's. A peer that has the connection drops
    /// it; one that restarted answers with a stateless reset, by which QUIC here knows.
    pub(crate) fn provoke(&self, nonces: &mut Nonces) {
        let known = self.socket.handles().peer_cid(self.handle);
        if let Some((road, cid)) = known {
            let mut packet = [0; PROVOCATION_BYTES];
            for bytes in packet.chunks_exact_mut(8) {
                bytes.copy_from_slice(&nonces.next().to_le_bytes());
            }
            packet[0] = 0x40 | (packet[0] & 0x3f);
            packet[1..=CID_LEN].copy_from_slice(&cid);
            self.socket.send_frame(road, &packet);
        }
    }

    /// Sends the last datagrams once more. A peer that missed them acknowledges them, which ends QUIC's
    /// back-off where its congestion window lets no new packet out.
    pub(crate) fn repeat(&self) {
        let echo = self.socket.handles().echo(self.handle);
        if let Some((road, datagrams)) = echo {
            for datagram in datagrams {
                self.socket.send_frame(road, &datagram);
            }
        }
    }

    /// The road in use.
    pub(crate) fn road(&self) -> Option<Road> {
        self.socket.handles().active(self.handle)
    }

    /// The peer's address on the road in use, or that of the relay; of a tunnel, where it leads.
    pub(crate) fn via(&self) -> SocketAddr {
        let Some(road) = self.road() else { return self.handle };
        let tunnels = self.socket.tunnels().map(|(_, tunnels)| tunnels);
        tunnels.and_then(|tunnels| tunnels.remote(road.remote)).unwrap_or(road.remote)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.socket.handles().release(&self.cid);
    }
}
