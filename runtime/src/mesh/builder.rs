//! Starting a mesh.

use crate::mailbox::CAPACITY;
use crate::mesh::ending::Ending;
use crate::mesh::named::NamedTargets;
use crate::mesh::{Inner, Mesh, departures};
use crate::net::connections::Links;
use crate::net::objects::Objects;
use crate::net::outbound::room::Limits;
use crate::net::shared::Sizes;
use crate::refs::near;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use webmesh_registry::Directory;
#[cfg(feature = "sim")]
use webmesh_transport::MemoryNetwork;
use webmesh_transport::identity::{KeyLock, VersionCounter};
#[cfg(feature = "port-mapping")]
use webmesh_transport::nat::Router;
use webmesh_transport::placement::{InPlace, Placement, PlacementError, Threads};
use webmesh_transport::{
    BindError, Endpoint, EndpointConfig, FEATURE_CANCEL, FEATURE_ENVELOPE, FEATURE_WATCHING,
    FEATURE_WITHDRAW, KeyFileError, Patience, PeerRef, RelayTls, SecretKey, Service, Windows,
};

/// The largest message, bodies included, unless set otherwise: 64 MiB.
pub const BODY_MAX: usize = 64 << 20;

/// The most to which it can be set: several of that, with all that comes on top, can still be added up. A guess, beyond any memory.
const BODY_MAX_MAX: usize = if usize::BITS > 48 { 1 << (usize::BITS / 4 * 3) } else { usize::MAX };

/// The name of the key file in a data directory.
const KEY_FILE: &str = "identity.key";

/// Lanes to one host unless set otherwise, and the most that may be set: quinn keeps a table of all streams that a peer may open. Guesses: 64 keeps it
/// below the 112 at which it doubles (`webmesh_transport::Windows`).
const LANES_MAX: usize = 64;
const LANES_MAX_MAX: usize = 4096;

/// Large replies that are held here until their askers take them, in messages of the largest size: as many as the other side keeps for
/// askers that don't read (docs/guarantees.md).
const REPLIES_PER_PEER: u64 = 4;
/// See [`REPLIES_PER_PEER`].
const REPLIES_PER_MESH: u64 = 16;

/// Why a mesh could not be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The key file cannot be used; the error says why.
    #[error(transparent)]
    Identity(#[from] KeyFileError),
    /// The directory for the identity could not be made.
    #[error("the data directory {} can't be made: {source}; give the path of a directory that can be written", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The threads, or the place on this thread, could not be had.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The network could not be had, or a node that was named to be joined can't be; the error says why.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

enum Identity {
    Fresh,
    Key(SecretKey),
    File(PathBuf),
    DataDir(PathBuf),
}

enum Place {
    Threads,
    InPlace,
}

/// A mesh to be started; by [`Mesh::builder`]. Everything has a default.
#[must_use = "nothing is started until `start` is awaited"]
pub struct MeshBuilder {
    identity: Identity,
    place: Place,
    seed: u64,
    listen: Vec<SocketAddr>,
    advertise: Vec<SocketAddr>,
    body_max: usize,
    replies_max: Option<(u64, u64)>,
    lanes_max: usize,
    encode_near: bool,
    patience: Patience,
    #[cfg(feature = "port-mapping")]
    map_port: Option<Router>,
    #[cfg(feature = "sim")]
    memory: Option<MemoryNetwork>,
    inlet_capacity: usize,
    linger: Option<Duration>,
    serve: bool,
    relay: Option<bool>,
    service: Service,
    join: Vec<PeerRef>,
    rendezvous: Option<usize>,
    relay_tls: RelayTls,
    proxy: Option<SocketAddr>,
}

impl Mesh {
    /// Describes a mesh to be started.
    ///
    /// ```
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// let mesh = webmesh::Mesh::builder()
    ///     .data_dir(dir.path()) // the same identity next time
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .start()
    ///     .await?;
    /// println!("find me at {}", mesh.peer_ref());
    /// mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> MeshBuilder {
        MeshBuilder::new()
    }
}

impl std::fmt::Debug for MeshBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshBuilder").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl MeshBuilder {
    pub(crate) fn new() -> Self {
        Self {
            identity: Identity::Fresh,
            place: Place::Threads,
            seed: 0,
            listen: Vec::new(),
            advertise: Vec::new(),
            body_max: BODY_MAX,
            replies_max: None,
            lanes_max: LANES_MAX,
            encode_near: false,
            patience: Patience::default(),
            #[cfg(feature = "port-mapping")]
            map_port: None,
            #[cfg(feature = "sim")]
            memory: None,
            inlet_capacity: CAPACITY,
            linger: None,
            serve: true,
            relay: None,
            service: Service::default(),
            join: Vec::new(),
            rendezvous: None,
            relay_tls: RelayTls::Nowhere,
            proxy: None,
        }
    }

    /// Uses the key in this file, which is created (readable by its owner only) if there is none. Without any identity
    /// the mesh gets a fresh one for this run. One mesh at a time runs with one key file:
    /// [`start`](Self::start) refuses a second one until the first is shut down or its process has ended.
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let file = dir.path().join("node.key");
    /// let local = "127.0.0.1:0".parse()?;
    /// let mesh = Mesh::builder().identity_file(&file).listen(local).start().await?;
    /// let name = mesh.peer_id();
    /// mesh.shutdown().await;
    /// let again = Mesh::builder().identity_file(&file).listen(local).start().await?;
    /// assert_eq!(again.peer_id(), name);
    /// # again.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn identity_file(mut self, path: impl AsRef<Path>) -> Self {
        self.identity = Identity::File(path.as_ref().into());
        self
    }

    /// Uses the key `identity.key` in this directory; both are created if need be. One mesh at a time, as with
    /// [`identity_file`](Self::identity_file).
    pub fn data_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.identity = Identity::DataDir(path.as_ref().into());
        self
    }

    /// Uses this key.
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.identity = Identity::Key(key);
        self
    }

    /// Listens on this address; port 0 is any free one. May be called several times. Default: all interfaces, any port.
    ///
    /// ```no_run
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// let mesh = Mesh::builder()
    ///     .listen("0.0.0.0:4433".parse()?)
    ///     .listen("[::]:4433".parse()?) // IPv6 alone
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Puts this address into the PeerRef, in place of the interfaces' own: a forwarded port, say. May be called several
    /// times.
    ///
    /// ```no_run
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// let mesh = Mesh::builder()
    ///     .listen("0.0.0.0:4433".parse()?)
    ///     .advertise("203.0.113.7:4433".parse()?) // the router forwards it
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise.push(address);
        self
    }

    /// Runs everything on a network thread and a pool of actor threads of the mesh's own. The default.
    pub fn threads(mut self) -> Self {
        self.place = Place::Threads;
        self
    }

    /// Runs everything on the current-thread runtime and `LocalSet` that `start` is awaited on, so that under tokio's
    /// paused clock a whole mesh can be tested repeatably. `#[webmesh::test]` provides both.
    pub fn in_place(mut self) -> Self {
        self.place = Place::InPlace;
        self
    }

    /// The seed of everything random that decides the order of events, *in place*; 0 unless set. Object ids are drawn
    /// from it too, so only tests should be in place.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Has a router forward a port to this mesh, by PCP, NAT-PMP or UPnP-IGD (feature `port-mapping`): others then reach it
    /// directly, and its PeerRef names the address. A router that refuses changes nothing. Default: none is asked.
    #[cfg(feature = "port-mapping")]
    pub fn map_port(mut self, router: Router) -> Self {
        self.map_port = Some(router);
        self
    }

    /// Uses a simulated network in place of the system's (feature `sim`). It needs explicit addresses to `listen` on,
    /// such as `10.0.0.1:4000`. For tests in place.
    #[cfg(feature = "sim")]
    pub fn memory_network(mut self, network: &MemoryNetwork) -> Self {
        self.memory = Some(network.clone());
        self
    }

    /// The largest message to another mesh, or from one, and the largest reply, in bytes. Default: 64 MiB. What counts is the content: texts, byte strings and
    /// [`Bytes`](crate::Bytes) larger than 64 KiB, by their own lengths. The rest (names of fields, lengths, numbers, shorter texts) is the envelope, up to
    /// 64 KiB as they are encoded, and counts beyond that; where there is nothing else, all of it counts. So a `String` of exactly so many bytes
    /// passes, and one byte more does not; of a list of numbers, its encoding less 64 KiB. Messages within this mesh are never encoded and have no
    /// such bound; see [`encode_near`](Self::encode_near). More than 256 TiB counts as that.
    pub fn body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes.min(BODY_MAX_MAX);
        self
    }

    /// How much memory the large replies (above 64 KiB) of one peer, and of all peers, may take here until their askers take them, in bytes;
    /// further ones wait for their turn. Each is at least one message of the largest size. Default: 4 and 16 of those, that is 256 MiB
    /// and 1 GiB. docs/guarantees.md, "Bounds", says what may come on top.
    ///
    /// ```no_run
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// let small = Mesh::builder().body_max(1 << 20).replies_max(2 << 20, 8 << 20).start().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn replies_max(mut self, per_peer: u64, per_mesh: u64) -> Self {
        self.replies_max = Some((per_peer, per_mesh));
        self
    }

    /// To how many actors of one host this mesh keeps a stream open at a time, and how many streams a host may keep open to actors here; 1 to
    /// 4,096. Beyond that the stream that is used least is ended for the next one, which costs the two round trips that it takes to open it again. A
    /// host that uses more of another's actors all the time needs more on both sides. Each costs about 2 KB while it is open, and what a peer may open costs
    /// some bytes of each connection. Default: 64.
    ///
    /// ```no_run
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// let hub = Mesh::builder().lanes_max(1_000).start().await?; // each of its peers keeps many rooms
    /// # Ok(())
    /// # }
    /// ```
    pub fn lanes_max(mut self, lanes: usize) -> Self {
        self.lanes_max = lanes.clamp(1, LANES_MAX_MAX);
        self
    }

    /// Has calls of actors of this very mesh encoded and decoded as those of another mesh's are: with the bounds of size, with
    /// `Unencodable`, `BadPayload`, `BadReply` and `TooLarge`, and with refs in them bound anew. By default a near message is handed over as it
    /// is, whatever its size, and its `Serialize` and `Deserialize` aren't called: a test that runs in one mesh sees nothing of what would fail between two. For tests; it
    /// costs what encoding costs. What can't be delivered is told by the call itself, also to a `tell`.
    ///
    /// ```
    /// # use webmesh::{prelude::*, AskError, Bytes, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "put", reply = u64)]
    /// # struct Put(Bytes);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "store/1", accepts(Put))]
    /// # struct Store;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Store))]
    /// # struct StoreActor;
    /// # impl Actor for StoreActor { type Context = Context<Self>; }
    /// # impl Handler<Put> for StoreActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, put: Put, _: &mut Context<Self>) -> u64 { put.0.len() as u64 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// let local = "127.0.0.1:0".parse()?;
    /// let mesh = Mesh::builder().listen(local).body_max(1 << 20).encode_near(true).start().await?;
    /// let store = mesh.spawn(StoreActor::default);
    /// assert_eq!(store.ask(Put(vec![0; 1 << 20].into())).await?, 1 << 20);
    /// let refused = store.ask(Put(vec![0; (1 << 20) + 1].into())).await;
    /// assert_eq!(refused, Err(AskError::TooLarge { limit: 1 << 20 }));
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn encode_near(mut self, encode: bool) -> Self {
        self.encode_near = encode;
        self
    }

    /// After how long a silent peer is given up. Default: 60 s.
    pub fn peer_gone_after(mut self, silence: Duration) -> Self {
        self.patience.gone_after = silence;
        self
    }

    /// After how long pending asks to a silent peer end as `Unreachable`. Default: 5 s.
    pub fn unreachable_after(mut self, silence: Duration) -> Self {
        self.patience.unreachable_after = silence;
        self
    }

    /// How often the host of a watched actor is asked whether it is there, for as long as nothing else shows that; each 500 ms after the
    /// first time that it doesn't answer. It is `Unreachable` so long and [`unreachable_after`](Self::unreachable_after) after
    /// its death at the latest, and its restart at the same address is told within so long. Default: 2 s, for which each such host costs 3,600
    /// datagrams and 284 KB an hour, answers and headers of UDP and IPv4 included, however many of its actors are watched. Where a radio's wake-ups
    /// matter: 20 s, with 360 datagrams and 28 KB. From 10 ms to 20 s, at which idle hosts are asked too.
    pub fn watch_every(mut self, pause: Duration) -> Self {
        self.patience.watch_every = pause;
        self
    }

    /// Whether other hosts may use this one as their rendezvous, within limits: where it can be reached, it introduces them to each other, which
    /// costs a few datagrams for each meeting and 47 KiB of memory for each host that keeps a session. Default: yes. It relays for them only
    /// if asked to ([`relay`](Self::relay)).
    pub fn serve(mut self, serve: bool) -> Self {
        self.serve = serve;
        self
    }

    /// Whether this mesh relays between hosts that it introduces and that can't reach each other directly, strangers included: up to 4 MiB a
    /// second for each of them and 64 in all, as [`Service`] has it. Default: no, for a program that embeds a mesh shouldn't carry other people's traffic
    /// unasked; `webmesh node` does by default. Hosts that meet by way of rendezvous none of which relays still reach each other where
    /// their NATs let them punch; the others get [`ConnectError::NoRelay`](crate::ConnectError::NoRelay).
    ///
    /// ```no_run
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// let node = Mesh::builder().listen("0.0.0.0:4433".parse()?).relay(true).start().await?; // a public node for others
    /// # node.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn relay(mut self, relay: bool) -> Self {
        self.relay = Some(relay);
        self
    }

    /// What other hosts get from this one as their rendezvous, and as a relay, if it serves: how many sessions, introductions and
    /// relayed bytes. The default is what a small public node bears, without relaying; see [`Service`].
    pub fn service(mut self, service: Service) -> Self {
        self.service = service;
        self
    }

    /// Attaches to this public node as a rendezvous, so that others reach this mesh wherever it is: they are introduced
    /// there, and what the two NATs let through goes directly, the rest through the node. May be called several times:
    /// sessions are kept with as many of them as [`MeshBuilder::rendezvous`] says, and the others stand by. Await
    /// [`Mesh::attached`] before you hand out [`Mesh::peer_ref`].
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let node = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// # let text = node.peer_ref().to_string();
    /// let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).join(text.parse()?).start().await?; // wm1…, a public node
    /// mesh.attached().await;
    /// println!("strangers reach me by {}", mesh.peer_ref());
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(mut self, node: PeerRef) -> Self {
        self.join.push(node);
        self
    }

    /// Takes tunnels of TLS over TCP on this address, for hosts whose network blocks UDP. They try port 443 by themselves;
    /// another port they learn from sessions with this node. Default: none are taken.
    pub fn relay_tls(mut self, address: SocketAddr) -> Self {
        self.relay_tls = RelayTls::At(address);
        self
    }

    /// The same, but where nothing can listen there, the mesh starts without and logs a warning.
    pub fn relay_tls_if_free(mut self, address: SocketAddr) -> Self {
        self.relay_tls = RelayTls::IfFree(address);
        self
    }

    /// Dials tunnels by way of this HTTP proxy (CONNECT).
    pub fn proxy(mut self, address: SocketAddr) -> Self {
        self.proxy = Some(address);
        self
    }

    /// With how many rendezvous a session is kept at a time; default: 2, so that one may end. Each costs a datagram of
    /// 51 bytes and its answer every 20 s in either direction: ~57 KB an hour with the headers of UDP and IP, and a radio
    /// that wakes up three times a minute. 0: none.
    pub fn rendezvous(mut self, sessions: usize) -> Self {
        self.rendezvous = Some(sessions);
        self
    }

    /// How many messages an actor's inlet holds before senders have to wait. Default: 4,096.
    pub fn inlet_capacity(mut self, messages: usize) -> Self {
        self.inlet_capacity = messages;
        self
    }

    /// How long the mesh may go on once nobody holds it, until what it accepted has left; it ends as soon as that is so. It is the
    /// longest that tells are waited for. Default: 500 ms, or four round trips to the farthest peer that hasn't confirmed everything, but
    /// no more than 5 s.
    ///
    /// A tell has *left* when the other side has it in its actor's inlet and has said so: only then a program may end without
    /// taking it along. What hasn't by then is taken back: each peer is asked what it got, and waited for as long as it gives signs of
    /// life (it may be silent for 500 ms, or four times as long as it took before to answer), 5 s at the most. The log tells, with its
    /// count, what is `lost` for certain, and apart from it what is `unconfirmed`: sent to a peer that says nothing more.
    ///
    /// 0: nothing is waited for but that word.
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// use std::time::Duration;
    ///
    /// let mesh = Mesh::builder()
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .linger(Duration::from_secs(10)) // over slow lines
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn linger(mut self, limit: Duration) -> Self {
        self.linger = Some(limit);
        self
    }

    /// Starts it. If a mesh that was dropped in this program still lingers under the same key file, waits for its end first.
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// use webmesh::StartError;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let start = || Mesh::builder().data_dir(dir.path()).listen("127.0.0.1:0".parse().unwrap()).start();
    /// let mesh = start().await?;
    /// match start().await {
    ///     Err(StartError::Identity(error)) => println!("{error}"), // it is running already
    ///     _ => unreachable!(),
    /// }
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Mesh, StartError> {
        let (secret, key_file) = match &self.identity {
            Identity::Fresh => (SecretKey::generate(), None),
            Identity::Key(key) => (SecretKey::from_bytes(key.to_bytes()), None),
            Identity::File(path) => (SecretKey::load_or_create(path)?, Some(path.clone())),
            Identity::DataDir(path) => (identity_in(path)?, Some(path.join(KEY_FILE))),
        };
        let in_place = matches!(self.place, Place::InPlace);
        let (placement, random): (Arc<dyn Placement>, _) = match self.place {
            Place::Threads => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(StartError::Random)?;
                (Arc::new(Threads::start()?), StdRng::from_seed(seed))
            }
            Place::InPlace => {
                let peer = secret.peer_id();
                // Two meshes of one seed must not draw the same ids.
                let salt = u64::from_le_bytes(std::array::from_fn(|i| peer.as_bytes()[i]));
                (Arc::new(InPlace::new(self.seed)?), StdRng::seed_from_u64(self.seed ^ salt))
            }
        };
        if key_file.is_some() {
            departures::key_is_free(secret.peer_id(), placement.as_ref()).await;
        }
        let key_lock = key_file.as_ref().map(KeyLock::take).transpose()?;
        let versions = key_file.map_or_else(VersionCounter::in_memory, VersionCounter::beside);
        let mut service = self.service;
        match self.relay {
            Some(true) => service.relaying = service.relaying.or(Service::with_relay().relaying),
            Some(false) => service.relaying = None,
            None => {}
        }
        let plain = EndpointConfig::new(SecretKey::from_bytes(secret.to_bytes()));
        // As many as a peer of the same setting opens, with HELLO and control, and what quinn announces only after an eighth has ended.
        let streams = self.lanes_max + 2 + (self.lanes_max / 8).max(2) + 4;
        let windows = Windows {
            lanes_max: u32::try_from(streams).unwrap_or(u32::MAX),
            ..plain.windows.clone()
        };
        let config = EndpointConfig {
            windows,
            join: self.join,
            relay_tls: self.relay_tls,
            proxy: self.proxy,
            sessions: self.rendezvous.unwrap_or(plain.sessions),
            versions,
            listen: self.listen,
            advertise: self.advertise,
            patience: self.patience,
            #[cfg(feature = "port-mapping")]
            map_port: self.map_port,
            #[cfg(feature = "sim")]
            network: self.memory,
            service: self.serve.then_some(service),
            features: FEATURE_CANCEL | FEATURE_ENVELOPE | FEATURE_WATCHING | FEATURE_WITHDRAW,
            ..plain
        };
        let largest = self.body_max as u64;
        let (per_peer, per_mesh) = self.replies_max.unwrap_or((
            largest.saturating_mul(REPLIES_PER_PEER),
            largest.saturating_mul(REPLIES_PER_MESH),
        ));
        let replies_max =
            Limits { per_peer: per_peer.max(largest), per_mesh: per_mesh.max(largest) };
        let sizes = Sizes { message_max: self.body_max, replies_max, lanes_max: self.lanes_max };
        let links = Links::new(placement.clone(), sizes);
        let endpoint = Endpoint::bind(config, placement.clone(), links.observer()).await?;
        let ending = Ending::new(in_place, self.linger);
        let mesh = Mesh::from_inner(|itself| Inner {
            peer: secret.peer_id(),
            secret,
            epoch: new_epoch(),
            objects: Objects::default(),
            named: NamedTargets::default(),
            directory: Directory::new(),
            placement,
            inlet_capacity: self.inlet_capacity,
            near: self.encode_near.then(|| near::Limit::new(self.body_max)),
            random: Mutex::new(random),
            shut_down: AtomicBool::new(false),
            key_lock: Mutex::new(key_lock),
            endpoint: endpoint.clone(),
            network: OnceLock::from(links.clone().network()),
            refusals: links.refusals().clone(),
            ending,
            itself,
        });
        links.start(mesh.host(), mesh.binder(), endpoint);
        Ok(mesh)
    }
}

/// Loads the identity in a data directory, and creates both if need be: private ones.
///
/// # Errors
/// [`StartError::DataDir`] or [`StartError::Identity`].
pub fn identity_in(path: impl AsRef<Path>) -> Result<SecretKey, StartError> {
    let path = path.as_ref();
    let mut directory = std::fs::DirBuilder::new();
    directory.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory.create(path).map_err(|source| StartError::DataDir { path: path.into(), source })?;
    Ok(SecretKey::load_or_create(path.join(KEY_FILE))?)
}

/// The present time in ms, but never one that this process has used already.
fn new_epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // 584 million years fit.
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1);
    let last = LAST.fetch_max(now, Ordering::Relaxed);
    if last < now { now } else { LAST.fetch_add(1, Ordering::Relaxed) + 1 }
}
