//! The objects of a mesh that can be reached from outside, and what the network's side may do with one. The traits hide
//! the actor's type: behind them stand an inlet and a dispatch table.

use crate::actor_ref::LocalTarget;
use crate::caller::Caller;
use crate::cancellation::Signal;
use crate::error::Fault;
use crate::mesh::WeakMesh;
use crate::named::Named;
use crate::names::{Names, Own};
use crate::payload::{DecodeError, EncodeError, Encoder, Payload};
use crate::remote::OwnedPayload;
use crate::rights::Rights;
use crate::watch::{WatchId, WatchSink};
use crate::wire_ref::ObjectId;
use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
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
    /// The sender has lost its right: what it sent and no handler has taken is refused instead.
    fn refuse_untaken(&mut self);
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

/// The objects of one mesh by their ids.
#[derive(Default)]
pub(crate) struct Objects {
    /// Those whose ids are random, and the right to call them.
    private: DashMap<ObjectId, Arc<dyn Exposed>>,
    /// Those that are published, which have rules.
    names: Names,
    rights: Arc<Rights>,
    /// Held while what is published is changed here and in the directory.
    publishing: Mutex<()>,
    near: Mutex<HashMap<ObjectId, Weak<Named>>>,
}

/// What a caller was let in to.
pub(crate) struct Admitted {
    pub(crate) object: Arc<dyn Exposed>,
    /// By a name, whose rule may come to say no; else by an id that nobody can guess.
    pub(crate) by_name: bool,
}

impl Objects {
    /// Makes an object reachable to whoever knows this id.
    pub(crate) fn insert(&self, id: ObjectId, object: Arc<dyn Exposed>) {
        self.private.insert(id, object);
    }

    /// Takes that away.
    pub(crate) fn remove(&self, id: &ObjectId) {
        self.private.remove(id);
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// To be held while what is published is changed. No code of the application runs meanwhile.
    pub(crate) fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock()
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
    ) -> Result<Admitted, Fault> {
        let admitted = self.admit(id, caller).ok_or(Fault::NoSuchActor)?;
        if admitted.object.protocol() != protocol {
            return Err(Fault::WrongProtocol);
        }
        Ok(admitted)
    }

    /// Finds an object for a caller. `None` if it is unknown or the caller may not reach it.
    pub(crate) fn admit(&self, id: &ObjectId, caller: PeerId) -> Option<Admitted> {
        let private = self.private.get(id).map(|object| object.clone());
        if let Some(object) = private {
            return Some(Admitted { object, by_name: false });
        }
        // The rule is the application's code: it runs outside of all locks.
        let published = self.names.find(id)?;
        let admitted = published.access.admits(caller);
        admitted.then(|| Admitted { object: published.object.clone(), by_name: true })
    }

    /// Whether a caller still has the right to this actor that it has by a published id.
    pub(crate) fn admits(&self, id: &ObjectId, caller: PeerId, own: Own) -> bool {
        self.admit(id, caller).is_some_and(|admitted| admitted.object.local().key() == own)
    }

    /// Whether there is something behind an id, for whoever it is.
    pub(crate) fn contains(&self, id: &ObjectId) -> bool {
        self.private.contains_key(id) || self.names.find(id).is_some()
    }

    /// Finds an object for a ref of this process that knows its own id, and needs no permission.
    pub(crate) fn local(&self, id: &ObjectId, protocol: &str) -> Option<Arc<dyn LocalTarget>> {
        let object = self.private.get(id)?.clone();
        (object.protocol() == protocol).then(|| object.local())
    }

    /// The refs of this process that were resolved to this id share one target.
    pub(crate) fn near(
        &self,
        id: ObjectId,
        protocol: &str,
        new: impl FnOnce() -> Arc<Named>,
    ) -> Arc<Named> {
        let known = self.near.lock().get(&id).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.is_settled(protocol)) {
            return known;
        }
        // The rule is asked meanwhile, outside of the lock.
        let named = new();
        self.near.lock().insert(id, Arc::downgrade(&named));
        named
    }

    /// The last of those refs is gone.
    pub(crate) fn forget_near(&self, id: &ObjectId) {
        let mut near = self.near.lock();
        if near.get(id).is_some_and(|known| known.strong_count() == 0) {
            near.remove(id);
        }
    }

    /// Has every object's actor refuse further messages. What its handlers have in hand goes on.
    pub(crate) fn drain_all(&self) {
        self.each(|object| object.local().drain());
    }

    /// How many asks their handlers have in hand; those of an actor of several ids count several times.
    pub(crate) fn asks_in_hand(&self) -> usize {
        let all: Vec<_> = self.private.iter().map(|entry| entry.value().clone()).collect();
        all.into_iter().map(|object| object.local().status().asks_in_hand()).sum()
    }

    /// Tells every object's actor to stop.
    pub(crate) fn stop_all(&self) {
        self.each(|object| object.local().stop());
    }

    /// The same, once it has no ask in hand. All know of that before the first one stops, which stops its children.
    pub(crate) fn stop_all_once_idle(&self) {
        self.each(|object| object.local().status().stop_once_idle(true));
        self.stop_all();
    }

    /// Tells those again that have put it off for the asks in hand, if `now` whatever they still have. Says whether there were any.
    pub(crate) fn stop_put_off(&self, now: bool) -> bool {
        let all: Vec<_> = self.private.iter().map(|entry| entry.value().clone()).collect();
        let mut any = false;
        for object in all {
            let local = object.local();
            if now {
                local.status().stop_once_idle(false);
            }
            if local.status().take_put_off() {
                any = true;
                local.stop();
            }
        }
        any
    }

    fn each(&self, act: impl Fn(Arc<dyn Exposed>)) {
        let mut all: Vec<_> =
            self.private.iter().map(|entry| (entry.key().0, entry.value().clone())).collect();
        // The table's own order is another one in each run.
        all.sort_unstable_by_key(|(id, _)| *id);
        for (_, object) in all {
            act(object);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.private.is_empty()
    }

    /// How many there are: one for each protocol of each actor.
    pub(crate) fn len(&self) -> usize {
        self.private.len()
    }
}
