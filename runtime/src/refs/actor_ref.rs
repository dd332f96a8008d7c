//! [`ActorRef`]: what an application holds of an actor, near or far.

use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::ground::error::{AskError, Fault, TellError, TrySendError};
use crate::ground::message::{Accepts, Message, Protocol, Streams};
use crate::refs::calls::{Ask, Flush, Tell};
use crate::refs::decode_scope::DecodeScope;
use crate::refs::near;
use crate::refs::parcel::Parcel;
use crate::refs::responder::LocalReply;
use crate::refs::target::{AskSlot, LocalTarget, OutKind, OutMessage, Queued, Target, WhenFull};
use crate::refs::watch::{DownReason, Notice, WatchId, WatchSink};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::oneshot;
use webmesh_transport::PeerId;

/// A handle on an actor that serves the protocol `P`, in this program or in another one on another host.
///
/// It is cheap to clone and can be sent inside messages, also to third hosts, where it works as well. There are two kinds,
/// and neither ever becomes the other, wherever it gets to:
///
/// - From `spawn`, `expose` and `this`: what it names is unguessable, and holding it is the right to call the actor. It ends
///   with the actor's process.
/// - From `resolve`: it falls under the present rule of the name, at each use. It lives on when the process is started anew
///   and publishes the name again.
///
/// Two refs are equal if they name the same object, and what is published is another object than the actor itself.
///
/// Guarantees: every message arrives at most once. Messages of one sender (an actor, or whoever else holds the ref) to
/// one target arrive in the order of the calls, whatever their kind and size. Nothing is lost silently.
pub struct ActorRef<P> {
    target: Target,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> ActorRef<P> {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, protocol: PhantomData }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The peer that hosts the actor.
    pub fn peer(&self) -> PeerId {
        self.key().0
    }

    /// Asks: sends the message and resolves to the handler's reply.
    ///
    /// The message takes its place in line *now*, in the call; the future waits for credit and for the reply. Its time
    /// is 30 s, both included, unless [`Ask::timeout`] says otherwise. When its time is up, or the future is dropped, the ask
    /// is cancelled: a message that no handler has taken is withdrawn, as soon as the other side has heard of it; a handler
    /// that has it goes on, and may look whether anybody still waits ([`cancellation`](crate::cancellation)).
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
    /// sum.tell(Add(1)).await?; // accepted for sending
    /// sum.flush().await?; // handled
    /// let soon = std::time::Duration::from_secs(2);
    /// assert_eq!(sum.ask(Add(2)).timeout(soon).await?, 3);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AskError`], when awaited. `Timeout`, `Unreachable`, `PeerGone` and `PeerRestarted` mean that the outcome is
    /// unknown.
    ///
    /// It may be awaited on any thread, under any executor: where no tokio runtime is at hand, the mesh's own keeps the time. See
    /// docs/embedding.md for what blocks a thread.
    pub fn ask<M: Message>(&self, message: M) -> Ask<M>
    where
        P: Accepts<M>,
    {
        match &self.target {
            Target::Local(target) => Self::ask_near(target, message),
            Target::Named(named) => {
                let asked = named.with(|target| Self::ask_near(target, message));
                asked.unwrap_or_else(Ask::failed)
            }
            Target::Remote(target) => {
                let (slot, answer) = AskSlot::new();
                let queued = target.send(OutMessage {
                    id: M::ID,
                    kind: OutKind::Ask(slot),
                    encode: &mut |encoder| encoder.encode(&message),
                    when_full: WhenFull::Queue,
                });
                Ask::far(queued, answer, target.clone())
            }
            Target::Gone(_) => Ask::failed(Fault::NoSuchActor),
            Target::Unbound(_) => Ask::failed(Fault::Unbound),
        }
    }

    fn ask_near<M: Message>(target: &Arc<dyn LocalTarget>, message: M) -> Ask<M>
    where
        P: Accepts<M>,
    {
        let message = match near::codec(&**target).map(|codec| codec.message(&message)) {
            None => message,
            Some(Ok(decoded)) => decoded,
            Some(Err(fault)) => return Ask::failed(fault),
        };
        let (reply, answer) = LocalReply::new(target.status());
        let mut slot = Some(Parcel { message, reply: Some(reply) });
        let queued = target.send(P::INDEX, &mut slot, WhenFull::Queue);
        Ask::near(queued, answer, target.clone())
    }

    fn post_near<M: Message>(
        target: &dyn LocalTarget,
        slot: &mut Option<Parcel<M>>,
        when_full: WhenFull,
    ) -> Result<Queued, Fault>
    where
        P: Accepts<M>,
    {
        if let (Some(codec), Some(parcel)) = (near::codec(target), slot.as_mut()) {
            parcel.message = codec.message(&parcel.message)?;
        }
        target.send(P::INDEX, slot, when_full)
    }

    /// Tells: sends the message and wants no reply.
    ///
    /// The message takes its place in line *now*, in the call. Awaiting waits until it is *accepted for sending*: at once
    /// if there is credit. A message that still waits for credit is withdrawn when the future is dropped.
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
    /// for n in 0..10 {
    ///     sum.tell(Add(n)).await?; // waits while there is no room
    /// }
    /// assert_eq!(sum.ask(Add(0)).await?, 45);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TellError`], when awaited. A message that was accepted and lost later is reported as
    /// [`TellError::LostTells`] by the next call, to watchers, and as a tracing event.
    pub fn tell<M: Message>(&self, message: M) -> Tell
    where
        P: Accepts<M>,
    {
        Tell::new(self.post(&mut Some(Parcel { message, reply: None }), WhenFull::Queue))
    }

    /// Tells if there is credit now and nobody waits in line.
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
    /// use webmesh::TrySendError;
    ///
    /// let sum = mesh.spawn(SumActor::default);
    /// match sum.try_tell(Add(1)) {
    ///     Ok(()) => {}
    ///     Err(TrySendError::Full(Add(n))) => println!("no room for {n} now"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TrySendError::Full`] gives the message back.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        P: Accepts<M>,
    {
        let mut slot = Some(Parcel { message, reply: None });
        match self.post(&mut slot, WhenFull::Refuse) {
            Ok(_) => Ok(()),
            Err(Fault::Full) => match slot {
                Some(parcel) => Err(TrySendError::Full(parcel.message)),
                // Cannot happen: who refuses as full leaves the message in the slot.
                None => Err(TrySendError::Failed(TellError::Timeout)),
            },
            Err(fault) => Err(TrySendError::Failed(fault.into())),
        }
    }

    /// Sends a message without a reply, or takes a place in line for it.
    pub(crate) fn post<M: Message>(
        &self,
        slot: &mut Option<Parcel<M>>,
        when_full: WhenFull,
    ) -> Result<Queued, Fault>
    where
        P: Accepts<M>,
    {
        match &self.target {
            Target::Local(target) => Self::post_near(&**target, slot, when_full),
            Target::Named(named) => {
                named.with(|target| Self::post_near(&**target, slot, when_full))?
            }
            Target::Remote(target) => target
                .send(OutMessage {
                    id: M::ID,
                    kind: OutKind::Tell,
                    encode: &mut |encoder| match slot.as_ref() {
                        Some(parcel) => encoder.encode(&parcel.message),
                        None => Ok(()),
                    },
                    when_full,
                })
                .map(|(queued, _)| queued),
            Target::Gone(_) => Err(Fault::NoSuchActor),
            Target::Unbound(_) => Err(Fault::Unbound),
        }
    }

    /// Resolves when every earlier message of this sender to the actor was taken by its handler.
    ///
    /// The marker takes its place in line *now*. There is no time-out: wrap it in `tokio::time::timeout` for one.
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
    /// sum.tell(Add(1)).await?;
    /// sum.tell(Add(2)).await?;
    /// sum.flush().await?; // both were handled
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TellError`]: some earlier message may not have reached the handler.
    pub fn flush(&self) -> Flush {
        match &self.target {
            Target::Local(target) => Self::flush_near(target),
            Target::Named(named) => named.with(Self::flush_near).unwrap_or_else(Flush::failed),
            Target::Remote(target) => {
                let (slot, answer) = AskSlot::new();
                let queued = target.send(OutMessage {
                    id: "",
                    kind: OutKind::Flush(slot),
                    encode: &mut |_| Ok(()),
                    when_full: WhenFull::Queue,
                });
                Flush::far(queued, answer, target.clone())
            }
            Target::Gone(_) => Flush::failed(Fault::NoSuchActor),
            Target::Unbound(_) => Flush::failed(Fault::Unbound),
        }
    }

    fn flush_near(target: &Arc<dyn LocalTarget>) -> Flush {
        let (done, told) = oneshot::channel();
        Flush::near(target.flush(done), told, target.clone())
    }

    /// Calls a streaming message. Not yet supported: always [`AskError::Unsupported`], and nothing is sent.
    ///
    /// # Errors
    /// Always.
    pub fn stream<M: Message>(&self, _message: M) -> Result<std::convert::Infallible, AskError>
    where
        P: Streams<M>,
    {
        Err(AskError::Unsupported)
    }

    /// Starts a watch.
    pub(crate) fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        match &self.target {
            Target::Local(target) => target.watch(watch, sink),
            Target::Named(named) => named.watch(watch, sink),
            Target::Remote(target) => target.watch(watch, sink),
            Target::Gone(gone) => sink.notice(Notice::Down(gone.1)),
            // Nobody can be reached by it; the least wrong of the final words.
            Target::Unbound(_) => sink.notice(Notice::Down(DownReason::NoSuchActor)),
        }
    }

    /// The serialised form; `None` if its mesh is gone.
    pub(crate) fn wire(&self) -> Option<WireRef> {
        match &self.target {
            Target::Local(target) => target.wire(),
            Target::Named(named) => named.wire(),
            Target::Remote(target) => Some(target.wire().clone()),
            Target::Gone(gone) => Some(gone.0.clone()),
            Target::Unbound(wire) => Some((**wire).clone()),
        }
    }

    fn key(&self) -> (PeerId, ObjectId) {
        match &self.target {
            Target::Local(target) => target.key(),
            Target::Named(named) => named.key(),
            Target::Remote(target) => (target.wire().peer, target.wire().object),
            Target::Gone(gone) => (gone.0.peer, gone.0.object),
            Target::Unbound(wire) => (wire.peer, wire.object),
        }
    }
}

impl<P> Clone for ActorRef<P> {
    fn clone(&self) -> Self {
        Self { target: self.target.clone(), protocol: PhantomData }
    }
}

impl<P: Protocol> PartialEq for ActorRef<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<P: Protocol> Eq for ActorRef<P> {}

impl<P: Protocol> Hash for ActorRef<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<P: Protocol> fmt::Debug for ActorRef<P> {
    /// Says where and what, but not which object: whoever reads a log must not be able to call what it mentions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.target {
            Target::Local(_) | Target::Named(_) => "near",
            Target::Remote(_) => "far",
            Target::Gone(_) => "gone",
            Target::Unbound(_) => "unbound",
        };
        write!(f, "ActorRef<{}>({place}, {})", P::ID, self.peer())
    }
}

impl<P: Protocol> Serialize for ActorRef<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.wire() {
            Some(wire) => wire.serialize(serializer),
            None => Err(ser::Error::custom("the mesh of this ref is gone")),
        }
    }
}

impl<'de, P: Protocol> Deserialize<'de> for ActorRef<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireRef::deserialize_of::<P, D>(deserializer)?;
        Ok(Self::new(DecodeScope::bind(wire)))
    }
}

/// So that a handler may reply with a ref.
impl<A, M, P> actix::dev::MessageResponse<A, M> for ActorRef<P>
where
    A: actix::Actor,
    M: actix::Message<Result = Self>,
    P: Protocol,
{
    fn handle(self, _ctx: &mut A::Context, reply: Option<actix::dev::OneshotSender<Self>>) {
        if let Some(reply) = reply {
            let _ = reply.send(self);
        }
    }
}
