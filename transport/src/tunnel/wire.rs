//! The tunnels of an endpoint, as the one thing that carries datagrams to all of their far ends.

use std::{
    collections::HashMap,
    io::IoSliceMut,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use rand::{RngExt, rngs::StdRng};
use tokio::sync::mpsc;

use super::{far_end, queue::Queue};

/// Datagrams from all tunnels that wait to be read; while it is full nothing is read from them. A guess.
const RECEIVED_MAX: usize = 1024;

/// Tunnels at a time, whoever dialled. A guess: hosts whose network blocks UDP are few, at two TCP buffers each.
pub(crate) const TUNNELS_MAX: usize = 1024;

type Received = (SocketAddr, Vec<u8>);

#[derive(Debug)]
pub(crate) struct Tunnels {
    open: Mutex<Open>,
    inbox: mpsc::Sender<Received>,
    outbox: Mutex<mpsc::Receiver<Received>>,
    /// Datagrams that a full queue dropped.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Open {
    rng: StdRng,
    queues: HashMap<SocketAddr, Tunnel>,
}

#[derive(Debug)]
struct Tunnel {
    queue: Arc<Queue>,
    /// The true address of the other side.
    remote: SocketAddr,
}

/// A tunnel's place in the table; it goes when this is dropped.
pub(super) struct Place {
    tunnels: Arc<Tunnels>,
    pub(super) far_end: SocketAddr,
    pub(super) queue: Arc<Queue>,
}

impl Tunnels {
    pub(crate) fn new(rng: StdRng) -> Arc<Self> {
        let (inbox, outbox) = mpsc::channel(RECEIVED_MAX);
        Arc::new(Self {
            open: Mutex::new(Open { rng, queues: HashMap::new() }),
            inbox,
            outbox: Mutex::new(outbox),
            dropped: AtomicU64::new(0),
        })
    }

    /// What stands for the near end of all tunnels.
    pub(crate) fn local_addr() -> SocketAddr {
        far_end(0)
    }

    /// Makes a place for a tunnel to `remote`, unless there are too many, or `per_network` of that network.
    pub(super) fn open(self: &Arc<Self>, remote: SocketAddr, per_network: usize) -> Option<Place> {
        let network = |address: SocketAddr| crate::limits::prefix(address.ip().to_canonical());
        let mut open = self.open.lock();
        let there = open.queues.values().filter(|t| network(t.remote) == network(remote)).count();
        let crowded = there >= per_network && !remote.ip().to_canonical().is_loopback();
        if open.queues.len() >= TUNNELS_MAX || crowded {
            return None;
        }
        let far_end = far_end(open.rng.random());
        let queue = Arc::new(Queue::default());
        open.queues.insert(far_end, Tunnel { queue: queue.clone(), remote });
        Some(Place { tunnels: self.clone(), far_end, queue })
    }

    /// The true address behind a far end.
    pub(crate) fn remote(&self, far_end: SocketAddr) -> Option<SocketAddr> {
        self.open.lock().queues.get(&far_end).map(|tunnel| tunnel.remote)
    }

    /// The tunnel that this host dialled to `remote`, if it stands.
    pub(crate) fn to(&self, remote: SocketAddr) -> Option<SocketAddr> {
        let open = self.open.lock();
        open.queues.iter().find(|(_, tunnel)| tunnel.remote == remote).map(|(far_end, _)| *far_end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.lock().queues.is_empty()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().queues.len()
    }

    #[cfg(test)]
    pub(super) fn close_all(&self) {
        self.open.lock().queues.values().for_each(|tunnel| tunnel.queue.close());
    }

    /// Datagrams that were dropped because a tunnel was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends datagrams into a tunnel. Never blocks.
    pub(crate) fn send(&self, transmit: &Transmit<'_>) {
        let queue = self.open.lock().queues.get(&transmit.destination).map(|t| t.queue.clone());
        let Some(queue) = queue else { return };
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            if queue.push(datagram) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A datagram came out of a tunnel. Waits for room.
    pub(super) async fn received(&self, far_end: SocketAddr, datagram: Vec<u8>) {
        let _ = self.inbox.send((far_end, datagram)).await;
    }

    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut outbox = self.outbox.lock();
        let mut count = 0;
        while count < bufs.len().min(metas.len()) {
            match outbox.poll_recv(cx) {
                Poll::Ready(Some((addr, datagram))) => {
                    if let Some(room) = bufs[count].get_mut(..datagram.len()) {
                        room.copy_from_slice(&datagram);
                        let len = datagram.len();
                        let meta = RecvMeta { addr, len, stride: len, ..RecvMeta::default() };
                        metas[count] = meta;
                        count += 1;
                    }
                }
                Poll::Ready(None) | Poll::Pending if count == 0 => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(count)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.close();
        self.tunnels.open.lock().queues.remove(&self.far_end);
    }
}
