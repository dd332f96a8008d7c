//! A port of the simulated network, as the socket sees it.

use std::{
    future::Future,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use tokio::time::{Instant, Sleep};

use super::network::MemoryNetwork;
use crate::socket::udp::Reach;

/// One port of a [`MemoryNetwork`]; gives its address back when dropped.
#[derive(Debug)]
pub(crate) struct MemoryWire {
    network: MemoryNetwork,
    local: SocketAddr,
    /// Sleeps until the next packet arrives.
    arrival: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl MemoryWire {
    pub(super) fn new(network: MemoryNetwork, local: SocketAddr) -> Self {
        Self { network, local, arrival: Mutex::new(None) }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn send(&self, transmit: &Transmit<'_>) {
        let mut network = self.network.inner.lock();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            network.send(self.local, transmit.destination, datagram);
        }
    }

    /// Sends something that arrives nowhere.
    pub(crate) fn send_short(&self, transmit: &Transmit<'_>, reach: Reach) {
        let (to, datagram) = (transmit.destination, transmit.contents);
        self.network.inner.lock().send_short(self.local, to, datagram, reach);
    }

    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut arrival = self.arrival.lock();
        loop {
            let mut network = self.network.inner.lock();
            let Some(port) = network.ports.get_mut(&self.local) else { return Poll::Pending };
            let now = Instant::now();
            let mut received = 0;
            while received < bufs.len().min(metas.len())
                && let Some(first) = port.queue.first_entry()
                && first.key().0 <= now
            {
                let (from, datagram) = first.remove();
                port.queued_bytes -= datagram.len();
                let Some(room) = bufs[received].get_mut(..datagram.len()) else { continue };
                room.copy_from_slice(&datagram);
                metas[received] = RecvMeta {
                    addr: from,
                    len: datagram.len(),
                    stride: datagram.len().max(1),
                    ecn: None,
                    dst_ip: Some(self.local.ip()),
                };
                received += 1;
            }
            if received > 0 {
                return Poll::Ready(received);
            }
            port.waker = Some(cx.waker().clone());
            let next = port.queue.keys().next().map(|key| key.0);
            drop(network);
            let Some(next) = next else {
                *arrival = None;
                return Poll::Pending;
            };
            let sleep = arrival.insert(Box::pin(tokio::time::sleep_until(next)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for MemoryWire {
    fn drop(&mut self) {
        self.network.inner.lock().ports.remove(&self.local);
    }
}
