//! The one UDP socket that QUIC sees: handles above, kernel sockets or a memory network below.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::runtime::Handle;

use super::{
    adopted::Adopted,
    demux::Staged,
    forward::Forwarded,
    handles::{Handles, Sending, Way},
    narrow::Narrow,
    pieces::{PieceIds, Pieces},
    udp::UdpWire,
    unknown::Ration,
};
use crate::{
    limits::InitialGate,
    nat::classify::Classifier,
    placement::Placement,
    quic::cid::Cids,
    relay::forwarder::Forwarder,
    tunnel::wire::Tunnels,
    wire::{
        frame::Tag,
        road::{Road, Source},
    },
};

/// Batches without anything for QUIC after which the endpoint's other work gets its turn. Without a
/// bound, a flood of garbage would keep `poll_recv` from ever returning.
const BARREN_BATCHES_MAX: usize = 4;

/// How often it is looked whether what was sent has arrived, while anything was. A guess: a fifth of the least time after which a
/// question is asked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One thing that carries datagrams.
#[derive(Debug)]
pub(crate) enum Wire {
    Udp(UdpWire),
    #[cfg(feature = "sim")]
    Memory(crate::sim::MemoryWire),
    Tunnels(Arc<Tunnels>),
}

impl Wire {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Udp(wire) => wire.local_addr(),
            #[cfg(feature = "sim")]
            Self::Memory(wire) => wire.local_addr(),
            Self::Tunnels(_) => Tunnels::local_addr(),
        }
    }

    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self {
            Self::Udp(wire) => wire.try_send(transmit),
            #[cfg(feature = "sim")]
            Self::Memory(wire) => {
                wire.send(transmit);
                Ok(())
            }
            Self::Tunnels(wire) => {
                wire.send(transmit);
                Ok(())
            }
        }
    }

    /// Only the kernel's sockets are ever waited for.
    fn is_writable(&self) -> bool {
        match self {
            Self::Udp(wire) => wire.is_writable(),
            _ => true,
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Udp(wire) => wire.poll_recv(cx, bufs, metas),
            #[cfg(feature = "sim")]
            Self::Memory(wire) => wire.poll_recv(cx, bufs, metas).map(Ok),
            Self::Tunnels(wire) => wire.poll_recv(cx, bufs, metas).map(Ok),
        }
    }
}

/// Takes our own frames. Called on the network thread while datagrams are being read: it must be quick.
pub(crate) trait Frames: Send + Sync {
    /// `frame` came from `source` (socket and address); `local` is the address it was sent to. Returns
    /// whether it named a connection.
    fn received(&self, frame: &[u8], source: Source, local: Option<IpAddr>) -> bool;

    /// Something was sent along the road in use by `handle` at `sent` and isn't known to have arrived, though it should be; `None`: it may
    /// never be known.
    fn unproven(&self, handle: SocketAddr, sent: Option<Instant>);

    /// Whoever these handles stand for, or somebody in its name, says that it doesn't know a flow through it, or the connection
    /// that this tag names to it.
    fn unknown(&self, handles: &[SocketAddr], tag: Option<Tag>);
}

/// What was dropped, and why, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) garbage: AtomicU64,
    pub(crate) initials_refused: AtomicU64,
    pub(crate) staging_full: AtomicU64,
    pub(crate) send_errors: AtomicU64,
    pub(crate) receive_errors: AtomicU64,
    pub(crate) send_nowhere: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) throttled: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a socket does for others.
pub(crate) struct ForOthers {
    /// Relays.
    pub(crate) relay: Option<Forwarder>,
    /// The index of the socket that only tells where they are seen.
    pub(crate) observatory: Option<usize>,
}

pub(crate) struct MeshSocket {
    pub(super) wires: Vec<Wire>,
    pub(super) adopted: Adopted,
    pub(super) handles: Mutex<Handles>,
    pub(super) cids: Arc<Cids>,
    pub(super) gate: InitialGate,
    pub(super) frames: Box<dyn Frames>,
    pub(super) staged: Mutex<Staged>,
    pub(super) forwarded: Mutex<Forwarded>,
    pub(super) pieces: Mutex<Pieces>,
    pub(super) piece_ids: PieceIds,
    pub(super) ration: Mutex<Ration>,
    /// Which socket is read first, and which one had something last.
    next_wire: AtomicUsize,
    last_wire: AtomicUsize,
    runtime: Handle,
    /// For tasks that must not keep it alive.
    this: Weak<Self>,
    /// What this host relays for others, if it does.
    pub(super) relay: Option<Mutex<Forwarder>>,
    /// What others say about the NAT in front of this host.
    nat: Mutex<Classifier>,
    /// The socket that only tells others where they are seen.
    observatory: Option<usize>,
    /// Nothing is sent any more.
    pub(super) silent: AtomicBool,
    pub(crate) counters: Counters,
    /// Where the system refuses to send what QUIC needs.
    pub(super) narrow: Mutex<Narrow>,
}

impl MeshSocket {
    pub(crate) fn new(
        wires: Vec<Wire>,
        cids: Arc<Cids>,
        gate: InitialGate,
        frames: Box<dyn Frames>,
        ForOthers { relay, observatory }: ForOthers,
        placement: &dyn Placement,
        seed: Option<u64>,
    ) -> Self {
        let locals = wires.iter().map(Wire::local_addr).collect();
        Self {
            wires,
            adopted: Adopted::default(),
            handles: Mutex::new(Handles::new(locals, seed)),
            cids,
            gate,
            frames,
            staged: Mutex::default(),
            forwarded: Mutex::default(),
            pieces: Mutex::default(),
            piece_ids: PieceIds::new(seed),
            ration: Mutex::default(),
            next_wire: AtomicUsize::new(0),
            last_wire: AtomicUsize::new(0),
            runtime: placement.network().clone(),
            this: Weak::new(),
            relay: relay.map(Mutex::new),
            nat: Mutex::default(),
            observatory,
            silent: AtomicBool::new(false),
            counters: Counters::default(),
            narrow: Mutex::default(),
        }
    }

    /// Gives it the means to start tasks that use it.
    pub(crate) fn with(self, this: &Weak<Self>) -> Self {
        Self { this: this.clone(), ..self }
    }

    /// The first of these addresses to which QUIC's first packets have been too long for the system to send them since then.
    pub(crate) fn too_narrow(
        &self,
        addresses: &[SocketAddr],
        since: Instant,
    ) -> Option<SocketAddr> {
        self.narrow.lock().among(addresses, since)
    }

    pub(crate) fn wires(&self) -> &[Wire] {
        &self.wires
    }

    /// The tunnels, and the index by which roads name them.
    pub(crate) fn tunnels(&self) -> Option<(usize, &Arc<Tunnels>)> {
        self.wires.iter().enumerate().find_map(|(index, wire)| match wire {
            Wire::Tunnels(tunnels) => Some((index, tunnels)),
            _ => None,
        })
    }

    /// The table of handles; the lock is for a moment only.
    pub(crate) fn handles(&self) -> parking_lot::MutexGuard<'_, Handles> {
        self.handles.lock()
    }

    /// What this host relays for others, if it does; the lock is for a moment only.
    pub(crate) fn relay(&self) -> Option<parking_lot::MutexGuard<'_, Forwarder>> {
        self.relay.as_ref().map(Mutex::lock)
    }

    /// What others say about the NAT in front of this host; the lock is for a moment only.
    pub(crate) fn nat(&self) -> parking_lot::MutexGuard<'_, Classifier> {
        self.nat.lock()
    }

    /// The index of the socket that only tells others where they are seen, and its port.
    pub(crate) fn observatory(&self) -> Option<(usize, u16)> {
        let index = self.observatory?;
        Some((index, self.wires.get(index)?.local_addr().port()))
    }

    /// Takes over a socket that found a way to a peer; its index. `None`: too many were.
    pub(crate) fn adopt(&self, wire: UdpWire) -> Option<usize> {
        let local = wire.local_addr();
        let index = self.wires.len() + self.adopted.add(wire)?;
        self.handles.lock().adopt(index, local);
        Some(index)
    }

    /// Closes an adopted socket, if that is one.
    pub(crate) fn discard(&self, wire: usize) {
        self.adopted.remove(wire.wrapping_sub(self.wires.len()));
    }

    /// The own address that the other end of `road` is sent from.
    pub(crate) fn local(&self, road: Road) -> Option<SocketAddr> {
        let bound = self.wires.get(road.wire)?.local_addr();
        let ip = road.local.unwrap_or(bound.ip()).to_canonical();
        Some(SocketAddr::new(ip, bound.port()))
    }

    /// From now on nothing is sent.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Sleeps by the clock of the network.
    pub(crate) fn sleep(&self, length: Duration) -> tokio::time::Sleep {
        let _inside = self.runtime.enter();
        tokio::time::sleep(length)
    }

    /// Runs a task on the network thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Looks again and again whether what was sent has arrived, while there are watched handles that something was sent to.
    fn look_after(&self) {
        let this = self.this.clone();
        self.spawn(async move {
            let mut more = true;
            while more {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(socket) = this.upgrade() else { return };
                let now = tokio::time::Instant::now().into_std();
                let (questions, waiting) = socket.handles.lock().unproven(now);
                for (handle, sent) in questions {
                    socket.frames.unproven(handle, sent);
                }
                more = waiting;
            }
        });
    }
}

impl AsyncUdpSocket for MeshSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let mut handles = self.handles.lock();
        match handles.sending(transmit) {
            (Way::One(road), Sending { whole, look, mirror }) => {
                drop(handles);
                if look {
                    self.look_after();
                }
                if let Some((road, whole)) = mirror {
                    // What it doesn't take now it doesn't get.
                    let _ = match whole {
                        true => self.send_along(road, transmit),
                        false => self.send_in_pieces(road, transmit),
                    };
                }
                if whole {
                    self.send_along(road, transmit)
                } else {
                    self.send_in_pieces(road, transmit)
                }
            }
            (Way::Each(roads), _) => {
                // Nobody waits for the slowest of several roads: full if all are.
                let mut sent = None;
                for road in roads {
                    let outcome = self.send_along(*road, transmit);
                    if sent.as_ref().is_none_or(|before: &io::Result<()>| before.is_err()) {
                        sent = Some(outcome);
                    }
                }
                sent.unwrap_or(Ok(()))
            }
            (Way::Nowhere, _) => {
                count(&self.counters.send_nowhere);
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let staged = self.staged.lock().deliver(bufs, metas);
        if staged > 0 {
            return Poll::Ready(Ok(staged));
        }
        let mut barren = 0;
        while barren < BARREN_BATCHES_MAX {
            let mut idle = true;
            let first = self.next_wire.load(Ordering::Relaxed);
            let (before, from) = self.wires.split_at(first.min(self.wires.len()));
            let from = from.iter().zip(first..);
            for (wire, index) in from.chain(before.iter().zip(0..)) {
                match wire.poll_recv(cx, bufs, metas) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(received)) => {
                        idle = false;
                        if self.sort(index, &mut bufs[..received], &mut metas[..received]) {
                            // The other family goes first next time.
                            self.next_wire.store(index + 1, Ordering::Relaxed);
                            self.last_wire.store(index, Ordering::Relaxed);
                            return Poll::Ready(Ok(received));
                        }
                    }
                    Poll::Ready(Err(_)) => {
                        idle = false;
                        count(&self.counters.receive_errors);
                    }
                }
            }
            for (index, wire) in self.adopted.each(cx) {
                match wire.poll_recv(cx, bufs, metas) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(received)) => {
                        idle = false;
                        let (bufs, metas) = (&mut bufs[..received], &mut metas[..received]);
                        if self.sort(self.wires.len() + index, bufs, metas) {
                            return Poll::Ready(Ok(received));
                        }
                    }
                    Poll::Ready(Err(_)) => {
                        idle = false;
                        count(&self.counters.receive_errors);
                    }
                }
            }
            if idle {
                // None has been kept waiting, so that the likeliest may go first again.
                self.next_wire.store(self.last_wire.load(Ordering::Relaxed), Ordering::Relaxed);
                return Poll::Pending;
            }
            barren += 1;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// IPv6, so that handles may be; QUIC shows it to nobody.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let port = self.wires.first().map_or(0, |wire| wire.local_addr().port());
        Ok(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())
    }

    fn max_transmit_segments(&self) -> usize {
        let segments = |wire: &Wire| match wire {
            Wire::Udp(wire) => Some(wire.max_transmit_segments()),
            #[cfg(feature = "sim")]
            Wire::Memory(_) => Some(1),
            // They cut up what they are given.
            Wire::Tunnels(_) => None,
        };
        self.wires.iter().filter_map(segments).min().unwrap_or(1)
    }

    fn max_receive_segments(&self) -> usize {
        let segments = |wire: &Wire| match wire {
            Wire::Udp(wire) => wire.max_receive_segments(),
            _ => 1,
        };
        self.wires.iter().map(segments).max().unwrap_or(1)
    }

    /// quinn-udp forbids fragmentation where the system can; the MTU stays below 1,420 bytes besides.
    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for MeshSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshSocket").field("wires", &self.wires).finish_non_exhaustive()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until every kernel socket takes datagrams again: which of them was full isn't known here.
struct Writable {
    socket: Arc<MeshSocket>,
    waiting: Option<Waiting>,
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.waiting.is_none() && this.socket.wires.iter().all(Wire::is_writable) {
            // As nearly always. quinn asks before each datagram, and to wait costs a box.
            return Poll::Ready(Ok(()));
        }
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = this.socket.clone();
            Box::pin(async move {
                for wire in &socket.wires {
                    if let Wire::Udp(wire) = wire {
                        wire.writable().await?;
                    }
                }
                Ok(())
            })
        });
        let polled = waiting.as_mut().poll(cx);
        if polled.is_ready() {
            this.waiting = None;
        }
        polled
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}
