//! How the socket forwards what a relay is to pass on.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};

use super::mesh_socket::{MeshSocket, Wire, count};
use crate::{
    relay::forwarder::{self, Forward, Forwarder},
    wire::{
        relay_frame::{self, FORWARDED, FlowToken},
        road::{Road, Source},
    },
};

/// The longest payload of a UDP datagram over IPv4, before the kernel cuts it up.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Where forwarded datagrams go, and with which ECN bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    wire: usize,
    /// The address of ours by which whoever is there knows this host.
    local: Option<IpAddr>,
    remote: SocketAddr,
    ecn: Option<EcnCodepoint>,
}

/// Datagrams of one size for one address, to be handed to the kernel together: sending one by one is most of what
/// relaying costs (docs/measurements.md).
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    to: Option<(Spot, usize)>,
    bytes: Vec<u8>,
}

impl Forwarded {
    /// Whether these may be sent together with what is there.
    fn takes(&self, to: (Spot, usize), run: &[u8], segments_max: usize) -> bool {
        let Some(known) = self.to else { return true };
        let (_, stride) = to;
        let length = self.bytes.len() + run.len();
        // Only the last of them may be shorter than the others.
        known == to && self.bytes.len().is_multiple_of(stride) && length <= stride * segments_max
    }

    fn add(&mut self, to: (Spot, usize), run: &[u8]) {
        self.to = Some(to);
        self.bytes.extend_from_slice(run);
    }
}

impl MeshSocket {
    /// Forwards what is for others in one received batch, and marks it as done. Runs of datagrams through one flow stay
    /// together, so that the kernel cuts them up only at the other end.
    pub(super) fn forward(
        &self,
        relay: &mut Forwarder,
        forwarded: &mut Forwarded,
        batch: &mut [u8],
        meta: &RecvMeta,
        source: Source,
    ) {
        let total = meta.len.min(batch.len());
        let stride = meta.stride.max(1);
        let mut start = 0;
        while start < total {
            let (token, end) = run(&batch[..total], start, stride);
            let run = &mut batch[start..end];
            start = end;
            let Some(token) = token else { continue };
            let now = tokio::time::Instant::now().into_std();
            let spot = forwarder::Spot { local: meta.dst_ip, ..source.into() };
            match relay.forward(token, spot, run.len(), now) {
                Forward::Unknown => continue,
                Forward::To(forwarder::Spot { wire, local, remote }, token) => {
                    for frame in run.chunks_mut(stride) {
                        relay_frame::readdress(frame, token);
                    }
                    let to = (Spot { wire, local, remote, ecn: meta.ecn }, stride);
                    let segments_max = self.segments_max(wire, stride);
                    for part in run.chunks(stride * segments_max) {
                        if !forwarded.takes(to, part, segments_max) {
                            self.send_forwarded(forwarded);
                        }
                        forwarded.add(to, part);
                    }
                    self.counters.forwarded.fetch_add(run.len() as u64, Ordering::Relaxed);
                }
                Forward::Unbound(Some(challenge)) => {
                    self.send_frame(Road::back(source, meta.dst_ip), &challenge);
                }
                Forward::Unbound(None) => count(&self.counters.garbage),
                Forward::Throttled => count(&self.counters.throttled),
            }
            for frame in run.chunks_mut(stride) {
                frame[0] = FORWARDED;
            }
        }
    }

    /// Sends what was gathered, or drops it.
    pub(super) fn send_forwarded(&self, forwarded: &mut Forwarded) {
        if let Some((Spot { wire, local, remote, ecn }, stride)) = forwarded.to.take() {
            let transmit = Transmit {
                destination: remote,
                ecn,
                contents: &forwarded.bytes,
                segment_size: (forwarded.bytes.len() > stride).then_some(stride),
                src_ip: local,
            };
            let road = Road { wire, remote, local, flow: None };
            let _ = self.send_along(road, &transmit);
            forwarded.bytes.clear();
        }
    }

    /// Datagrams of so many bytes that one transmit may hold.
    pub(super) fn segments_max(&self, wire: usize, stride: usize) -> usize {
        let segments = match self.wires.get(wire) {
            Some(Wire::Udp(wire)) => wire.max_transmit_segments(),
            _ => 1,
        };
        segments.min(DATAGRAM_BYTES_MAX / stride).max(1)
    }
}

/// The datagrams from `start` on that belong to one flow, or to none: its token and where they end.
fn run(batch: &[u8], start: usize, stride: usize) -> (Option<FlowToken>, usize) {
    let token = |start: usize| {
        let datagram = &batch[start..(start + stride).min(batch.len())];
        if datagram.first() == Some(&relay_frame::DATA) {
            relay_frame::token(datagram)
        } else {
            None
        }
    };
    let first = token(start);
    let mut end = (start + stride).min(batch.len());
    while end < batch.len() && token(end) == first {
        end = (end + stride).min(batch.len());
    }
    (first, end)
}
