//! What stays of an actor while its instances come and go: inlet, status, watchers. And its *facets*: the actor under one
//! of its protocols, which is what refs point to and what the table of objects holds.

use crate::codec::payload::{DecodeError, Payload};
use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::ground::error::Fault;
use crate::mailbox::delivery::Surroundings;
use crate::mailbox::dispatch::{Dispatch, Marker, RemoteActor, ServedBy, Staged};
use crate::mailbox::reservation::InletLane;
use crate::mailbox::{Hand, Inlet};
use crate::mesh::{Mesh, WeakMesh};
use crate::refs::actor_ref::ActorRef;
use crate::refs::binder::WeakBinder;
use crate::refs::caller::Caller;
use crate::refs::exposed::{Exposed, Inbound};
use crate::refs::status::Status;
use crate::refs::target::{LocalTarget, OwnedPayload, Queued, Target, WhenFull};
use crate::refs::watch::{DownReason, Event, Notice, WatchId, WatchSink};
use crate::refs::way_back::{RemoteReply, ReplyPort, WayBack};
use actix::Actor;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use webmesh_transport::PeerId;
use webmesh_transport::placement::Named;

/// One actor, through all its incarnations.
pub(crate) struct ActorCell<A: Actor> {
    pub(crate) inlet: Arc<Inlet<A>>,
    pub(crate) status: Arc<Status>,
    peer: PeerId,
    mesh: WeakMesh,
    links: Mutex<Links>,
    /// Messages of `send` that wait in other actors' lines.
    outbox: AtomicUsize,
}

/// Whom to tell, and what to take away, when the actor ends.
#[derive(Default)]
struct Links {
    watchers: BTreeMap<WatchId, Arc<dyn WatchSink>>,
    /// What this actor watches, by how to end it.
    watches: BTreeMap<WatchId, Box<dyn FnOnce() + Send>>,
    /// Its ids in the mesh's table, one per protocol.
    facets: Vec<(&'static str, Arc<dyn LocalTarget>)>,
    /// Ids of the table and the directory under which it is published.
    published: Vec<ObjectId>,
    children: Vec<Arc<dyn LocalTarget>>,
}

impl Links {
    /// The id under which the actor was first known.
    fn object(&self) -> Option<ObjectId> {
        self.facets.first().map(|(_, facet)| facet.key().1)
    }
}

impl<A: RemoteActor> ActorCell<A> {
    pub(crate) fn new(mesh: &Mesh, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            inlet: Inlet::new(capacity, mesh.inner().placement.seed().is_none()),
            status: Arc::new(Status::default()),
            peer: mesh.peer_id(),
            mesh: mesh.downgrade(),
            links: Mutex::new(Links::default()),
            outbox: AtomicUsize::new(0),
        })
    }

    /// The mesh that the actor lives in, while there is one.
    pub(crate) fn mesh(&self) -> Option<Mesh> {
        self.mesh.upgrade()
    }

    /// Whether no further instance is to be made: the actor was told to stop, or its mesh is shut down or gone.
    pub(crate) fn must_end(&self) -> bool {
        self.status.was_told_to_stop()
            || self.mesh().is_none_or(|mesh| mesh.inner().shut_down.load(Ordering::Acquire))
    }

    /// What a log calls it: the name that it is published under, or else the beginning of its object's id. Not all of that, for
    /// knowing it is the right to call the actor.
    pub(crate) fn name(&self) -> String {
        let links = self.links.lock();
        let (published, object) = (links.published.clone(), links.object());
        drop(links);
        self.name_of(&published, object)
    }

    fn name_of(&self, published: &[ObjectId], object: Option<ObjectId>) -> String {
        let name = self.mesh().and_then(|mesh| {
            let directory = &mesh.inner().directory;
            published.iter().find_map(|id| directory.name_of(*id))
        });
        match (name, object) {
            (Some((name, version)), _) => format!("{name} {version}"),
            (None, Some(ObjectId([a, b, c, d, ..]))) => {
                format!("object {a:02x}{b:02x}{c:02x}{d:02x}…")
            }
            (None, None) => "an actor without a ref".to_owned(),
        }
    }

    /// What deliveries to the present instance may know.
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings {
            own: Caller::near(self.peer),
            incarnation: self.status.incarnation(),
            status: self.status.clone(),
            waits_for: Rc::default(),
        }
    }

    /// The ref to this actor under a protocol. The first one makes it an object of the mesh. An id per protocol, lest the
    /// holder of one ref call the other protocol.
    pub(crate) fn reference<P: ServedBy<A>>(self: &Arc<Self>, mesh: &Mesh) -> ActorRef<P> {
        let mut links = self.links.lock();
        let known = links.facets.iter().find(|(protocol, _)| *protocol == P::ID);
        if let Some((_, facet)) = known {
            return ActorRef::new(Target::Local(facet.clone()));
        }
        let facet = Arc::new(Facet {
            cell: self.clone(),
            object: mesh.new_object_id(),
            protocol: P::ID,
            messages: P::MESSAGES,
            table: P::TABLE,
        });
        // Knowing the id is the right to call.
        if self.status.ended().is_none() {
            mesh.objects().insert(facet.object, facet.clone());
            // Most actors have one protocol for ever.
            links.facets.reserve_exact(1);
            links.facets.push((P::ID, facet.clone()));
        }
        ActorRef::new(Target::Local(facet))
    }

    /// An instance has panicked, and another one is to follow: what the former had begun ends with it, its children and its
    /// watches, with what is still to be told of those.
    pub(crate) fn forget_instance(&self, hand: &mut Hand<A>) {
        let (children, watches) = {
            let mut links = self.links.lock();
            (std::mem::take(&mut links.children), std::mem::take(&mut links.watches))
        };
        for child in children {
            child.stop();
        }
        for (_, unwatch) in watches {
            unwatch();
        }
        self.inlet.forget_notices(hand, self.status.incarnation());
    }

    /// Another instance has taken over after a panic.
    pub(crate) fn restarted(&self, incarnation: u64) {
        let watchers: Vec<_> = self.links.lock().watchers.values().cloned().collect();
        for watcher in watchers {
            watcher.notice(Notice::Event(Event::Restarted { incarnation }));
        }
    }

    /// The actor is no more: refuses its messages, tells its watchers, and takes it out of the mesh. Only the first call
    /// does anything.
    pub(crate) fn end(&self, hand: &mut Hand<A>, reason: DownReason) {
        let links = {
            let mut links = self.links.lock();
            if self.status.ended().is_some() {
                return;
            }
            self.status.end(reason);
            std::mem::take(&mut *links)
        };
        // First: whatever happens to the rest, no child is left behind.
        for child in &links.children {
            child.stop();
        }
        let why = self.status.ended().unwrap_or(Fault::Stopped);
        self.dead_letters(self.inlet.close(hand, &why), || {
            self.name_of(&links.published, links.object())
        });
        if let Some(mesh) = self.mesh() {
            for (_, facet) in &links.facets {
                mesh.objects().remove(&facet.key().1);
            }
            let own: Vec<_> = links.facets.iter().map(|(_, facet)| facet.key()).collect();
            for id in &links.published {
                mesh.withdraw(id, |whose| own.contains(whose));
            }
        }
        for (_, watcher) in links.watchers {
            watcher.notice(Notice::Down(reason));
        }
        for (_, unwatch) in links.watches {
            unwatch();
        }
    }

    /// Whether the actor is to stop now; each request counts once, unless it is put off.
    pub(crate) fn stop_requested(&self) -> bool {
        self.inlet.stop_requested() && !self.status.puts_off_stop()
    }

    /// Refuses further messages, and those that wait. What the handlers have in hand goes on.
    fn drain(&self) {
        self.dead_letters(self.inlet.drain(), || self.name());
    }

    /// Refuses what the pump has in hand, once no further messages are taken.
    pub(crate) fn drain_hand(&self, hand: &mut Hand<A>) {
        self.dead_letters(self.inlet.drain_hand(hand), || self.name());
    }

    /// Says in the log that messages were left in the inlet.
    fn dead_letters(&self, left: usize, name: impl FnOnce() -> String) {
        if left > 0 {
            tracing::warn!(
                actor = name(),
                kind = std::any::type_name::<A>(),
                left,
                "ended with messages in its inlet: asks were answered, tells are dead letters"
            );
        }
    }

    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        let ended = {
            let mut links = self.links.lock();
            match self.status.down_reason() {
                Some(reason) => reason,
                None => {
                    links.watchers.insert(watch, sink);
                    return;
                }
            }
        };
        sink.notice(Notice::Down(ended));
    }

    fn unwatch(&self, watch: WatchId) {
        let ended = self.links.lock().watchers.remove(&watch);
        drop(ended);
    }

    /// Remembers how to end a watch that this actor has begun.
    pub(crate) fn remember_watch(&self, watch: WatchId, unwatch: Box<dyn FnOnce() + Send>) {
        let mut links = self.links.lock();
        if self.status.ended().is_none() {
            links.watches.insert(watch, unwatch);
        } else {
            drop(links);
            unwatch();
        }
    }

    /// Forgets one of this actor's watches and returns how to end it.
    pub(crate) fn forget_watch(&self, watch: WatchId) -> Option<Box<dyn FnOnce() + Send>> {
        self.links.lock().watches.remove(&watch)
    }

    /// Remembers an actor that is to end with this one.
    pub(crate) fn adopt(&self, child: Arc<dyn LocalTarget>) {
        let mut links = self.links.lock();
        if self.status.ended().is_none() {
            if links.children.len() == links.children.capacity() {
                links.children.retain(|child| child.status().ended().is_none());
            }
            links.children.push(child);
        } else {
            drop(links);
            child.stop();
        }
    }

    /// Takes one of `limit` places for a message that waits in another actor's line.
    pub(crate) fn reserve_outbox(&self, limit: usize) -> bool {
        let taken = self
            .outbox
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1));
        taken.is_ok()
    }

    /// Gives it back.
    pub(crate) fn release_outbox(&self) {
        self.outbox.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<A: RemoteActor> Named for ActorCell<A> {
    fn name(&self) -> String {
        format!("{} ({})", ActorCell::name(self), std::any::type_name::<A>())
    }
}

/// An actor under one of its protocols.
struct Facet<A: Actor> {
    cell: Arc<ActorCell<A>>,
    object: ObjectId,
    protocol: &'static str,
    messages: &'static [&'static str],
    table: &'static [Dispatch<A>],
}

impl<A: RemoteActor> LocalTarget for Facet<A> {
    fn send(&self, index: usize, slot: &mut dyn Any, when_full: WhenFull) -> Result<Queued, Fault> {
        let dispatch = self.table.get(index).ok_or(Fault::UnknownMessage)?;
        self.cell.inlet.send(when_full, |spare| dispatch.pack(slot, spare))
    }

    fn flush(&self, done: oneshot::Sender<Result<(), Fault>>) -> Result<Queued, Fault> {
        self.cell.inlet.send(WhenFull::Queue, |_| Some(Box::new(Some(Marker::Local(done)))))
    }

    fn status(&self) -> &Status {
        &self.cell.status
    }

    fn key(&self) -> (PeerId, ObjectId) {
        (self.cell.peer, self.object)
    }

    fn wire(&self) -> Option<WireRef> {
        let mesh = self.cell.mesh()?;
        Some(mesh.inner().wire_ref(self.object, mesh.inner().epoch, self.protocol.to_owned()))
    }

    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        self.cell.watch(watch, sink);
    }

    fn unwatch(&self, watch: WatchId) {
        self.cell.unwatch(watch);
    }

    fn exposed(self: Arc<Self>) -> Arc<dyn Exposed> {
        self
    }

    fn published_as(&self, id: ObjectId) {
        let mut links = self.cell.links.lock();
        if self.cell.status.ended().is_none() {
            if !links.published.contains(&id) {
                links.published.push(id);
            }
            return;
        }
        drop(links);
        // It has ended in the meantime and doesn't clear up after itself any more.
        if let Some(mesh) = self.cell.mesh() {
            mesh.withdraw(&id, |whose| *whose == self.key());
        }
    }

    fn unpublished(&self, id: ObjectId) {
        self.cell.links.lock().published.retain(|published| *published != id);
    }

    fn drain(&self) {
        self.cell.drain();
    }

    fn stop(&self) {
        // First, so that whoever is woken by the request knows that it is for good.
        self.cell.status.tell_to_stop();
        self.cell.inlet.request_stop();
    }

    fn binder(&self) -> WeakBinder {
        self.cell.mesh.binder()
    }
}

impl<A: RemoteActor> Exposed for Facet<A> {
    fn protocol(&self) -> &'static str {
        self.protocol
    }

    fn message_index(&self, id: &str) -> Option<u16> {
        let index = self.messages.iter().position(|known| *known == id)?;
        u16::try_from(index).ok()
    }

    fn refuses(&self, caller: &Caller) -> Option<Fault> {
        let left = self.cell.status.quarantine.refuses(caller)?;
        Some(Fault::Quarantined { left })
    }

    fn message_id(&self, index: u16) -> Option<&'static str> {
        self.messages.get(usize::from(index)).copied()
    }

    fn inbound(&self) -> Box<dyn Inbound> {
        Box::new(Lane {
            lane: self.cell.inlet.open_lane(),
            staged: Staged::new(),
            table: self.table,
            binder: self.cell.mesh.binder(),
        })
    }

    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        self.cell.watch(watch, sink);
    }

    fn unwatch(&self, watch: WatchId) {
        self.cell.unwatch(watch);
    }

    fn local(self: Arc<Self>) -> Arc<dyn LocalTarget> {
        self
    }
}

/// A lane's way in: decodes by the protocol's table.
struct Lane<A: Actor> {
    lane: InletLane<A>,
    staged: Staged<A>,
    table: &'static [Dispatch<A>],
    binder: WeakBinder,
}

fn no_such_number() -> DecodeError {
    DecodeError::Mismatch("no message of that number".into())
}

impl<A: RemoteActor> Inbound for Lane<A> {
    fn stage(
        &mut self,
        index: u16,
        payload: Payload<'_>,
        caller: Caller,
        reply: Option<RemoteReply>,
    ) -> Result<(), (DecodeError, Option<RemoteReply>)> {
        let Some(dispatch) = self.table.get(usize::from(index)) else {
            return Err((no_such_number(), reply));
        };
        dispatch.decode(payload, caller, reply, &mut self.staged)
    }

    fn set_port(&mut self, port: Arc<dyn ReplyPort>) {
        self.staged.port = Some(port);
    }

    fn binder(&self) -> WeakBinder {
        self.binder.clone()
    }

    fn stage_large(
        &mut self,
        index: u16,
        payload: OwnedPayload,
        caller: Caller,
        way_back: WayBack,
    ) -> Result<(), (DecodeError, WayBack)> {
        let Some(dispatch) = self.table.get(usize::from(index)) else {
            return Err((no_such_number(), way_back));
        };
        self.staged.deliveries.push(dispatch.defer(payload, caller, way_back, self.binder.clone()));
        Ok(())
    }

    fn stage_flush(&mut self, reply: RemoteReply) {
        self.staged.deliveries.push(Box::new(Some(Marker::Remote(reply))));
    }

    fn poll_reserve(&mut self, cx: &mut Context<'_>, want: u32) -> Poll<u32> {
        let granted =
            ready!(self.lane.poll_reserve(cx, usize::try_from(want).unwrap_or(usize::MAX)));
        // No more than was wanted, hence it fits.
        Poll::Ready(u32::try_from(granted).unwrap_or(want))
    }

    fn withdraw(&mut self) {
        self.lane.withdraw();
    }

    fn commit(&mut self) {
        self.lane.commit(self.staged.take_all());
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> u64 {
        self.lane.poll_taken(cx)
    }

    fn take_refused_tells(&mut self) -> u64 {
        self.lane.take_refused_tells()
    }

    fn refuse_untaken(&mut self) {
        self.lane.refuse_untaken();
    }
}
