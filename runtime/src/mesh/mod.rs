//! A mesh: one identity, its objects, where its actors run, and its connections to other meshes.

mod decode_scope;
mod descriptors;
mod ending;
mod peers;
mod vigil;

pub(crate) use decode_scope::DecodeScope;
pub use descriptors::Descriptors;
pub(crate) use ending::{Departing, Ending, WeakDeparting};
pub use peers::{PingError, Pong};

use crate::access::Access;
use crate::actor_cell::ActorCell;
use crate::actor_ref::{ActorRef, Target};
use crate::attach::Attach;
use crate::builder::MeshBuilder;
use crate::context::Current;
use crate::departures;
use crate::dispatch::RemoteActor;
use crate::inlet::Hand;
use crate::message::Protocol;
use crate::named;
use crate::network::Network;
use crate::objects::Objects;
use crate::publish::{Publish, Recheck, Resolve, Unpublish};
use crate::pump::Pump;
use crate::refusals::Refusals;
use crate::spawn::Spawner;
use crate::watch::DownReason;
use crate::wire_ref::{ObjectId, WireRef};
use actix::{Addr, AsyncContext};
use ending::Hold;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use webmesh_registry::Directory;
use webmesh_transport::identity::KeyLock;
use webmesh_transport::placement::{Named, Placement};
use webmesh_transport::{Endpoint, Origin, PeerId, PeerRef, SecretKey};

/// One node of the mesh, embedded in this program: an identity, the actors that it hosts, and its connections.
///
/// Cheap to clone; all clones are the same node. A program may have several.
///
/// It ends with [`Mesh::shutdown`], or by itself when the last clone is dropped: its actors are stopped, and it lingers, some 500 ms at
/// the most ([`MeshBuilder::linger`]), until every tell that was accepted is in its actor's inlet and all peers were told goodbye. A
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
    pub(crate) directory: Directory<Access>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) inlet_capacity: usize,
    /// Near calls are encoded.
    pub(crate) near: Option<crate::near::Limit>,
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

    pub(crate) fn from_inner(inner: impl FnOnce(WeakDeparting) -> Inner) -> Self {
        let inner = Arc::new_cyclic(|itself| inner(WeakDeparting::new(itself.clone())));
        departures::add(inner.itself.clone());
        Self { hold: Arc::new(Hold { inner }) }
    }

    /// The identity of this mesh.
    pub fn peer_id(&self) -> PeerId {
        self.inner().peer
    }

    /// Spawns a supervised actor on the least loaded of the mesh's threads. The factory makes its first instance and,
    /// after a panic, the next one. Returns at once; messages sent before the actor has started wait in its inlet.
    ///
    /// The actor lives until it stops itself (`ctx.stop()`), panics for good, or the mesh ends, whether or not anybody
    /// holds a ref. After a shutdown of the mesh it ends at once.
    ///
    /// ```
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let start = 40;
    /// let sum = mesh.spawn(move || SumActor(start));
    /// assert_eq!(sum.ask(Add(2)).await?, 42);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<A, F>(&self, factory: F) -> ActorRef<A::Main>
    where
        A: RemoteActor,
        F: FnMut() -> A + Send + 'static,
    {
        self.spawner().spawn(factory)
    }

    /// As [`spawn`](Self::spawn), with choices: restart policy and capacity.
    pub fn spawner(&self) -> Spawner {
        Spawner::new(self.clone())
    }

    /// Gives a running actix actor an inlet, so that it can be reached through refs as well as through its `Addr`. It
    /// isn't supervised: a panic is its end. FIFO between refs and `Addr`s isn't promised.
    ///
    /// For an actor to be there, `Actor::start()` needs a `LocalSet`: see [`start_exposed`](Self::start_exposed) where there is none.
    ///
    /// Being exposed keeps the actor running after its last `Addr` is dropped. Inside its handlers `this`, `mesh` and
    /// the others work as soon as it has been exposed. When the mesh shuts down, the actor goes on without it.
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let address = SumActor(40).start(); // as actix starts it, on this thread
    /// let sum = mesh.expose(&address);
    /// assert_eq!(sum.ask(Add(2)).await?, 42);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn expose<A: RemoteActor>(&self, address: &Addr<A>) -> ActorRef<A::Main> {
        let cell = ActorCell::<A>::new(self, self.inner().inlet_capacity);
        let reference = cell.reference::<A::Main>(self);
        let mut arrival = Arrival(Some(cell));
        address.do_send(Attach::new(move |ctx| {
            if let Some(cell) = arrival.0.take() {
                Current::remember_alone(ctx.address(), cell.clone());
                ctx.spawn(Pump::alone(cell));
            }
        }));
        reference
    }

    /// Starts a plain actix actor on the least loaded of the mesh's threads, and [exposes](Self::expose) it: for programs whose own
    /// threads can't have one. `Actor::start()` needs a `LocalSet` around it, which `#[webmesh::main]` and `#[actix::main]` bring;
    /// under `#[tokio::main]` it panics, and the text is tokio's.
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// #[tokio::main]
    /// async fn main() -> webmesh::Result<()> {
    ///     let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    ///     let (address, sum) = mesh.start_exposed(|| SumActor(40)).await?;
    ///     assert_eq!(sum.ask(Add(2)).await?, 42);
    ///     # drop(address);
    ///     mesh.shutdown().await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`MeshEnded`]; nothing was started.
    pub async fn start_exposed<A: RemoteActor>(
        &self,
        make: impl FnOnce() -> A + Send + 'static,
    ) -> Result<(Addr<A>, ActorRef<A::Main>), MeshEnded> {
        if self.inner().shut_down.load(Ordering::Acquire) {
            return Err(MeshEnded);
        }
        let (started, start) = tokio::sync::oneshot::channel();
        let task =
            Box::new(move || Box::pin(async move { drop(started.send(make().start())) }) as _);
        self.inner().placement.spawn_actor(task, Arc::new(OfType(std::any::type_name::<A>())));
        let address = start.await.map_err(|_| MeshEnded)?;
        let reference = self.expose(&address);
        Ok((address, reference))
    }

    /// Publishes an actor under a name: `mesh.publish("chat/rust", &room).version("1.2.0").allow(Anyone).await?`.
    /// See [`Publish`].
    ///
    /// ```
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let sum = mesh.spawn(SumActor::default);
    /// mesh.publish("math/sum", &sum).version("1.2.0").allow(Anyone).await?;
    /// let found: ActorRef<Sum> = mesh.resolve("math/sum").version("^1").await?;
    /// assert_eq!(found.ask(Add(1)).await?, 1);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish<'a, P: Protocol>(
        &'a self,
        name: &'a str,
        actor: &'a ActorRef<P>,
    ) -> Publish<'a, P> {
        Publish::new(self, name, actor)
    }

    /// Takes a name back: `mesh.unpublish("chat/rust").version("1.2.0").await?`, or all its versions. See [`Unpublish`].
    pub fn unpublish<'a>(&'a self, name: &'a str) -> Unpublish<'a> {
        Unpublish::new(self, name)
    }

    /// Asks the rules of all that is published again, or of one name: `mesh.recheck().name("chat/rust").await?`. See
    /// [`Recheck`].
    pub fn recheck(&self) -> Recheck<'_> {
        Recheck::new(self)
    }

    /// Resolves a published name: `mesh.resolve("chat/rust").at(&peer_ref).version("^1").await?`. See [`Resolve`].
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let sum = mesh.spawn(SumActor::default);
    /// mesh.publish("math/sum", &sum).version("1.2.0").allow(Anyone).await?;
    ///
    /// // On another host, which got `mesh.peer_ref()` from somewhere:
    /// let guest = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let far: ActorRef<Sum> = guest.resolve("math/sum").at(&mesh.peer_ref()).version("^1").await?;
    /// assert_eq!(far.ask(Add(2)).await?, 2);
    /// # guest.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resolve<'a, P: Protocol>(&'a self, name: &'a str) -> Resolve<'a, P> {
        Resolve::new(self, name)
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
                ActorRef::new(self.target(wire, origin))
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

    pub(crate) fn epoch(&self) -> u64 {
        self.inner().epoch
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

    /// A ref to an object of this mesh, with where that may be found.
    pub(crate) fn wire_ref(
        &self,
        object: ObjectId,
        epoch: u64,
        protocol: impl Into<Cow<'static, str>>,
    ) -> WireRef {
        let mut wire = WireRef {
            peer: self.inner().peer,
            object,
            epoch,
            protocol: protocol.into(),
            publication: None,
            hints: Vec::new(),
            rendezvous: Vec::new(),
        };
        wire.add_whereabouts(&self.inner().endpoint.peer_ref());
        wire
    }

    /// Where the word of `sender` may lead this mesh.
    pub(crate) fn origin_of(&self, sender: PeerId) -> Origin {
        if sender == self.inner().peer {
            return Origin::User;
        }
        self.inner().network.get().map_or(Origin::Internet, |network| network.origin_of(&sender))
    }

    /// What a ref of this name points to, by the word of `origin`.
    pub(crate) fn target(&self, wire: WireRef, origin: Origin) -> Target {
        if wire.peer == self.inner().peer && wire.epoch == 0 {
            return Target::Named(named::Named::of(self, wire.object, &wire.protocol));
        }
        if wire.peer == self.inner().peer {
            if let Some(target) = self.inner().objects.local(&wire.object, &wire.protocol) {
                return Target::Local(target);
            }
            let reason = self.absent(wire.epoch);
            return Target::Gone(Arc::new((wire, reason)));
        }
        match self.inner().network.get() {
            Some(network) => Target::Remote(network.target(wire, origin)),
            None => Target::Unbound(Arc::new(wire)),
        }
    }

    /// What a watcher of an object that isn't there is told, by the epoch of its ref.
    pub(crate) fn absent(&self, epoch: u64) -> DownReason {
        if epoch == 0 || epoch == self.inner().epoch {
            DownReason::NoSuchActor
        } else {
            DownReason::Stale
        }
    }

    pub(crate) fn downgrade(&self) -> WeakMesh {
        WeakMesh { hold: Arc::downgrade(&self.hold), inner: Arc::downgrade(&self.hold.inner) }
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("peer", &self.inner().peer).finish_non_exhaustive()
    }
}

/// An actor that is only just being started, by the name of its type.
struct OfType(&'static str);

impl Named for OfType {
    fn name(&self) -> String {
        self.0.to_owned()
    }
}

/// The mesh has ended, and with it the threads that an actor could run on. Start another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this mesh is shut down")]
pub struct MeshEnded;

/// A cell on its way to a running actor. If it never arrives (the actor is gone already), it ends.
struct Arrival<A: RemoteActor>(Option<Arc<ActorCell<A>>>);

impl<A: RemoteActor> Drop for Arrival<A> {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            cell.end(&mut Hand::default(), DownReason::Stopped);
        }
    }
}

/// A mesh that this holder doesn't keep alive.
#[derive(Clone, Default)]
pub(crate) struct WeakMesh {
    hold: Weak<Hold>,
    inner: Weak<Inner>,
}

impl WeakMesh {
    /// `None` when it's gone. While it lingers it is still there.
    pub(crate) fn upgrade(&self) -> Option<Mesh> {
        let hold = match self.hold.upgrade() {
            Some(hold) => hold,
            None => Arc::new(Hold { inner: self.inner.upgrade()? }),
        };
        Some(Mesh { hold })
    }
}
