//! A mesh: one identity, its objects, and its connections to other meshes.
//!
//! - `builder`: how it is started. `ending`, `vigil`, `departures`: how it ends, and the way out of `main`.
//! - `publish`, `recheck`, `named`: names, rules that are asked again, and refs in the process of their actor that fall under them.
//! - `peers`, `stats`, `descriptors`: others, and what it does and needs.
//! - `host`: how refs and connections see it.

pub(crate) mod builder;
pub(crate) mod departures;
pub(crate) mod descriptors;
pub(crate) mod ending;
mod host;
mod named;
pub(crate) mod peers;
pub(crate) mod publish;
mod recheck;
pub(crate) mod stats;
mod vigil;

use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::ground::message::Protocol;
use crate::mesh::ending::{Ending, Hold, WeakDeparting};
use crate::mesh::named::{Named, NamedTargets};
use crate::net::network::Network;
use crate::net::objects::Objects;
use crate::net::refusals::Refusals;
use crate::net::shared::Host;
use crate::refs::access::Access;
use crate::refs::actor_ref::ActorRef;
use crate::refs::binder::WeakBinder;
use crate::refs::near::Limit;
use crate::refs::target::Target;
use crate::refs::watch::DownReason;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use webmesh_registry::Directory;
use webmesh_transport::identity::KeyLock;
use webmesh_transport::placement::Placement;
use webmesh_transport::{Endpoint, Origin, PeerId, PeerRef, SecretKey};

/// One node of the mesh, embedded in this program: an identity, the actors that it hosts, and its connections.
///
/// Cheap to clone; all clones are the same node. A program may have several.
///
/// It ends with [`Mesh::shutdown`], or by itself when the last clone is dropped: its actors are stopped, and it lingers, some 500 ms at
/// the most ([`MeshBuilder::linger`](crate::MeshBuilder::linger)), until every tell that was accepted is in its actor's inlet and all peers were told goodbye. A
/// drop doesn't wait for that; the end of `#[webmesh::main]` does. What couldn't leave is told in the log (`tracing`), with its count.
#[derive(Clone)]
pub struct Mesh {
    hold: Arc<Hold>,
}

pub(crate) struct Inner {
    pub(crate) secret: SecretKey,
    pub(crate) peer: PeerId,
    /// When this mesh was started, in ms since 1970.
    pub(crate) epoch: u64,
    pub(crate) objects: Objects,
    /// The targets of refs that were resolved to its own names.
    pub(crate) named: NamedTargets,
    pub(crate) directory: Directory<Access>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) inlet_capacity: usize,
    /// Near calls are encoded.
    pub(crate) near: Option<Limit>,
    pub(crate) random: Mutex<StdRng>,
    pub(crate) shut_down: AtomicBool,
    /// Keeps others from using the key file, if there is one, until the mesh is shut down.
    pub(crate) key_lock: Mutex<Option<KeyLock>>,
    pub(crate) endpoint: Endpoint,
    pub(crate) network: OnceLock<Arc<dyn Network>>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) ending: Ending,
    /// As those who wait for its end know it.
    pub(crate) itself: WeakDeparting,
}

impl Mesh {
    pub(crate) fn from_inner(inner: impl FnOnce(WeakDeparting) -> Inner) -> Self {
        let inner = Arc::new_cyclic(|itself| inner(WeakDeparting::new(itself.clone())));
        departures::add(inner.itself.clone());
        Self { hold: Arc::new(Hold { inner }) }
    }

    /// The identity of this mesh.
    pub fn peer_id(&self) -> PeerId {
        self.inner().peer
    }

    /// Binds a ref to this mesh: needed for one that was decoded outside of any message (from a file, say). A ref that
    /// is bound to another mesh is bound anew.
    pub fn bind<P: Protocol>(&self, reference: ActorRef<P>) -> ActorRef<P> {
        // What was received in a message stays the word of its sender.
        let origin = match reference.target() {
            Target::Remote(target) => target.origin(),
            _ => Origin::User,
        };
        match reference.wire() {
            Some(wire) => {
                if origin == Origin::User
                    && let Some(network) = self.inner().network.get()
                {
                    network.look_for(&wire);
                }
                ActorRef::new(self.inner().target(wire, origin))
            }
            // Its mesh is gone, and so is the actor: nothing to bind.
            None => reference,
        }
    }

    /// The signed reference by which others find this mesh.
    ///
    /// It changes as addresses come and go; hand out a fresh one.
    pub fn peer_ref(&self) -> PeerRef {
        self.inner().endpoint.peer_ref()
    }

    /// The addresses of its sockets, with their real ports.
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.inner().endpoint.local_addrs()
    }

    /// Waits for SIGINT (ctrl-c) or, on Unix, SIGTERM. Signals are caught from this call on, not only once it is awaited,
    /// so that none is missed between a program's word that it is ready and its waiting.
    ///
    /// ```no_run
    /// # #![allow(unused_imports)]
    /// # use webmesh::{Mesh};
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let asked_to_end = mesh.until_ctrl_c();
    /// println!("ready: {}", mesh.peer_ref());
    /// asked_to_end.await?;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the system refuses to listen for signals, or this is called outside of a tokio runtime.
    ///
    /// # Panics
    /// In a tokio runtime without I/O (`enable_all` is missing).
    pub fn until_ctrl_c(&self) -> impl Future<Output = std::io::Result<()>> + Send + 'static {
        let has_runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            std::io::Error::other("signals are caught by a tokio runtime, and this thread has none")
        });
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signals = has_runtime
                .and_then(|_| signal(SignalKind::interrupt()))
                .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
            async move {
                let (mut interrupt, mut terminate) = signals?;
                tokio::select! {
                    _ = interrupt.recv() => Ok(()),
                    _ = terminate.recv() => Ok(()),
                }
            }
        }
        #[cfg(not(unix))]
        async move {
            has_runtime?;
            tokio::signal::ctrl_c().await
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.hold.inner
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.inner().objects
    }

    /// A fresh id, which nobody can guess.
    pub(crate) fn new_object_id(&self) -> ObjectId {
        let mut id = [0; 16];
        self.inner().random.lock().fill_bytes(&mut id);
        ObjectId(id)
    }

    pub(crate) fn downgrade(&self) -> WeakMesh {
        WeakMesh { hold: Arc::downgrade(&self.hold), inner: Arc::downgrade(&self.hold.inner) }
    }

    /// As refs know it.
    pub(crate) fn binder(&self) -> WeakBinder {
        self.downgrade().binder()
    }

    /// As its connections know it.
    pub(crate) fn host(&self) -> Weak<dyn Host> {
        self.inner().downgrade()
    }
}

impl Inner {
    /// A ref to an object of this mesh, with where that may be found.
    pub(crate) fn wire_ref(
        &self,
        object: ObjectId,
        epoch: u64,
        protocol: impl Into<Cow<'static, str>>,
    ) -> WireRef {
        let mut wire = WireRef {
            peer: self.peer,
            object,
            epoch,
            protocol: protocol.into(),
            publication: None,
            hints: Vec::new(),
            rendezvous: Vec::new(),
        };
        wire.add_whereabouts(&self.endpoint.peer_ref());
        wire
    }

    /// Where the word of `sender` may lead this mesh.
    pub(crate) fn origin_of(&self, sender: PeerId) -> Origin {
        if sender == self.peer {
            return Origin::User;
        }
        self.network.get().map_or(Origin::Internet, |network| network.origin_of(&sender))
    }

    /// What a ref of this name points to, by the word of `origin`.
    pub(crate) fn target(&self, wire: WireRef, origin: Origin) -> Target {
        if wire.peer == self.peer && wire.epoch == 0 {
            return Target::Named(Named::of(self, wire.object, &wire.protocol));
        }
        if wire.peer == self.peer {
            if let Some(target) = self.objects.local(&wire.object, &wire.protocol) {
                return Target::Local(target);
            }
            let reason = self.absent(wire.epoch);
            return Target::Gone(Arc::new((wire, reason)));
        }
        match self.network.get() {
            Some(network) => Target::Remote(network.target(wire, origin)),
            None => Target::Unbound(Arc::new(wire)),
        }
    }

    /// What a watcher of an object that isn't there is told, by the epoch of its ref.
    pub(crate) fn absent(&self, epoch: u64) -> DownReason {
        if epoch == 0 || epoch == self.epoch { DownReason::NoSuchActor } else { DownReason::Stale }
    }

    pub(crate) fn downgrade(&self) -> Weak<Self> {
        self.itself.inner()
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("peer", &self.inner().peer).finish_non_exhaustive()
    }
}

/// A mesh that this holder doesn't keep alive.
#[derive(Clone, Default)]
pub(crate) struct WeakMesh {
    hold: Weak<Hold>,
    inner: Weak<Inner>,
}

impl WeakMesh {
    /// The same, as refs know it.
    pub(crate) fn binder(&self) -> WeakBinder {
        WeakBinder::new(self.inner.clone())
    }

    /// `None` when it's gone. While it lingers it is still there.
    pub(crate) fn upgrade(&self) -> Option<Mesh> {
        let hold = match self.hold.upgrade() {
            Some(hold) => hold,
            None => Arc::new(Hold { inner: self.inner.upgrade()? }),
        };
        Some(Mesh { hold })
    }
}
