//! An in-memory network for tests in place: latency and seeded loss, by tokio's (paused) clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, Sleep};

/// Bytes on the way to one port beyond which the network drops, as a router's queue would. A guess:
/// the bandwidth-delay product of 1 Gbit/s and 250 ms.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// A network of UDP-like ports inside one process. Clones are the same network.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    rng: StdRng,
    latency: Duration,
    loss: f64,
    sequence: u64,
    ports: HashMap<SocketAddr, Port>,
    next_port: u16,
    /// Pairs of addresses between which nothing passes.
    cut: BTreeSet<(IpAddr, IpAddr)>,
    /// What a NAT makes of a port's own address, and the way back.
    mappings: HashMap<SocketAddr, SocketAddr>,
    behind: HashMap<SocketAddr, SocketAddr>,
}

#[derive(Debug, Default)]
struct Port {
    /// Ordered by time of arrival, then by order of sending.
    queue: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    queued_bytes: usize,
    waker: Option<Waker>,
}

impl MemoryNetwork {
    /// A network without loss or latency; `seed` decides which packets are lost once loss is set.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: StdRng::seed_from_u64(seed),
            latency: Duration::ZERO,
            loss: 0.0,
            sequence: 0,
            ports: HashMap::new(),
            next_port: 49152,
            cut: BTreeSet::new(),
            mappings: HashMap::new(),
            behind: HashMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The one-way latency of packets sent from now on. Tokio's timers have 1 ms resolution.
    pub fn set_latency(&self, latency: Duration) {
        self.inner.lock().latency = latency;
    }

    /// The share of packets lost from now on, 0 to 1.
    pub fn set_loss(&self, share: f64) {
        self.inner.lock().loss = share.clamp(0.0, 1.0);
    }

    /// Cuts (or heals) the network between two hosts; packets already on the way still arrive.
    pub fn set_cut(&self, a: IpAddr, b: IpAddr, cut: bool) {
        let pair = (a.min(b), a.max(b));
        let mut inner = self.inner.lock();
        if cut {
            inner.cut.insert(pair)
        } else {
            inner.cut.remove(&pair)
        };
    }

    /// From now on the port at `own` is seen at `public`, and reached there alone: what a NAT does when it
    /// forgets a mapping and makes another.
    pub fn set_mapping(&self, own: SocketAddr, public: SocketAddr) {
        let mut inner = self.inner.lock();
        inner.behind.insert(public, own);
        if let Some(old) = inner.mappings.insert(own, public) {
            inner.behind.remove(&old);
        }
    }

    /// Sends raw bytes from any address, as a spoofing stranger would.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.inner.lock().send(from, to, datagram);
    }

    /// Takes `address`; port 0 takes a free one.
    pub(crate) fn attach(&self, mut address: SocketAddr) -> io::Result<MemoryWire> {
        let mut inner = self.inner.lock();
        if address.ip().is_unspecified() {
            let e = "the memory network has no interfaces: name the address of this host";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, e));
        }
        while address.port() == 0 {
            let candidate = SocketAddr::new(address.ip(), inner.next_port);
            inner.next_port = inner.next_port.checked_add(1).unwrap_or(49152);
            if !inner.ports.contains_key(&candidate) {
                address = candidate;
            }
        }
        if inner.ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.ports.insert(address, Port::default());
        Ok(MemoryWire { network: self.clone(), local: address, arrival: Mutex::new(None) })
    }
}

impl Inner {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        // Drawn for every packet, so that what is lost depends on the order of packets alone.
        let lost = self.rng.random::<f64>() < self.loss;
        let (a, b) = (from.ip(), to.ip());
        if lost || self.cut.contains(&(a.min(b), a.max(b))) {
            return;
        }
        let from = self.mappings.get(&from).copied().unwrap_or(from);
        let to = match self.behind.get(&to) {
            Some(own) => *own,
            None if self.mappings.contains_key(&to) => return,
            None => to,
        };
        self.sequence += 1;
        let Some(port) = self.ports.get_mut(&to) else { return };
        if port.queued_bytes + datagram.len() > QUEUE_BYTES_MAX {
            return;
        }
        port.queued_bytes += datagram.len();
        let at = Instant::now() + self.latency;
        port.queue.insert((at, self.sequence), (from, datagram.to_vec()));
        if let Some(waker) = port.waker.take() {
            waker.wake();
        }
    }
}

/// One port of a [`MemoryNetwork`]; gives its address back when dropped.
#[derive(Debug)]
pub(crate) struct MemoryWire {
    network: MemoryNetwork,
    local: SocketAddr,
    /// Sleeps until the next packet arrives.
    arrival: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl MemoryWire {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(wire: &MemoryWire) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buffer = [0; 64];
        let mut metas = [RecvMeta::default()];
        let mut cx = Context::from_waker(Waker::noop());
        let polled = wire.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buffer)], &mut metas);
        polled.is_ready().then(|| (metas[0].addr, buffer[..metas[0].len].to_vec()))
    }

    #[tokio::test(start_paused = true)]
    async fn packets_arrive_after_the_latency_and_a_cut_stops_them() {
        let network = MemoryNetwork::new(1);
        network.set_latency(Duration::from_millis(20));
        let (a, b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        let wire = network.attach(b).unwrap();
        network.inject(a, b, b"one");
        assert_eq!(receive(&wire), None);
        tokio::time::sleep(Duration::from_millis(21)).await;
        assert_eq!(receive(&wire), Some((a, b"one".to_vec())));
        network.set_cut(a.ip(), b.ip(), true);
        network.inject(a, b, b"two");
        tokio::time::sleep(Duration::from_millis(21)).await;
        assert_eq!(receive(&wire), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_taken_once_and_free_again_after_a_drop() {
        let network = MemoryNetwork::new(1);
        let first = network.attach("10.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr();
        assert!(network.attach(address).is_err());
        drop(first);
        assert!(network.attach(address).is_ok());
    }
}
