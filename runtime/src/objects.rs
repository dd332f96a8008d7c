//! The objects of a mesh that can be reached from outside, and what the network's side may do with one. The traits hide
//! the actor's type: behind them stand an inlet and a dispatch table.

use crate::access::Access;
use crate::actor_ref::LocalTarget;
use crate::caller::Caller;
use crate::cancellation::Signal;
use crate::error::Fault;
use crate::mesh::WeakMesh;
use crate::payload::{DecodeError, EncodeError, Encoder, Payload};
use crate::remote::OwnedPayload;
use crate::watch::{WatchId, WatchSink};
use crate::wire_ref::ObjectId;
use dashmap::DashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use webmesh_transport::PeerId;

/// An actor under one of its protocols.
pub(crate) trait Exposed: Send + Sync {
    /// [`Protocol::ID`](crate::Protocol::ID).
    fn protocol(&self) -> &'static str;
    /// The number by which `stage` knows a message; `None`: unknown message.
    fn message_index(&self, id: &str) -> Option<u16>;
    /// Why it takes nothing from this caller for now, if it doesn't.
    fn refuses(&self, caller: &Caller) -> Option<Fault>;
    /// The id of the message that `stage` knows by this number.
    fn message_id(&self, index: u16) -> Option<&'static str>;
    /// A way in for one lane (one sender's ordered stream of messages).
    fn inbound(&self) -> Box<dyn Inbound>;
    /// Tells the sink of everything that happens to the actor; the last notice is one `Down`, at once if it has ended.
    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>);
    /// Ends a watch without a `Down`.
    fn unwatch(&self, watch: WatchId);
    /// The same actor as a ref of this process sees it.
    fn local(self: Arc<Self>) -> Arc<dyn LocalTarget>;
}

/// One lane's way into an inlet. Messages are staged (decoded) one by one, then committed together: one lock, one wake-up.
pub(crate) trait Inbound: Send {
    /// Decodes a message and keeps it for the next `commit`. On an error nothing is kept, and the reply is untouched. To
    /// be called within a `DecodeScope` of [`Self::mesh`], one for many messages.
    fn stage(
        &mut self,
        index: u16,
        payload: Payload<'_>,
        caller: Caller,
        reply: Option<RemoteReply>,
    ) -> Result<(), (DecodeError, Option<RemoteReply>)>;
    /// Where the lane's sender is told of messages that are refused after they were committed.
    fn set_port(&mut self, port: Arc<dyn ReplyPort>);
    /// The mesh that refs in messages are bound to.
    fn mesh(&self) -> WeakMesh;
    /// Keeps a large message for the next `commit` as it came: decoding it takes long, which is the actor's time.
    fn stage_large(
        &mut self,
        index: u16,
        payload: OwnedPayload,
        caller: Caller,
        way_back: WayBack,
    ) -> Result<(), (DecodeError, WayBack)>;
    /// Keeps a marker whose reply is sent (empty) when all messages before it were taken by the handler.
    fn stage_flush(&mut self, reply: RemoteReply);
    /// Asks for up to `want` places in the inlet, in turn with everybody else who waits; ready with what there is (at
    /// least 1), or with 0 if the actor has ended: `stage` and `commit` then see to it that everything is refused.
    /// Each staged message or marker uses one place; places not used by the next `commit` are given back.
    fn poll_reserve(&mut self, cx: &mut Context<'_>, want: u32) -> Poll<u32>;
    /// Gives up what `poll_reserve` asked for: the place in line, and what was granted meanwhile. To be called when nothing
    /// is staged.
    fn withdraw(&mut self);
    /// Puts everything staged into the inlet.
    fn commit(&mut self);
    /// How many of this lane's messages and markers the handler has taken (or the end of the actor refused) since the
    /// lane was opened. Stores the waker, which is woken when the number grows.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> u64;
    /// How many of this lane's tells the end of the actor has refused since this was last asked.
    fn take_refused_tells(&mut self) -> u64;
}

/// The way back for replies.
pub(crate) trait ReplyPort: Send + Sync {
    /// Sends the reply that `encode` writes. If encoding fails, the port sends the failure instead.
    fn reply(&self, ask: u64, encode: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>);
    /// Sends a failure.
    fn fault(&self, ask: u64, fault: Fault);
    /// Says that so many tells reached no handler.
    fn undelivered(&self, tells: u64, fault: Fault);
    /// Whether the asker has given up.
    fn is_cancelled(&self, ask: u64) -> bool;
    /// By what a handler hears that the asker gives up. `None`: the ask was answered.
    fn signal(&self, ask: u64) -> Option<Arc<Signal>>;
    /// Whether nobody is there any more to be answered.
    fn is_closed(&self) -> bool;
}

/// How the sender of one message hears of it.
pub(crate) enum WayBack {
    /// It asked.
    Ask(RemoteReply),
    /// It told, and hears nothing unless the message fails.
    Tell(Arc<dyn ReplyPort>),
}

impl WayBack {
    /// The message reached no handler.
    pub(crate) fn fault(self, fault: Fault) {
        match self {
            Self::Ask(reply) => reply.fault(fault),
            Self::Tell(port) => port.undelivered(1, fault),
        }
    }

    /// Whether it asked and has given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Ask(reply) if reply.is_cancelled())
    }

    /// The obligation to answer, if there's one.
    pub(crate) fn reply(self) -> Option<RemoteReply> {
        match self {
            Self::Ask(reply) => Some(reply),
            Self::Tell(_) => None,
        }
    }
}

/// The obligation to answer one ask. Dropped unanswered, it answers [`Fault::NoReply`].
pub(crate) struct RemoteReply {
    port: Option<Arc<dyn ReplyPort>>,
    ask: u64,
}

impl RemoteReply {
    pub(crate) fn new(port: Arc<dyn ReplyPort>, ask: u64) -> Self {
        Self { port: Some(port), ask }
    }

    /// The way that it will take, and the number of the ask.
    pub(crate) fn port(&self) -> Option<(Weak<dyn ReplyPort>, u64)> {
        self.port.as_ref().map(|port| (Arc::downgrade(port), self.ask))
    }

    /// Sends the reply that `encode` writes.
    pub(crate) fn reply(mut self, encode: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>) {
        if let Some(port) = &self.port {
            // The application's code: should it panic, the obligation is still there to be answered by the drop.
            port.reply(self.ask, encode);
        }
        self.port = None;
    }

    /// Whether the asker has given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.is_cancelled(self.ask))
    }

    /// By what a handler hears that the asker gives up.
    pub(crate) fn signal(&self) -> Option<Arc<Signal>> {
        self.port.as_ref()?.signal(self.ask)
    }

    /// Sends a failure.
    pub(crate) fn fault(mut self, fault: Fault) {
        if let Some(port) = self.port.take() {
            port.fault(self.ask, fault);
        }
    }
}

impl Drop for RemoteReply {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            // While a panic unwinds, the handler that had it in hand is the one that panicked.
            port.fault(
                self.ask,
                if std::thread::panicking() { Fault::Panicked } else { Fault::NoReply },
            );
        }
    }
}

impl std::fmt::Debug for RemoteReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteReply").field("ask", &self.ask).finish_non_exhaustive()
    }
}

struct Entry {
    object: Arc<dyn Exposed>,
    access: Access,
    /// Which insertion made it.
    serial: u64,
}

/// The objects of one mesh by their ids.
#[derive(Default)]
pub(crate) struct Objects {
    table: DashMap<ObjectId, Entry>,
    serials: AtomicU64,
}

impl Objects {
    /// Makes an object reachable under an id, in place of whatever had that id before.
    pub(crate) fn insert(&self, id: ObjectId, object: Arc<dyn Exposed>, access: Access) {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        self.table.insert(id, Entry { object, access, serial });
    }

    /// Takes an id away.
    pub(crate) fn remove(&self, id: &ObjectId) {
        self.table.remove(id);
    }

    /// Finds an object for a caller.
    ///
    /// # Errors
    /// [`Fault::NoSuchActor`] if it is unknown or the caller may not reach it (which must look the same),
    /// [`Fault::WrongProtocol`] if it serves another protocol.
    pub(crate) fn open(
        &self,
        id: &ObjectId,
        protocol: &str,
        caller: PeerId,
    ) -> Result<Arc<dyn Exposed>, Fault> {
        // The rule is the application's code: it runs outside of the table's lock.
        let (object, access) = match self.table.get(id) {
            Some(entry) => (entry.object.clone(), entry.access.clone()),
            None => return Err(Fault::NoSuchActor),
        };
        if !access.admits(caller) {
            return Err(Fault::NoSuchActor);
        }
        if object.protocol() != protocol {
            return Err(Fault::WrongProtocol);
        }
        Ok(object)
    }

    /// Finds an object for a peer that wants to watch it. `None` if it is unknown or the peer may not reach it.
    pub(crate) fn admit(&self, id: &ObjectId, caller: PeerId) -> Option<Arc<dyn Exposed>> {
        let (object, access) =
            self.table.get(id).map(|entry| (entry.object.clone(), entry.access.clone()))?;
        access.admits(caller).then_some(object)
    }

    /// A number for what is behind an id at present, another one for each that was put there.
    pub(crate) fn serial(&self, id: &ObjectId) -> Option<u64> {
        self.table.get(id).map(|entry| entry.serial)
    }

    /// Finds an object, whoever asks.
    pub(crate) fn any(&self, id: &ObjectId) -> Option<Arc<dyn Exposed>> {
        self.table.get(id).map(|entry| entry.object.clone())
    }

    /// Finds an object for a ref of this process, which needs no permission.
    pub(crate) fn local(&self, id: &ObjectId, protocol: &str) -> Option<Arc<dyn LocalTarget>> {
        let object = self.table.get(id)?.object.clone();
        (object.protocol() == protocol).then(|| object.local())
    }

    /// Has every object's actor refuse further messages. What its handlers have in hand goes on.
    pub(crate) fn drain_all(&self) {
        self.each(|object| object.local().drain());
    }

    /// How many asks their handlers have in hand; those of an actor of several ids count several times.
    pub(crate) fn asks_in_hand(&self) -> usize {
        let all: Vec<_> = self.table.iter().map(|entry| entry.object.clone()).collect();
        all.into_iter().map(|object| object.local().status().asks_in_hand()).sum()
    }

    /// Tells every object's actor to stop.
    pub(crate) fn stop_all(&self) {
        self.each(|object| object.local().stop());
    }

    fn each(&self, act: impl Fn(Arc<dyn Exposed>)) {
        let mut all: Vec<_> =
            self.table.iter().map(|entry| (entry.key().0, entry.object.clone())).collect();
        // The table's own order is another one in each run.
        all.sort_unstable_by_key(|(id, _)| *id);
        for (_, object) in all {
            act(object);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}
