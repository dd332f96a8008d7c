//! What stands behind an [`ActorRef`](crate::ActorRef): an actor of this process, one by its name, or one of another mesh; and
//! what is handed over to the latter. Nothing here knows mailboxes, frames, lanes or connections.

use crate::codec::payload::{DecodeError, Encoder, Payload};
use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::ground::encoding::EncodeError;
use crate::ground::error::Fault;
use crate::refs::binder::WeakBinder;
use crate::refs::exposed::Exposed;
use crate::refs::status::Status;
use crate::refs::watch::{DownReason, WatchId, WatchSink};
use serde::de::DeserializeOwned;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use webmesh_transport::{Origin, PeerId};

/// Resolves when a message that had to wait in line was accepted. Dropping it earlier withdraws the message.
pub(crate) type Ticket = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// What became of a message that was handed over.
pub(crate) enum Queued {
    /// Accepted for sending (or, near, put into the inlet).
    Accepted,
    /// It has its place in line, but there's no credit for it yet.
    Waiting(Ticket),
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accepted => "Accepted",
            Self::Waiting(_) => "Waiting",
        })
    }
}

/// What to do with a message for which there's no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Give it back as [`Fault::Full`].
    Refuse,
    /// Take a place in line.
    Queue,
}

/// What an outgoing message wants in return.
#[derive(Debug)]
pub(crate) enum OutKind {
    /// Nothing.
    Tell,
    /// A reply.
    Ask(AskSlot),
    /// No payload: an (empty) answer as soon as all earlier messages of this sender were taken by the handler.
    Flush(AskSlot),
}

/// How a message writes itself into an encoder. Called at most once per [`RemoteTarget::send`].
pub(crate) type Encode<'a> = &'a mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>;

/// An outgoing message. It borrows the caller's value, so that a refused one is still whole.
pub(crate) struct OutMessage<'a> {
    /// [`Message::ID`](crate::Message::ID); empty for a flush.
    pub(crate) id: &'static str,
    pub(crate) kind: OutKind,
    pub(crate) encode: Encode<'a>,
    pub(crate) when_full: WhenFull,
}

/// Where messages go.
#[derive(Clone)]
pub(crate) enum Target {
    /// An actor of this process, by the id that dies with the process.
    Local(Arc<dyn LocalTarget>),
    /// What is published in this process under a name.
    Named(Arc<dyn NamedTarget>),
    /// An actor of another mesh.
    Remote(Arc<dyn RemoteTarget>),
    /// Nowhere: an object of the own mesh that is no more.
    Gone(Arc<(WireRef, DownReason)>),
    /// Nowhere yet: decoded outside of a mesh.
    Unbound(Arc<WireRef>),
}

/// An actor of this process under one protocol, as an `ActorRef` sees it.
pub(crate) trait LocalTarget: Send + Sync {
    /// Takes the message's place in line, now. The slot holds an `Option<Parcel<M>>` of the message that stands at
    /// `index` in the protocol; on [`Fault::Full`] it is still there.
    fn send(&self, index: usize, slot: &mut dyn Any, when_full: WhenFull) -> Result<Queued, Fault>;
    /// Lines up a marker that reports when everything before it was taken by the handler.
    fn flush(&self, done: oneshot::Sender<Result<(), Fault>>) -> Result<Queued, Fault>;
    fn status(&self) -> &Status;
    /// The peer and the object's own (never its published) id.
    fn key(&self) -> (PeerId, ObjectId);
    /// `None`: the mesh is gone.
    fn wire(&self) -> Option<WireRef>;
    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>);
    fn unwatch(&self, watch: WatchId);
    /// The same object, for publishing it.
    fn exposed(self: Arc<Self>) -> Arc<dyn Exposed>;
    /// It can now be reached by this id too, which outlives the process.
    fn published_as(&self, id: ObjectId);
    /// No longer.
    fn unpublished(&self, id: ObjectId);
    /// Has it refuse further messages, as if it had stopped. What its handlers have in hand goes on.
    fn drain(&self);
    /// Tells the actor to stop.
    fn stop(&self);
    /// The mesh that it lives in.
    fn binder(&self) -> WeakBinder;
}

/// What is published in this process under a name, as the refs that were resolved to it see it. Nothing shows of it that
/// changes: refs are keys of maps, and are compared by what doesn't.
pub(crate) trait NamedTarget: Send + Sync {
    /// The actor that had the name from the first, while it has it still and the rule lets this mesh in.
    fn settled(&self) -> Option<&Arc<dyn LocalTarget>>;
    /// Looks for the actor that has the name now.
    ///
    /// # Errors
    /// [`Fault::NoSuchActor`]: nothing is published, or not for this mesh.
    fn look_up(&self) -> Result<Arc<dyn LocalTarget>, Fault>;
    /// The peer and the published id.
    fn key(&self) -> (PeerId, ObjectId);
    /// `None`: the mesh is gone.
    fn wire(&self) -> Option<WireRef>;
    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>);
    fn unwatch(&self, watch: WatchId);
}

impl dyn NamedTarget {
    /// Calls the actor that this leads to now.
    ///
    /// # Errors
    /// As [`look_up`](NamedTarget::look_up).
    pub(crate) fn with<R>(
        &self,
        call: impl FnOnce(&Arc<dyn LocalTarget>) -> R,
    ) -> Result<R, Fault> {
        match self.settled() {
            Some(target) => Ok(call(target)),
            None => Ok(call(&self.look_up()?)),
        }
    }
}

/// An actor of another mesh, as an `ActorRef` sees it.
pub(crate) trait RemoteTarget: Send + Sync {
    /// Takes the message's place in line, now. Says by which number an ask or flush can be cancelled.
    fn send(&self, message: OutMessage<'_>) -> Result<(Queued, u64), Fault>;
    /// Nobody waits for the answer to this ask or flush any more. One that waits in line still is withdrawn by its ticket.
    fn cancel(&self, ask: u64);
    /// Whether the way there is still being made, so that nothing that is under way has left this side.
    fn is_connecting(&self) -> bool;
    /// The name under which this target is known.
    fn wire(&self) -> &WireRef;
    /// Whose word that is.
    fn origin(&self) -> Origin;
    /// The mesh that replies are decoded for.
    fn binder(&self) -> WeakBinder;
    /// Tells the sink of everything that happens to the target; the last notice is one `Down`.
    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>);
    /// Ends a watch without a `Down`.
    fn unwatch(&self, watch: WatchId);
}

/// A received value that owns its bytes, so that it can be decoded on the thread of whoever asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnedPayload {
    /// The MessagePack bytes, exactly one value (none for a flush).
    pub(crate) bytes: bytes::Bytes,
    /// The bodies its placeholders stand for.
    pub(crate) bodies: Vec<bytes::Bytes>,
    /// That of a large reply in the memory for those, kept until it is decoded.
    pub(crate) _place: Option<Arc<dyn Any + Send + Sync>>,
}

impl OwnedPayload {
    /// Decodes the value.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        Payload { bytes: &self.bytes, bodies: &self.bodies }.decode()
    }
}

/// Where the answer to one ask (or flush) goes. Dropping it unanswered reads as [`Fault::PeerGone`].
#[derive(Debug)]
pub(crate) struct AskSlot(oneshot::Sender<Answered>);

/// What comes through a slot.
#[derive(Debug)]
enum Answered {
    Done(Result<OwnedPayload, Fault>),
    /// A large reply has begun to come. It will be at the end of another slot; whoever looks says so.
    Coming {
        rest: oneshot::Receiver<Answered>,
        looked: oneshot::Sender<()>,
    },
}

/// The asker's end of an [`AskSlot`].
#[derive(Debug)]
pub(crate) struct AskAnswer(oneshot::Receiver<Answered>);

/// Resolves when the asker of a large reply waits for it, or has given up.
pub(crate) type Looked = oneshot::Receiver<()>;

impl AskSlot {
    /// A slot and the end at which its answer arrives.
    pub(crate) fn new() -> (Self, AskAnswer) {
        let (slot, answer) = oneshot::channel();
        (Self(slot), AskAnswer(answer))
    }

    /// A large reply begins to come: the slot that it is to go to.
    pub(crate) fn coming(self) -> (Self, Looked) {
        let (slot, rest) = oneshot::channel();
        let (looked, look) = oneshot::channel();
        // If the asker has given up, so it has behind the next slot.
        let _ = self.0.send(Answered::Coming { rest, looked });
        (Self(slot), look)
    }

    /// Delivers the reply.
    pub(crate) fn value(self, payload: OwnedPayload) {
        // The asker may have given up; then nobody misses the answer.
        let _ = self.0.send(Answered::Done(Ok(payload)));
    }

    /// Delivers a failure.
    pub(crate) fn fault(self, fault: Fault) {
        let _ = self.0.send(Answered::Done(Err(fault)));
    }
}

impl Future for AskAnswer {
    type Output = Result<Result<OwnedPayload, Fault>, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match ready!(Pin::new(&mut self.0).poll(cx)) {
                Ok(Answered::Done(outcome)) => return Poll::Ready(Ok(outcome)),
                Ok(Answered::Coming { rest, looked }) => {
                    let _ = looked.send(());
                    self.0 = rest;
                }
                Err(gone) => return Poll::Ready(Err(gone)),
            }
        }
    }
}
