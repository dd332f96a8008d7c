//! The one UDP socket that QUIC sees: handles above, kernel sockets or a memory network below.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::runtime::Handle;

use super::{
    adopted::Adopted,
    cid::{Cid, Cids},
    forward::Forwarded,
    handles::{self, Handles, Match, Road, Source, Way},
    pieces::{self, PIECE, Pieces, WHOLE_BYTES_MAX},
    sift::{Kind, Staged, Verdict, kind, sift},
    udp::UdpWire,
};
use crate::{
    limits::InitialGate,
    nat::classify::Classifier,
    placement::Placement,
    relay::{
        forwarder::Forwarder,
        frame::{self, FORWARDED, FlowToken, HEADER_BYTES},
    },
    tunnel::wire::Tunnels,
};

/// Batches without anything for QUIC after which the endpoint's other work gets its turn. Without a
/// bound, a flood of garbage would keep `poll_recv` from ever returning.
const BARREN_BATCHES_MAX: usize = 4;

/// Nothing came for so long after something was sent (docs/architecture.md); a peer may take 25 ms to acknowledge.
const SILENCE: Duration = Duration::from_millis(250);

/// How often silence is looked for. A guess: a tenth of what a switch may take.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An Initial from a stranger in a smaller datagram is refused (RFC 9000, section 14.1).
const INITIAL_BYTES_MIN: usize = 1200;

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

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
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

    /// Nothing has come along the road in use by `handle` since something was sent along it, for a while.
    fn silent(&self, handle: SocketAddr);
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
    adopted: Adopted,
    handles: Mutex<Handles>,
    cids: Arc<Cids>,
    gate: InitialGate,
    frames: Box<dyn Frames>,
    staged: Mutex<Staged>,
    forwarded: Mutex<Forwarded>,
    pieces: Mutex<Pieces>,
    next_piece: AtomicU32,
    next_wire: AtomicUsize,
    runtime: Handle,
    /// For tasks that must not keep it alive.
    this: Weak<Self>,
    /// What this host relays for others, if it does.
    relay: Option<Mutex<Forwarder>>,
    /// What others say about the NAT in front of this host.
    nat: Mutex<Classifier>,
    /// The socket that only tells others where they are seen.
    observatory: Option<usize>,
    pub(crate) counters: Counters,
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
            next_piece: AtomicU32::new(0),
            next_wire: AtomicUsize::new(0),
            runtime: placement.network().clone(),
            this: Weak::new(),
            relay: relay.map(Mutex::new),
            nat: Mutex::default(),
            observatory,
            counters: Counters::default(),
        }
    }

    /// Gives it the means to start tasks that use it.
    pub(crate) fn with(self, this: &Weak<Self>) -> Self {
        Self { this: this.clone(), ..self }
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

    /// Sleeps by the clock of the network.
    pub(crate) fn sleep(&self, length: Duration) -> tokio::time::Sleep {
        let _inside = self.runtime.enter();
        tokio::time::sleep(length)
    }

    /// Runs a task on the network thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Looks for silence again and again while there are watched handles that something was sent to.
    fn look_for_silence(&self) {
        let this = self.this.clone();
        self.spawn(async move {
            let mut more = true;
            while more {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(socket) = this.upgrade() else { return };
                let Some(before) = tokio::time::Instant::now().into_std().checked_sub(SILENCE)
                else {
                    return;
                };
                let (silent, waiting) = socket.handles.lock().silent(before);
                for handle in silent {
                    socket.frames.silent(handle);
                }
                more = waiting;
            }
        });
    }

    /// Sends one of our own frames along `road`, or drops it: frames are repeated by who sends them.
    pub(crate) fn send_frame(&self, road: Road, frame: &[u8]) {
        let transmit = Transmit {
            destination: road.remote,
            ecn: None,
            contents: frame,
            segment_size: None,
            src_ip: road.local,
        };
        let _ = self.send_along(road, &transmit);
    }

    /// Sends one of QUIC's datagrams once more, or drops it; in pieces if the road doesn't take long ones.
    pub(crate) fn send_datagram(&self, road: Road, contents: &[u8], whole: bool) {
        if whole {
            return self.send_frame(road, contents);
        }
        let (destination, src_ip) = (road.remote, road.local);
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
        let _ = self.send_in_pieces(road, &transmit);
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
                let id = self.next_piece.fetch_add(1, Ordering::Relaxed);
                pieces::split(datagram, id).iter().for_each(|piece| send(piece));
            }
        }
        sent
    }

    /// Errors other than WouldBlock are counted and swallowed: one would kill a connection's driver,
    /// and QUIC repairs a lost packet anyway.
    pub(super) fn send_along(&self, road: Road, transmit: &Transmit<'_>) -> io::Result<()> {
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
        }
        match sent {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            Err(_) => {
                count(&self.counters.send_errors);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Sorts what one socket received. Returns whether QUIC has something to read.
    fn sort(&self, wire: usize, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> bool {
        let mut forwarded = self.forwarded.lock();
        let mut staged = self.staged.lock();
        let dropped = staged.dropped;
        let mut any = false;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let source = Source { wire, remote: meta.addr, flow: None };
            let local = meta.dst_ip;
            if let Some(relay) = &self.relay {
                self.forward(&mut relay.lock(), &mut forwarded, buf, meta, source);
            }
            let judge = |datagram: &[u8]| self.judge(datagram, source, local);
            any |= sift(buf, meta, &mut staged, judge);
        }
        self.send_forwarded(&mut forwarded);
        // What is staged must not wait for the next datagram to arrive.
        any |= !staged.is_empty();
        self.counters.staging_full.fetch_add(staged.dropped - dropped, Ordering::Relaxed);
        any
    }

    fn judge(&self, datagram: &[u8], source: Source, local: Option<IpAddr>) -> Verdict {
        let verdict = match kind(datagram) {
            Kind::Short(cid) => return self.judge_short(cid, source),
            Kind::Initial { destination, token } => {
                let matched = self.handles.lock().long(destination, source, false);
                match matched {
                    Match::Unknown if datagram.len() < INITIAL_BYTES_MIN => None,
                    Match::Unknown if !self.gate.admit(token) => {
                        count(&self.counters.initials_refused);
                        return Verdict::Taken;
                    }
                    Match::Unknown => self.handles.lock().literal(source),
                    Match::Handle(handle) => Some(handle),
                    Match::Refused => None,
                }
            }
            Kind::Handshake { destination } => self.known(destination, source, false),
            Kind::Retry { destination } => self.known(destination, source, true),
            Kind::Ours if datagram[0] == FORWARDED => return Verdict::Taken,
            Kind::Ours if source.flow.is_none() && frame::is_relay(datagram) => {
                return self.judge_relayed(datagram, source, local);
            }
            Kind::Ours if datagram[0] == PIECE => return self.judge_piece(datagram, source, local),
            Kind::Ours => {
                if !self.frames.received(datagram, source, local) {
                    count(&self.counters.garbage);
                }
                return Verdict::Taken;
            }
            Kind::Garbage => None,
        };
        match verdict {
            Some(handle) => Verdict::Quic(handle),
            None => {
                count(&self.counters.garbage);
                Verdict::Taken
            }
        }
    }

    /// A relay at the end of `road` granted a flow. What came through it before that was known is read now.
    pub(crate) fn open_flow(&self, token: FlowToken, key: [u8; 32], road: Road) {
        let mut handles = self.handles.lock();
        handles.legs.open(token, key, road.wire, road.remote);
        let early = handles.legs.take_early(token);
        drop(handles);
        let source = Source { flow: None, ..road.source() };
        for frame in early {
            if let Verdict::Relayed(to) = self.judge_relayed(&frame, source, road.local) {
                let mut staged = self.staged.lock();
                for addr in to {
                    let datagram = frame.get(HEADER_BYTES..).unwrap_or_default();
                    staged.push(datagram, RecvMeta { addr, ..RecvMeta::default() });
                }
            }
        }
        self.adopted.wake_reader();
    }

    /// A frame of a relay that wasn't to be forwarded.
    fn judge_relayed(&self, datagram: &[u8], source: Source, local: Option<IpAddr>) -> Verdict {
        let (wire, remote) = (source.wire, source.remote);
        let token = frame::token(datagram);
        let mut handles = self.handles.lock();
        let mine = token.filter(|token| handles.legs.is_from(*token, wire, remote));
        match (mine, datagram[0]) {
            (Some(token), frame::DATA) => {
                drop(handles);
                let inner = datagram.get(HEADER_BYTES..).unwrap_or_default();
                match self.judge(inner, Source { flow: Some(token), ..source }, local) {
                    Verdict::Quic(handle) => Verdict::Relayed(vec![handle]),
                    Verdict::QuicEach(handles) | Verdict::Relayed(handles) => {
                        Verdict::Relayed(handles)
                    }
                    other @ (Verdict::Rebuilt(..) | Verdict::Taken) => other,
                }
            }
            (Some(_), frame::CHALLENGE) => {
                let answer = handles.legs.challenged(datagram, wire, remote);
                drop(handles);
                if let Some(answer) = answer {
                    self.send_frame(Road::back(source, local), &answer);
                }
                Verdict::Taken
            }
            (None, frame::DATA) if !handles.at(source).is_empty() => {
                handles.legs.too_early(wire, remote, datagram);
                Verdict::Taken
            }
            _ => {
                drop(handles);
                let bound = datagram[0] == frame::BIND
                    && self.relay().is_some_and(|mut relay| relay.bind(datagram, (wire, remote)));
                if !bound {
                    count(&self.counters.garbage);
                }
                Verdict::Taken
            }
        }
    }

    /// A piece of a datagram: nothing is kept for strangers.
    fn judge_piece(&self, frame: &[u8], source: Source, local: Option<IpAddr>) -> Verdict {
        let known = !self.handles.lock().at(source).is_empty();
        let whole = if known { self.pieces.lock().take(source, frame) } else { None };
        match whole {
            None if known => Verdict::Taken,
            Some(datagram) if matches!(kind(&datagram), Kind::Short(_)) => {
                match self.judge(&datagram, source, local) {
                    Verdict::Quic(handle) => Verdict::Rebuilt(datagram, vec![handle]),
                    Verdict::QuicEach(handles) => Verdict::Rebuilt(datagram, handles),
                    other => other,
                }
            }
            _ => {
                count(&self.counters.garbage);
                Verdict::Taken
            }
        }
    }

    fn judge_short(&self, cid: &Cid, source: Source) -> Verdict {
        let mut handles = self.handles.lock();
        if let Match::Handle(handle) = handles.short(cid, source) {
            return Verdict::Quic(handle);
        }
        let owners = handles.at(source);
        if let [owner] = owners {
            return Verdict::Quic(*owner);
        }
        let ours = self.cids.is_ours(cid);
        // quinn's servers change to a later id of their client as soon as they have one, its clients
        // never do: an id of ours that isn't in the table is that of a dialled connection. A foreign id
        // is the random one of a stateless reset, which is known by its last bytes.
        let owners = owners.iter().copied().filter(|owner| !ours || handles::is_dialled(*owner));
        let owners: Vec<_> = owners.collect();
        match owners.as_slice() {
            [owner] => Verdict::Quic(*owner),
            [] => match handles.literal(source) {
                // One of this host's connections before a restart: QUIC answers with a reset.
                Some(literal) if ours => Verdict::Quic(literal),
                _ => {
                    count(&self.counters.garbage);
                    Verdict::Taken
                }
            },
            _ => Verdict::QuicEach(owners),
        }
    }

    /// The handle of a handshake packet that only a connection we have can have drawn.
    fn known(&self, destination: &[u8], source: Source, retry: bool) -> Option<SocketAddr> {
        match self.handles.lock().long(destination, source, retry) {
            Match::Handle(handle) => Some(handle),
            Match::Refused | Match::Unknown => None,
        }
    }
}

impl AsyncUdpSocket for MeshSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let mut handles = self.handles.lock();
        match handles.way(transmit.destination, transmit.src_ip) {
            Way::One(road) => {
                let look = handles.sending(transmit.destination, transmit);
                let whole = handles.is_whole(transmit.destination);
                drop(handles);
                if look {
                    self.look_for_silence();
                }
                if whole {
                    self.send_along(road, transmit)
                } else {
                    self.send_in_pieces(road, transmit)
                }
            }
            Way::Each(roads) => {
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
            Way::Nowhere => {
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
            for turn in 0..self.wires.len() {
                let index = (first + turn) % self.wires.len();
                match self.wires[index].poll_recv(cx, bufs, metas) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(received)) => {
                        idle = false;
                        if self.sort(index, &mut bufs[..received], &mut metas[..received]) {
                            // The other family goes first next time.
                            self.next_wire.store(index + 1, Ordering::Relaxed);
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

/// Puts the header of a flow in front of each datagram.
fn wrap(token: FlowToken, contents: &[u8], segment: usize) -> Vec<u8> {
    let header = frame::header(token);
    let segments = contents.len().div_ceil(segment);
    let mut wrapped = Vec::with_capacity(contents.len() + segments * HEADER_BYTES);
    for datagram in contents.chunks(segment) {
        wrapped.extend_from_slice(&header);
        wrapped.extend_from_slice(datagram);
    }
    wrapped
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
