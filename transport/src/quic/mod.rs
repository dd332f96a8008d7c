//! How quinn is set up: its configuration, its runtime and its randomness.
//!
//! - `tls`: keys in place of certificates
//! - `cid`: connection ids that survive a restart
//! - `congestion`: congestion control that starts anew on another road
//! - `acks`: what QUIC got acknowledged along the road in use
//! - `rtt`: how long answers take on one road

pub(crate) mod acks;
pub(crate) mod cid;
pub(crate) mod congestion;
pub(crate) mod rtt;
pub(crate) mod tls;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn::{AsyncTimer, AsyncUdpSocket, ConnectionId, VarInt};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use ring::{hkdf, hmac};
use tokio::{runtime::Handle, time::sleep_until};

use crate::{
    identity::SecretKey,
    limits::Limits,
    placement::{Placement, inline::Inline},
    quic::{
        cid::{Cids, Generator},
        congestion::PerRoadConfig,
        tls::Tls,
    },
    wire::frame::MTU_MAX,
};

/// The QUIC version that is spoken here (RFC 9000); everything else is refused unanswered.
pub(crate) const QUIC_V1: u32 = 1;

/// How often a larger MTU is sought: quinn's 600 s would leave a path small for ten minutes after a
/// loss was taken for a black hole (docs/measurements.md).
const MTU_INTERVAL: Duration = Duration::from_secs(60);

/// Until measured; makes the first retransmission of a handshake come after 0.3 s. A guess between
/// RFC 9002's 333 ms, with which one lost packet costs a second, and the median internet round trip.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Packets that a peer may receive before it acknowledges them at once (draft-ietf-quic-ack-frequency); otherwise it waits for
/// something of its own to send, or for [`ACK_DELAY_MAX`]. By QUIC's own rule every second packet draws an acknowledgement, which
/// goes ahead of the answer to it in a datagram of its own and wakes this host twice. An initial window has twelve, so slow start
/// isn't held up; a gap is acknowledged at once all the same. docs/decisions/0009-answers-carry-acknowledgements.md.
const ACK_AFTER: u32 = 8;

/// How long a peer may keep an acknowledgement back: time for an actor to answer, and little beside a round trip between hosts. A
/// guess; QUIC's default is 25 ms.
const ACK_DELAY_MAX: Duration = Duration::from_millis(5);

/// The connection window of a peer that hasn't completed HELLO yet, in bytes (docs/architecture.md).
const STRANGER_WINDOW: u32 = 256 << 10;

/// Streams that a peer may open before its HELLO: the one that carries it.
const STRANGER_STREAMS: u32 = 1;

/// Handshakes that quinn holds while the accept loop is busy; each up to [`INCOMING_BYTES_MAX`].
const INCOMING_MAX: usize = 256;

/// Bytes that quinn buffers for one handshake that isn't accepted yet.
const INCOMING_BYTES_MAX: u64 = 8 << 10;

/// Windows and numbers of streams on connections to authenticated peers.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Bytes a peer may send before the application has read them, over all streams of a connection.
    pub connection: u32,
    /// The same for each single stream.
    pub stream: u32,
    /// Bytes that one connection holds unacknowledged at the sender.
    pub send: u64,
    /// Two-way streams (lanes) that a peer may keep open at a time.
    pub lanes_max: u32,
    /// One-way streams (large bodies) that a peer may keep open at a time.
    pub bodies_max: u32,
}

impl Default for Windows {
    /// Large windows with large socket buffers nearly double bulk on loopback (docs/measurements.md); the exact
    /// sizes are a guess that fits 1 Gbit/s over 130 ms. quinn keeps a table of all streams that may be
    /// opened, which doubles beyond 112 (by 3.2 KB, measured); ours and the peer's fit below that.
    fn default() -> Self {
        Self {
            connection: 16 << 20,
            stream: 16 << 20,
            send: 16 << 20,
            lanes_max: 80,
            bodies_max: 16,
        }
    }
}

impl Windows {
    /// Gives an authenticated peer its full share.
    pub(crate) fn open(&self, connection: &quinn::Connection) {
        connection.set_receive_window(VarInt::from_u32(self.connection));
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.lanes_max));
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(self.bodies_max));
    }
}

fn transport(windows: &Windows) -> quinn::TransportConfig {
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX).interval(MTU_INTERVAL);
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER)).max_ack_delay(Some(ACK_DELAY_MAX));
    let mut transport = quinn::TransportConfig::default();
    transport
        // Liveness is the path core's; a handshake has its own limit.
        .max_idle_timeout(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .stream_receive_window(VarInt::from_u32(windows.stream))
        .send_window(windows.send)
        .datagram_receive_buffer_size(None)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(PerRoadConfig::default()));
    transport
}

/// What is needed to dial with quinn.
pub(crate) struct Quic {
    pub(crate) endpoint: quinn::Endpoint,
    named: quinn::ClientConfig,
    anyone: quinn::ClientConfig,
    runtime: Arc<NetworkRuntime>,
}

impl Quic {
    /// Starts the QUIC endpoint. Must be called on the network thread.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn start(
        secret: &SecretKey,
        tls: &Tls,
        windows: &Windows,
        limits: &Limits,
        cids: Arc<Cids>,
        socket: Arc<dyn AsyncUdpSocket>,
        placement: &dyn Placement,
        seed: Option<u64>,
    ) -> io::Result<Self> {
        let transport = Arc::new(transport(windows));
        let mut server = quinn::ServerConfig::new(tls.server.clone(), token_key(secret));
        server
            .transport_config(transport.clone())
            // Roads are ours.
            .migration(false)
            .max_incoming(INCOMING_MAX.min(limits.half_open_max.max(1)))
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX * INCOMING_MAX as u64);

        let mut config = quinn::EndpointConfig::new(Arc::new(reset_key(secret)));
        config
            // Packets with a cleared fixed bit would look like our own frames.
            .grease_quic_bit(false)
            .supported_versions(vec![QUIC_V1])
            .cid_generator(move || Box::new(Generator(cids.clone())))
            .rng_seed(seed.map(|seed| rng(Some(seed ^ 1)).random()));

        let ids = Arc::new(Mutex::new(rng(seed.map(|seed| seed ^ 2))));
        let client = |crypto: &Arc<quinn::crypto::rustls::QuicClientConfig>| {
            let mut client = quinn::ClientConfig::new(crypto.clone());
            let ids = ids.clone();
            client.transport_config(transport.clone()).initial_dst_cid_provider(Arc::new(
                move || {
                    let mut id = [0; 20];
                    ids.lock().fill_bytes(&mut id);
                    ConnectionId::new(&id)
                },
            ));
            client
        };
        let (named, anyone) = (client(&tls.named), client(&tls.anyone));
        let runtime = Arc::new(NetworkRuntime {
            network: placement.network().clone(),
            driver: Mutex::new(Watched::Nobody),
        });
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            config,
            Some(server),
            socket,
            runtime.clone(),
        )?;
        Ok(Self { endpoint, named, anyone, runtime })
    }

    /// Runs `make`, which makes a connection, and says which task drives that.
    ///
    /// quinn starts it inside `connect` and `accept`; all of its calls come from the network thread, so the task started
    /// meanwhile is the one.
    pub(crate) fn watch<T>(&self, make: impl FnOnce() -> T) -> (T, Option<Inline>) {
        *self.runtime.driver.lock() = Watched::Awaited;
        let made = make();
        let driver = std::mem::replace(&mut *self.runtime.driver.lock(), Watched::Nobody);
        (made, if let Watched::Started(driver) = driver { Some(driver) } else { None })
    }

    /// The configuration for a dial to a known key, or to whoever answers.
    pub(crate) fn client(&self, named: bool) -> quinn::ClientConfig {
        if named { self.named.clone() } else { self.anyone.clone() }
    }
}

/// A generator that repeats itself if seeded.
pub(crate) fn rng(seed: Option<u64>) -> StdRng {
    match seed {
        Some(seed) => StdRng::seed_from_u64(seed),
        None => StdRng::from_rng(&mut rand::rng()),
    }
}

/// Derived from the secret, so that a restarted host can reset the connections of its former self.
fn reset_key(secret: &SecretKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &secret.derive::<32>("reset"))
}

/// Derived from the secret, so that a Retry survives a restart.
fn token_key(secret: &SecretKey) -> Arc<dyn quinn::crypto::HandshakeTokenKey> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    Arc::new(salt.extract(&secret.derive::<32>("token")))
}

/// quinn's view of the network runtime: its tasks run there whoever starts them, and its clock is
/// tokio's, which may be paused.
#[derive(Debug)]
struct NetworkRuntime {
    network: Handle,
    /// The task of the connection that is being made.
    driver: Mutex<Watched>,
}

#[derive(Debug)]
enum Watched {
    /// Whatever quinn starts is its own affair.
    Nobody,
    /// The next task is a connection's.
    Awaited,
    Started(Inline),
}

impl quinn::Runtime for NetworkRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _inside = self.network.enter();
        Box::pin(sleep_until(at.into()))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut driver = self.driver.lock();
        if matches!(*driver, Watched::Awaited) {
            *driver = Watched::Started(Inline::spawn_boxed(&self.network, future));
        } else {
            self.network.spawn(future);
        }
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
