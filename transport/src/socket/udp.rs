//! A kernel UDP socket under the mesh socket: GSO and GRO through quinn-udp, large buffers, one family.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll, ready},
};

use parking_lot::RwLock;
use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::filter;

use crate::wire::road::Reach;

/// What is asked for each buffer: measured as what takes loss on loopback to zero (docs/measurements.md).
pub(crate) const BUFFER_BYTES: usize = 4 << 20;

/// Buffer sizes that the kernel granted to a socket, in bytes as it counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferSizes {
    /// For what comes in.
    pub receive: usize,
    /// For what goes out.
    pub send: usize,
}

/// Whether a read that leaves buffers unused has seen the socket empty: Linux fills all of them if it can (`recvmmsg`), and says
/// so again once there is more (edge-triggered `epoll`). To ask once more costs a system call for each datagram that comes alone.
const SHORT_IS_LAST: bool = cfg!(any(target_os = "linux", target_os = "android"));

#[derive(Debug)]
pub(crate) struct UdpWire {
    io: tokio::net::UdpSocket,
    /// Replaced when quinn-udp has drawn a wrong conclusion, see [`UdpWire::mend`].
    state: RwLock<UdpSocketState>,
    /// What that says of segments per transmit, for quinn asks before each: written only while `state` is locked.
    segments: AtomicUsize,
    local: SocketAddr,
    buffers: BufferSizes,
    /// Routers that a datagram passes at most.
    hops: u32,
    offload_lost: AtomicBool,
}

impl UdpWire {
    /// Binds `address`. Must be called inside the network runtime.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // One socket per family: a dual-stack one could not carry the source address of IPv4.
            socket.set_only_v6(true)?;
        }
        let buffers = enlarge(&socket);
        filter::attach(&socket);
        socket.bind(&address.into())?;
        let socket: std::net::UdpSocket = socket.into();
        socket.set_nonblocking(true)?;
        Self::of(socket, buffers)
    }

    /// Takes over a socket that found a way to a peer. Must be called inside the network runtime.
    pub(crate) fn adopt(io: tokio::net::UdpSocket) -> io::Result<Self> {
        let socket: Socket = io.into_std()?.into();
        let buffers = enlarge(&socket);
        filter::attach(&socket);
        Self::of(socket.into(), buffers)
    }

    fn of(socket: std::net::UdpSocket, buffers: BufferSizes) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        let hops = if local.is_ipv4() { socket.ttl()? } else { Reach::Near.hops() };
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let segments = AtomicUsize::new(state.max_gso_segments());
        let state = RwLock::new(state);
        let offload_lost = AtomicBool::new(false);
        Ok(Self { io, state, segments, local, buffers, hops, offload_lost })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn buffers(&self) -> BufferSizes {
        self.buffers
    }

    pub(crate) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let before = self.max_transmit_segments();
        let send = || {
            let state = self.state.read();
            let sent = state.try_send((&self.io).into(), transmit);
            // It may have given up offload whatever became of this one.
            let segments = state.max_gso_segments();
            if segments != before {
                self.segments.store(segments, Ordering::Relaxed);
            }
            sent
        };
        let sent = self.io.try_io(Interest::WRITABLE, send);
        let segmented = transmit.segment_size.is_some_and(|size| size < transmit.contents.len());
        match &sent {
            // One datagram needs no offload, so that it was refused for its addresses.
            Err(_) if !segmented && before > 1 && self.max_transmit_segments() == 1 => self.mend(),
            // Several that went out at once prove that offload works.
            Ok(()) if segmented && before == 1 => self.mend(),
            Err(_)
                if self.max_transmit_segments() == 1
                    && !self.offload_lost.swap(true, Ordering::Relaxed) =>
            {
                tracing::warn!(local = %self.local, "segmentation offload is off: bulk transfer is ~5 times slower");
            }
            _ => {}
        }
        sent
    }

    /// Sends something over IPv4 that arrives nowhere.
    pub(crate) fn send_short(&self, transmit: &Transmit<'_>, reach: Reach) {
        if !self.local.is_ipv4() || self.io.set_ttl(reach.hops()).is_err() {
            return;
        }
        // What another thread sends in this moment is lost, as anything may be on its way.
        let _ = self.try_send(transmit);
        if let Err(e) = self.io.set_ttl(self.hops) {
            tracing::error!(local = %self.local, "datagrams get no further than the next router: {e}");
        }
    }

    /// quinn-udp takes EINVAL as a sign that the system knows no segmentation offload, and leaves it off from then on. Linux
    /// says the same of an address that can't be sent to or from, and any peer can name one: then it starts anew.
    #[cold]
    fn mend(&self) {
        match UdpSocketState::new((&self.io).into()) {
            Ok(state) => {
                let mut known = self.state.write();
                self.segments.store(state.max_gso_segments(), Ordering::Relaxed);
                *known = state;
            }
            Err(e) => tracing::debug!("segmentation offload stays off: {e}"),
        }
    }

    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let mut last = None;
            let received = self.io.try_io(Interest::READABLE, || {
                let received = self.state.read().recv((&self.io).into(), bufs, metas)?;
                if SHORT_IS_LAST && received < bufs.len().min(BATCH_SIZE) {
                    last = Some(received);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(received)
            });
            if let Some(received) = last {
                return Poll::Ready(Ok(received));
            }
            match received {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    /// Whether it takes a datagram, as far as is known.
    pub(crate) fn is_writable(&self) -> bool {
        self.io.try_io(Interest::WRITABLE, || Ok(())).is_ok()
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    pub(crate) fn max_transmit_segments(&self) -> usize {
        self.segments.load(Ordering::Relaxed)
    }

    pub(crate) fn max_receive_segments(&self) -> usize {
        self.state.read().gro_segments()
    }
}

/// Asks for large buffers and reads back what was granted; stock Linux caps them at 212,992 bytes.
fn enlarge(socket: &Socket) -> BufferSizes {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    let granted = BufferSizes {
        receive: socket.recv_buffer_size().unwrap_or(0),
        send: socket.send_buffer_size().unwrap_or(0),
    };
    let short = granted.receive.min(granted.send) < BUFFER_BYTES;
    if short && !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            asked = BUFFER_BYTES,
            receive = granted.receive,
            send = granted.send,
            "small socket buffers: raise net.core.rmem_max and net.core.wmem_max for full speed"
        );
    }
    granted
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    /// What is there to be read, each datagram's first byte.
    async fn read(wire: &UdpWire, buffers: usize) -> io::Result<Vec<u8>> {
        poll_fn(|cx| {
            let mut room = vec![[0; 64]; buffers];
            let mut bufs: Vec<_> = room.iter_mut().map(|r| IoSliceMut::new(r)).collect();
            let mut metas = vec![RecvMeta::default(); buffers];
            let count = ready!(wire.poll_recv(cx, &mut bufs, &mut metas))?;
            Poll::Ready(Ok(bufs[..count].iter().map(|buf| buf[1]).collect()))
        })
        .await
    }

    #[tokio::test]
    async fn what_comes_after_a_short_read_is_read_and_so_is_what_did_not_fit() {
        let wire = UdpWire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |n: u8| sender.send_to(&[[0x40, n].as_slice(), &[0; 28]].concat(), wire.local);
        for round in 0..3 {
            for n in 0..5 {
                send(5 * round + n).unwrap();
            }
            let mut received = Vec::new();
            while received.len() < 5 {
                let more = tokio::time::timeout(Duration::from_secs(10), read(&wire, 2)).await;
                received.extend(more.expect("nothing is read, though it is there").unwrap());
            }
            assert_eq!(received, Vec::from_iter(5 * round..5 * round + 5));
            let more = std::pin::pin!(read(&wire, 2));
            assert!(futures_util::poll!(more).is_pending());
        }
    }

    #[tokio::test]
    async fn a_read_that_leaves_room_is_the_last_until_more_comes() {
        let wire = UdpWire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |n: u8| sender.send_to(&[[0x40, n].as_slice(), &[0; 28]].concat(), wire.local);
        send(1).unwrap();
        assert_eq!(read(&wire, 2).await.unwrap(), [1]);
        send(2).unwrap();
        // The driver has had no turn to say so yet.
        let mut more = std::pin::pin!(read(&wire, 2));
        assert!(futures_util::poll!(more.as_mut()).is_pending());
        assert_eq!(more.await.unwrap(), [2]);
    }

    #[tokio::test]
    async fn an_address_that_nothing_can_be_sent_to_or_from_does_not_cost_the_offload() {
        let there = UdpWire::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr();
        for (local, destination, src_ip) in [
            ("127.0.0.1:0", "192.0.2.7:4433".parse().unwrap(), None),
            ("0.0.0.0:0", there, Some("192.0.2.9".parse().unwrap())),
        ] {
            let wire = UdpWire::bind(local.parse().unwrap()).unwrap();
            let before = wire.max_transmit_segments();
            assert!(before > 1, "this system has no segmentation offload");
            for segment_size in [None, Some(10)] {
                let contents = &[1; 100];
                let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
                wire.io.writable().await.unwrap();
                let refused = wire.try_send(&transmit).unwrap_err();
                assert_ne!(refused.kind(), io::ErrorKind::WouldBlock);
                if segment_size.is_some() {
                    // What goes out tells that it was the address.
                    let good = Transmit { destination: there, src_ip: None, ..transmit };
                    wire.try_send(&good).unwrap();
                }
                assert_eq!(wire.max_transmit_segments(), before, "{destination} from {src_ip:?}");
            }
        }
    }
}
