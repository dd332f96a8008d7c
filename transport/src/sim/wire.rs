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

use super::network::{Inner, MemoryNetwork};
use crate::wire::road::Reach;

/// One port of a [`MemoryNetwork`]; gives its address back when dropped.
#[derive(Debug)]
pub(crate) struct MemoryWire {
    network: MemoryNetwork,
    local: SocketAddr,
    /// Which of those that were bound there it is.
    number: u64,
    /// Sleeps until the next packet arrives.
    arrival: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl MemoryWire {
    pub(super) fn new(network: MemoryNetwork, local: SocketAddr, number: u64) -> Self {
        Self { network, local, number, arrival: Mutex::new(None) }
    }

    /// Whether the port is still its own.
    fn is_plugged(&self, network: &Inner) -> bool {
        network.ports.get(&self.local).is_some_and(|port| port.number == self.number)
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn send(&self, transmit: &Transmit<'_>) {
        let mut network = self.network.inner.lock();
        if !self.is_plugged(&network) {
            return;
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            network.send(self.local, transmit.destination, datagram);
        }
    }

    /// Sends something that arrives nowhere.
    pub(crate) fn send_short(&self, transmit: &Transmit<'_>, reach: Reach) {
        let mut network = self.network.inner.lock();
        if self.is_plugged(&network) {
            let (to, datagram) = (transmit.destination, transmit.contents);
            network.send_short(self.local, to, datagram, reach);
        }
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
            if !self.is_plugged(&network) {
                return Poll::Pending;
            }
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
            if port.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                port.waker = Some(cx.waker().clone());
            }
            let next = port.queue.first_key_value().map(|(key, _)| key.0);
            let wake = match (next, &network.ticks) {
                // Within the present tick no timer can help: who drives the clock wakes us.
                (Some(next), Some(ticks)) => ticks.before(next).filter(|tick| *tick > now),
                (next, None) => next,
                (None, _) => None,
            };
            drop(network);
            let Some(wake) = wake else {
                *arrival = None;
                return Poll::Pending;
            };
            let sleep = match &mut *arrival {
                Some(sleep) => {
                    if sleep.deadline() != wake {
                        sleep.as_mut().reset(wake);
                    }
                    sleep
                }
                none => none.insert(Box::pin(tokio::time::sleep_until(wake))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for MemoryWire {
    fn drop(&mut self) {
        let mut network = self.network.inner.lock();
        if self.is_plugged(&network) {
            network.ports.remove(&self.local);
        }
    }
}
