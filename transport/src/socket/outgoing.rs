//! How the socket sends: our own frames, what QUIC sends, and that in pieces or through a flow.

use std::{io, sync::atomic::Ordering};

use quinn::udp::Transmit;

use super::{
    mesh_socket::{MeshSocket, Wire, count},
    narrow::{NEEDED, TOO_LONG},
    pieces::{self, WHOLE_BYTES_MAX},
};
use crate::wire::{
    relay_frame::{self, FlowToken, HEADER_BYTES},
    road::{Reach, Road},
};

/// One datagram along `road`.
fn one(road: Road, contents: &[u8]) -> Transmit<'_> {
    let (destination, src_ip) = (road.remote, road.local);
    Transmit { destination, ecn: None, contents, segment_size: None, src_ip }
}

impl MeshSocket {
    /// Sends one of our own frames along `road`, or drops it: frames are repeated by who sends them.
    pub(crate) fn send_frame(&self, road: Road, frame: &[u8]) {
        let _ = self.send_along(road, &one(road, frame));
    }

    /// Sends one of our own frames along a direct road, no further than `reach`.
    pub(crate) fn send_short(&self, road: Road, frame: &[u8], reach: Reach) {
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        let transmit = one(road, frame);
        match self.wires.get(road.wire) {
            Some(Wire::Udp(wire)) => wire.send_short(&transmit, reach),
            #[cfg(feature = "sim")]
            Some(Wire::Memory(wire)) => wire.send_short(&transmit, reach),
            // Neither a tunnel nor an adopted socket has anything to open.
            Some(Wire::Tunnels(_)) | None => {}
        }
    }

    /// Sends one of QUIC's datagrams once more, or drops it; in pieces if the road doesn't take long ones.
    pub(crate) fn send_datagram(&self, road: Road, contents: &[u8], whole: bool) {
        if whole {
            return self.send_frame(road, contents);
        }
        let _ = self.send_in_pieces(road, &one(road, contents));
    }

    /// Sends QUIC's datagrams along a road that takes only shorter ones.
    pub(crate) fn send_in_pieces(&self, road: Road, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        if segment <= WHOLE_BYTES_MAX {
            return self.send_along(road, transmit);
        }
        let mut sent = Ok(());
        for datagram in transmit.contents.chunks(segment) {
            let mut send = |contents: &[u8]| {
                let (destination, ecn, src_ip) = (transmit.destination, transmit.ecn, road.local);
                let part = Transmit { destination, ecn, contents, segment_size: None, src_ip };
                // The others go out even so: QUIC repeats nothing that it doesn't believe lost.
                let outcome = self.send_along(road, &part);
                if sent.is_ok() {
                    sent = outcome;
                }
            };
            if datagram.len() <= WHOLE_BYTES_MAX {
                send(datagram);
            } else {
                pieces::split(datagram, self.piece_ids.next()).iter().for_each(|piece| send(piece));
            }
        }
        sent
    }

    /// Errors other than WouldBlock are counted and swallowed: one would kill a connection's driver,
    /// and QUIC repairs a lost packet anyway.
    pub(super) fn send_along(&self, road: Road, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        let adopted = self.adopted.get(road.wire.wrapping_sub(self.wires.len()));
        if self.wires.get(road.wire).is_none() && adopted.is_none() {
            count(&self.counters.send_nowhere);
            return Ok(());
        }
        let wrapped;
        let (contents, segment_size) = match road.flow {
            None => (transmit.contents, transmit.segment_size),
            Some(token) => {
                let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
                wrapped = wrap(token, transmit.contents, segment);
                (&wrapped[..], transmit.segment_size.map(|size| size + HEADER_BYTES))
            }
        };
        let on_road = Transmit {
            destination: road.remote,
            ecn: transmit.ecn,
            contents,
            segment_size,
            src_ip: road.local,
        };
        let send = |on_road: &Transmit<'_>| match (self.wires.get(road.wire), &adopted) {
            (Some(wire), _) => wire.try_send(on_road),
            // The poller doesn't wait for these: what they don't take is lost.
            (None, Some(wire)) => wire.try_send(on_road).map_err(|e| match e.kind() {
                io::ErrorKind::WouldBlock => io::ErrorKind::StorageFull.into(),
                _ => e,
            }),
            (None, None) => Ok(()),
        };
        let mut sent = send(&on_road);
        if sent.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock)
            && on_road.src_ip.is_some()
        {
            // This host may have lost that address of its own.
            sent = send(&Transmit { src_ip: None, ..on_road });
            if let (Ok(()), Some(lost)) = (&sent, on_road.src_ip) {
                self.handles.lock().forget_local(lost);
            }
        }
        match sent {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            Err(e) => {
                let size = on_road.segment_size.unwrap_or(on_road.contents.len());
                if e.raw_os_error() == Some(TOO_LONG) && size <= NEEDED {
                    let now = tokio::time::Instant::now().into_std();
                    self.narrow.lock().add(road.remote, now);
                }
                count(&self.counters.send_errors);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Puts the header of a flow in front of each datagram.
fn wrap(token: FlowToken, contents: &[u8], segment: usize) -> Vec<u8> {
    let header = relay_frame::header(token);
    let segments = contents.len().div_ceil(segment);
    let mut wrapped = Vec::with_capacity(contents.len() + segments * HEADER_BYTES);
    for datagram in contents.chunks(segment) {
        wrapped.extend_from_slice(&header);
        wrapped.extend_from_slice(datagram);
    }
    wrapped
}
