//! What an actor may do from inside: name itself and its mesh, send in order, watch, and have children.

use crate::actor::cell::ActorCell;
use crate::actor::current::cell_of;
use crate::actor::watcher::ActorSink;
use crate::ground::error::{Fault, TellError, TrySendError};
use crate::ground::message::{Accepts, Message, Protocol};
use crate::mailbox::dispatch::{RemoteActor, ServedBy};
use crate::mesh::Mesh;
use crate::refs::actor_ref::ActorRef;
use crate::refs::parcel::Parcel;
use crate::refs::target::{LocalTarget, Queued, Target, WhenFull};
use crate::refs::watch::{Down, WatchEvent, WatchId};
use actix::{Context, Handler};
use std::sync::Arc;

/// Messages of one actor that may wait in other actors' lines after [`send`]. As many as an inlet has places.
pub const OUTBOX_MAX: usize = crate::mailbox::CAPACITY;

/// A context whose actor serves the protocol `P`.
#[diagnostic::on_unimplemented(
    message = "the actor of `{Self}` does not serve the protocol `{P}`",
    note = "it needs `#[derive(RemoteActor)] #[remote(serves({P}))]`"
)]
pub trait Serving<P: Protocol> {
    #[doc(hidden)]
    fn reference(&self) -> Option<ActorRef<P>>;
}

impl<A: RemoteActor, P: ServedBy<A>> Serving<P> for Context<A> {
    fn reference(&self) -> Option<ActorRef<P>> {
        let cell = cell_of(self)?;
        let mesh = cell.mesh()?;
        Some(cell.reference::<P>(&mesh))
    }
}

/// A context whose actor may live in a mesh.
#[diagnostic::on_unimplemented(
    message = "the actor of `{Self}` cannot live in a mesh",
    note = "it needs `#[derive(RemoteActor)] #[remote(serves(…))]`"
)]
pub trait InMesh {
    #[doc(hidden)]
    fn mesh(&self) -> Option<Mesh>;
    #[doc(hidden)]
    fn outbox(&self) -> Option<Outbox>;
    #[doc(hidden)]
    fn adopt(&self, child: Child);
}

impl<A: RemoteActor> InMesh for Context<A> {
    fn mesh(&self) -> Option<Mesh> {
        cell_of(self)?.mesh()
    }

    fn outbox(&self) -> Option<Outbox> {
        let cell = cell_of(self)?;
        let reserved = cell.reserve_outbox(OUTBOX_MAX);
        reserved.then(|| Outbox { release: Box::new(move || cell.release_outbox()) })
    }

    fn adopt(&self, child: Child) {
        match cell_of(self) {
            Some(cell) => cell.adopt(child.0),
            None => child.0.stop(),
        }
    }
}

/// An actor that is to end with another one.
#[doc(hidden)]
pub struct Child(Arc<dyn LocalTarget>);

/// A place for one message of [`send`] that waits in another actor's line.
#[doc(hidden)]
pub struct Outbox {
    release: Box<dyn Fn()>,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        (self.release)();
    }
}

/// The ref to the actor itself, under one of the protocols that it serves.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "go", reply = u64)]
/// # struct Go;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Go))]
/// # struct Example;
/// # #[derive(webmesh::RemoteActor)]
/// # #[remote(serves(Example))]
/// # struct ExampleActor;
/// # impl Actor for ExampleActor { type Context = Context<Self>; }
/// impl Handler<Go> for ExampleActor {
///     type Result = u64;
///     fn handle(&mut self, _: Go, ctx: &mut Context<Self>) -> u64 {
///         let me: ActorRef<Example> = webmesh::this(ctx); // to be handed to others
///         println!("I am {me:?}");
///         1
///     }
/// }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # assert_eq!(mesh.spawn(|| ExampleActor).ask(Go).await?, 1);
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If the actor doesn't live in a mesh (it was started by actix and not exposed), or its mesh is gone.
#[allow(clippy::expect_used, reason = "documented; `try_this` is the way around it")]
pub fn this<P: Protocol>(ctx: &impl Serving<P>) -> ActorRef<P> {
    ctx.reference().expect("`this` outside of a mesh: spawn or expose the actor through one")
}

/// As [`this`], but `None` outside of a mesh.
pub fn try_this<P: Protocol>(ctx: &impl Serving<P>) -> Option<ActorRef<P>> {
    ctx.reference()
}

/// The mesh that the actor lives in.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "go", reply = u64)]
/// # struct Go;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Go))]
/// # struct Example;
/// # #[derive(webmesh::RemoteActor)]
/// # #[remote(serves(Example))]
/// # struct ExampleActor;
/// # impl Actor for ExampleActor { type Context = Context<Self>; }
/// impl Handler<Go> for ExampleActor {
///     type Result = u64;
///     fn handle(&mut self, _: Go, ctx: &mut Context<Self>) -> u64 {
///         println!("I live at {}", webmesh::mesh(ctx).peer_id());
///         1
///     }
/// }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # assert_eq!(mesh.spawn(|| ExampleActor).ask(Go).await?, 1);
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If the actor doesn't live in a mesh (it was started by actix and not exposed), or its mesh is gone.
#[allow(clippy::expect_used, reason = "documented; `try_mesh` is the way around it")]
pub fn mesh(ctx: &impl InMesh) -> Mesh {
    ctx.mesh().expect("`mesh` outside of a mesh: spawn or expose the actor through one")
}

/// As [`mesh`], but `None` outside of a mesh.
pub fn try_mesh(ctx: &impl InMesh) -> Option<Mesh> {
    ctx.mesh()
}

/// Sends from a synchronous handler, which cannot wait: the message takes its place in line at once, behind whatever
/// this sender sent to the target before. (Spawning `tell`s into the context instead would reorder them.)
///
/// What finds no room waits in the target's line on the actor's behalf, even beyond the actor's end; up to
/// [`OUTBOX_MAX`] messages of one actor may.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "go", reply = u64)]
/// # struct Go;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Go))]
/// # struct Example;
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
/// #[derive(webmesh::RemoteActor)]
/// #[remote(serves(Example))]
/// struct ExampleActor {
///     sum: ActorRef<Sum>,
/// }
/// # impl Actor for ExampleActor { type Context = Context<Self>; }
///
/// impl Handler<Go> for ExampleActor {
///     type Result = u64;
///     fn handle(&mut self, _: Go, ctx: &mut Context<Self>) -> u64 {
///         for n in 0..10 {
///             if let Err(error) = webmesh::send(ctx, &self.sum, Add(n)) {
///                 eprintln!("{n} was not sent: {error}");
///             }
///         }
///         1
///     }
/// }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # let sum = mesh.spawn(SumActor::default);
/// # let it = mesh.spawn({ let sum = sum.clone(); move || ExampleActor { sum: sum.clone() } });
/// # assert_eq!(it.ask(Go).await?, 1);
/// # assert_eq!(sum.ask(Add(0)).await?, 45);
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`TrySendError::Full`] gives the message back when that many are waiting, or when it would have to wait and the actor
/// doesn't live in a mesh.
pub fn send<P, M>(
    ctx: &impl InMesh,
    target: &ActorRef<P>,
    message: M,
) -> Result<(), TrySendError<M>>
where
    P: Accepts<M>,
    M: Message,
{
    let mut slot = Some(Parcel { message, reply: None });
    let mut post = |when_full| target.post(&mut slot, when_full);
    let outcome = match post(WhenFull::Refuse) {
        Err(Fault::Full) => {
            let Some(outbox) = ctx.outbox() else { return Err(give_back(slot)) };
            post(WhenFull::Queue).map(|queued| (queued, Some(outbox)))
        }
        outcome => outcome.map(|queued| (queued, None)),
    };
    match outcome {
        Ok((Queued::Waiting(ticket), outbox)) => {
            // A task of its own rather than a future of the context: a restart must not withdraw what was accepted.
            drop(tokio::task::spawn_local(async move {
                if let Err(fault) = ticket.await {
                    tracing::warn!(?fault, "a message sent by an actor was lost in line");
                }
                drop(outbox);
            }));
            Ok(())
        }
        Ok((Queued::Accepted, _)) => Ok(()),
        Err(fault) => Err(TrySendError::Failed(fault.into())),
    }
}

fn give_back<M: Message>(slot: Option<Parcel<M>>) -> TrySendError<M> {
    match slot {
        Some(parcel) => TrySendError::Full(parcel.message),
        // Cannot happen: who refuses as full leaves the message in the slot.
        None => TrySendError::Failed(TellError::Timeout),
    }
}

/// Watches an actor: exactly one [`Down`] will be delivered to this actor's `Handler<Down>` when the target has stopped,
/// panicked for good, or is out of reach for good; at once if it is already. The place for it is reserved: a full inlet
/// doesn't lose it. A restart of this actor ends its watches, with what they have still to tell: the fresh instance begins its
/// own. (Watches that others have on this actor stay.)
///
/// ```
/// use webmesh::prelude::*;
/// use webmesh::{ActorRef, Down, Protocol, watch};
///
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "greet")]
/// # struct Greet;
/// # #[derive(Protocol)]
/// # #[protocol(id = "greeter/1", accepts(Greet))]
/// # struct Greeter;
/// #[derive(webmesh::RemoteActor)]
/// #[remote(serves(Greeter))]
/// struct Guard {
///     of: ActorRef<Greeter>,
/// }
///
/// impl Actor for Guard {
///     type Context = Context<Self>;
///     fn started(&mut self, ctx: &mut Context<Self>) {
///         watch(ctx, &self.of);
///     }
/// }
///
/// impl Handler<Down> for Guard {
///     type Result = ();
///     fn handle(&mut self, down: Down, ctx: &mut Context<Self>) {
///         println!("it is no more: {}", down.reason);
///         ctx.stop();
///     }
/// }
/// # impl Handler<Greet> for Guard {
/// #     type Result = ();
/// #     fn handle(&mut self, _: Greet, _: &mut Context<Self>) {}
/// # }
/// ```
///
/// # Panics
/// If this actor doesn't live in a mesh.
pub fn watch<A, P>(ctx: &Context<A>, target: &ActorRef<P>) -> WatchId
where
    A: RemoteActor + Handler<Down>,
    P: Protocol,
{
    begin_watch(ctx, target, |cell, watch| ActorSink::down_only(cell, watch))
}

/// As [`watch`], and also delivers what does not end the watch to `Handler<WatchEvent>`: that the peer became
/// unreachable or reachable, that the actor was restarted after a panic, that tells may be lost. At most
/// [`EVENTS_MAX`](crate::refs::watch::EVENTS_MAX) events of a watch wait to be handled; further ones are dropped. Restarts wait as
/// one event, which tells of the latest.
///
/// # Panics
/// If this actor doesn't live in a mesh.
pub fn watch_events<A, P>(ctx: &Context<A>, target: &ActorRef<P>) -> WatchId
where
    A: RemoteActor + Handler<Down> + Handler<WatchEvent>,
    P: Protocol,
{
    begin_watch(ctx, target, |cell, watch| ActorSink::with_events(cell, watch))
}

#[allow(clippy::expect_used, reason = "documented")]
fn begin_watch<A: RemoteActor, P: Protocol>(
    ctx: &Context<A>,
    target: &ActorRef<P>,
    sink: impl FnOnce(&Arc<ActorCell<A>>, WatchId) -> ActorSink<A>,
) -> WatchId {
    let cell =
        cell_of(ctx).expect("`watch` outside of a mesh: spawn or expose the actor through one");
    let watch = WatchId::next();
    let sink = Arc::new(sink(&cell, watch));
    let target = target.target().clone();
    // Remembered first: a `Down` that comes at once must find it.
    cell.remember_watch(watch, {
        let target = target.clone();
        Box::new(move || match target {
            Target::Local(target) => target.unwatch(watch),
            Target::Named(named) => named.unwatch(watch),
            Target::Remote(target) => target.unwatch(watch),
            Target::Gone(_) | Target::Unbound(_) => {}
        })
    });
    ActorRef::<P>::new(target).watch(watch, sink);
    watch
}

/// Ends a watch without a [`Down`]. One that is already in this actor's inlet is still delivered.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "go", reply = u64)]
/// # struct Go;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Go))]
/// # struct Example;
/// use webmesh::watch::WatchId;
///
/// #[derive(webmesh::RemoteActor)]
/// #[remote(serves(Example))]
/// struct ExampleActor {
///     other: ActorRef<Example>,
///     watch: Option<WatchId>,
/// }
///
/// impl Actor for ExampleActor {
///     type Context = Context<Self>;
///     fn started(&mut self, ctx: &mut Context<Self>) {
///         self.watch = Some(webmesh::watch(ctx, &self.other));
///     }
/// }
///
/// impl Handler<Go> for ExampleActor {
///     type Result = u64;
///     fn handle(&mut self, _: Go, ctx: &mut Context<Self>) -> u64 {
///         if let Some(watch) = self.watch.take() {
///             webmesh::unwatch(ctx, watch); // no `Down` will come any more
///         }
///         1
///     }
/// }
/// # impl Handler<webmesh::Down> for ExampleActor {
/// #     type Result = ();
/// #     fn handle(&mut self, _: webmesh::Down, _: &mut Context<Self>) {}
/// # }
/// # #[derive(webmesh::RemoteActor)]
/// # #[remote(serves(Example))]
/// # struct OtherActor;
/// # impl Actor for OtherActor { type Context = Context<Self>; }
/// # impl Handler<Go> for OtherActor {
/// #     type Result = u64;
/// #     fn handle(&mut self, _: Go, _: &mut Context<Self>) -> u64 { 0 }
/// # }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # let other = mesh.spawn(|| OtherActor);
/// # let it = mesh.spawn(move || ExampleActor { other: other.clone(), watch: None });
/// # assert_eq!(it.ask(Go).await?, 1);
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub fn unwatch<A: RemoteActor>(ctx: &Context<A>, watch: WatchId) {
    if let Some(unwatch) = cell_of(ctx).and_then(|cell| cell.forget_watch(watch)) {
        unwatch();
    }
}

/// Spawns an actor that ends with this one, or with a restart of it: the fresh instance spawns its own.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "go", reply = u64)]
/// # struct Go;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Go))]
/// # struct Example;
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
/// # #[derive(webmesh::RemoteActor)]
/// # #[remote(serves(Example))]
/// # struct ExampleActor;
/// # impl Actor for ExampleActor { type Context = Context<Self>; }
/// impl Handler<Go> for ExampleActor {
///     type Result = u64;
///     fn handle(&mut self, _: Go, ctx: &mut Context<Self>) -> u64 {
///         let sum = webmesh::spawn_child(ctx, SumActor::default); // ends when this actor does
///         if let Err(error) = webmesh::send(ctx, &sum, Add(2)) {
///             eprintln!("{error}");
///         }
///         1
///     }
/// }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # assert_eq!(mesh.spawn(|| ExampleActor).ask(Go).await?, 1);
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If this actor doesn't live in a mesh.
pub fn spawn_child<A, F>(ctx: &impl InMesh, factory: F) -> ActorRef<A::Main>
where
    A: RemoteActor,
    F: FnMut() -> A + Send + 'static,
{
    let child = mesh(ctx).spawn(factory);
    if let Target::Local(target) = child.target() {
        ctx.adopt(Child(target.clone()));
    }
    child
}
