//! From a typed message to an actor whose type the sender doesn't know, and the way back for its reply.
//!
//! `#[derive(Protocol)]` emits `impl<A> ServedBy<A> for Room where A: Handler<Join> + Handler<Post>`, whose constant table
//! has one [`Dispatch`] per message: how to box a message of a local sender, and how to decode one from the network. The
//! other way round (`impl Serves<Room> for A`) the orphan rule forbids it in an application's API crate.

use crate::codec::payload::{DecodeError, Payload};
use crate::ground::error::Fault;
use crate::ground::message::{Message, Protocol};
use crate::mailbox::blame::attributed;
use crate::mailbox::deferred::{Defer, defer};
use crate::mailbox::delivery::{Delivery, Surroundings};
use crate::mailbox::expose_request::Attach;
use crate::refs::binder::WeakBinder;
use crate::refs::caller::{Blame, Caller, CallerScope};
use crate::refs::cancellation::AskedScope;
use crate::refs::parcel::Parcel;
use crate::refs::responder::{Answer, LocalReply};
use crate::refs::status::InHand;
use crate::refs::target::OwnedPayload;
use crate::refs::way_back::{RemoteReply, ReplyPort, WayBack};
use actix::dev::MessageResponse;
use actix::{Actor, Context, Handler};
use std::any::Any;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::oneshot;

/// That actors of type `A` can stand behind an `ActorRef<Self>`: they handle every message of the protocol. Emitted by
/// `#[derive(Protocol)]`; never implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{A}` does not serve the protocol `{Self}`",
    note = "it needs a `Handler` for every message that the protocol accepts, and `type Context = Context<Self>`"
)]
pub trait ServedBy<A: Actor<Context = Context<A>>>: Protocol {
    /// One entry per message, in the order of [`Protocol::MESSAGES`].
    #[doc(hidden)]
    const TABLE: &'static [Dispatch<A>];
}

/// An actor that can be reached through `ActorRef`s. Derive it: `#[derive(RemoteActor)] #[remote(serves(Room))]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Webmesh actor",
    note = "derive it: `#[derive(webmesh::RemoteActor)] #[remote(serves(…))]`"
)]
pub trait RemoteActor: Actor<Context = Context<Self>> + Handler<Attach<Self>> {
    /// The protocol of the ref that `spawn` and `expose` return: the first one that the derive lists.
    type Main: ServedBy<Self>;
}

/// Called by the expansion of `#[derive(RemoteActor)]`, for each protocol beside [`RemoteActor::Main`].
#[doc(hidden)]
pub const fn assert_served<P: ServedBy<A>, A: Actor<Context = Context<A>>>() {}

type Pack<A> = fn(&mut dyn Any, &mut Vec<Box<dyn Delivery<A>>>) -> Option<Box<dyn Delivery<A>>>;

type Decode<A> = fn(
    Payload<'_>,
    Caller,
    Option<RemoteReply>,
    &mut Staged<A>,
) -> Result<(), (DecodeError, Option<RemoteReply>)>;

/// What came by one lane in one batch, decoded.
pub(crate) struct Staged<A: Actor> {
    pub(crate) deliveries: Vec<Box<dyn Delivery<A>>>,
    /// How long the last run of the batch before was.
    run_before: usize,
    /// Where the lane's sender is told of what is refused later.
    pub(crate) port: Option<Arc<dyn ReplyPort>>,
}

impl<A: Actor> Staged<A> {
    pub(crate) fn new() -> Self {
        Self { deliveries: Vec::new(), run_before: 0, port: None }
    }

    /// Everything, for a caller who takes it out. The next batch follows.
    pub(crate) fn take_all(&mut self) -> &mut Vec<Box<dyn Delivery<A>>> {
        self.run_before = self.before();
        &mut self.deliveries
    }

    fn before(&self) -> usize {
        self.deliveries.last().map_or(self.run_before, |last| last.count())
    }

    /// Messages that a new run gets room for: as many as the last one had, rounded up. Where messages stream one run is
    /// as long as the other, and growing each from nothing would copy it again and again. A sender that mixes its
    /// messages costs no more memory for that than for the messages themselves.
    fn room(&self) -> usize {
        self.before().next_power_of_two()
    }
}

/// How one message reaches actors of type `A`.
#[doc(hidden)]
pub struct Dispatch<A: Actor> {
    local: Pack<A>,
    remote: Decode<A>,
    large: Defer<A>,
}

impl<A: Actor<Context = Context<A>>> Dispatch<A> {
    /// The entry of message `M`.
    pub const fn of<M: Message>() -> Self
    where
        A: Handler<M>,
    {
        Self { local: pack::<A, M>, remote: decode::<A, M>, large: defer::<A, M> }
    }

    /// Boxes the `Option<Parcel<M>>` in the slot, leaving `None`; in the last of the spare boxes, if it fits. `None`: the
    /// slot holds another type, or nothing. Runs no code of the application.
    pub(crate) fn pack(
        &self,
        slot: &mut dyn Any,
        spare: &mut Vec<Box<dyn Delivery<A>>>,
    ) -> Option<Box<dyn Delivery<A>>> {
        (self.local)(slot, spare)
    }

    /// Decodes a message from the network and puts it behind the staged ones.
    pub(crate) fn decode(
        &self,
        payload: Payload<'_>,
        caller: Caller,
        reply: Option<RemoteReply>,
        staged: &mut Staged<A>,
    ) -> Result<(), (DecodeError, Option<RemoteReply>)> {
        (self.remote)(payload, caller, reply, staged)
    }

    /// Boxes a large message from the network as it came, to be decoded when the actor takes it.
    pub(crate) fn defer(
        &self,
        payload: OwnedPayload,
        caller: Caller,
        way_back: WayBack,
        binder: WeakBinder,
    ) -> Box<dyn Delivery<A>> {
        (self.large)(payload, caller, way_back, binder)
    }
}

fn pack<A, M>(
    slot: &mut dyn Any,
    spare: &mut Vec<Box<dyn Delivery<A>>>,
) -> Option<Box<dyn Delivery<A>>>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    let parcel = slot.downcast_mut::<Option<Parcel<M>>>()?;
    let fitting =
        spare.last_mut().and_then(|spare| spare.reusable()).and_then(|spare| spare.downcast_mut());
    match fitting {
        Some(empty) => {
            std::mem::swap::<Option<Parcel<M>>>(empty, parcel);
            spare.pop()
        }
        None => Some(Box::new(Some(parcel.take()?))),
    }
}

fn decode<A, M>(
    payload: Payload<'_>,
    caller: Caller,
    reply: Option<RemoteReply>,
    staged: &mut Staged<A>,
) -> Result<(), (DecodeError, Option<RemoteReply>)>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    let message = match payload.decode::<M>() {
        Ok(message) => message,
        Err(error) => return Err((error, reply)),
    };
    let run = staged.deliveries.last_mut().and_then(|last| last.run());
    match run.and_then(|run| run.downcast_mut::<Run<M>>()) {
        Some(run) => run.parcels.push_back((message, reply)),
        None => {
            let mut parcels = VecDeque::with_capacity(staged.room());
            parcels.push_back((message, reply));
            let port = staged.port.clone();
            staged.deliveries.push(Box::new(Run { caller, port, parcels }));
        }
    }
    Ok(())
}

/// The largest parcel whose box is kept for another one, in bytes: with as many as an inlet keeps, 8 KiB. A guess.
const REUSABLE_BYTES_MAX: usize = 128;

impl<A, M> Delivery<A> for Option<Parcel<M>>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    fn deliver(&mut self, actor: &mut A, ctx: &mut Context<A>, around: &Surroundings) {
        let Some(Parcel { message, mut reply }) = self.take() else { return };
        if let Some(fate) = reply.as_ref().and_then(LocalReply::fate) {
            if fate.is_abandoned() {
                return;
            }
            fate.handled_by(around.incarnation);
        }
        let response = {
            let _scope = CallerScope::enter(around.own, ctx);
            let asked = AskedScope::near(reply.as_mut().and_then(LocalReply::take_fate), ctx);
            let response = actor.handle(message, ctx);
            if let Some(reply) = &mut reply {
                reply.put_fate(asked.leave_near());
            }
            response
        };
        response.handle(ctx, reply.as_mut().and_then(LocalReply::take_sender));
        if let Some(reply) = reply {
            reply.handed_over(&around.status);
        }
    }

    fn refuse(&mut self, why: Fault) {
        if let Some(Parcel { reply: Some(reply), .. }) = self.take() {
            reply.fate().inspect(|fate| fate.refused(&why));
        }
    }

    fn reusable(&mut self) -> Option<&mut dyn Any> {
        (size_of::<Self>() <= REUSABLE_BYTES_MAX).then_some(self)
    }
}

/// Hands a message from the network to its handler, and sends the reply when there is one. One that was cancelled meanwhile
/// is dropped.
pub(crate) fn handle<A, M>(
    message: M,
    caller: Caller,
    reply: Option<RemoteReply>,
    actor: &mut A,
    ctx: &mut Context<A>,
    around: &Surroundings,
) where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    // To the end, for the message is in hand until its reply, if there is one now, is encoded.
    let _blame = Blame::enter(caller);
    if reply.as_ref().is_some_and(RemoteReply::is_cancelled) {
        return;
    }
    let (response, reply) = {
        let _scope = CallerScope::enter(caller, ctx);
        let asked = AskedScope::far(reply, ctx);
        (actor.handle(message, ctx), asked.leave())
    };
    let Some(response) = attributed::<A, M>(response, caller, ctx, around) else { return };
    let Some(reply) = reply else {
        response.handle(ctx, None);
        return;
    };
    let (sender, mut receiver) = oneshot::channel();
    response.handle(ctx, Some(sender));
    match receiver.try_recv() {
        // A plain response is there already: encoded on this thread, no task, no hop.
        Ok(value) => reply.reply(&mut |encoder| encoder.encode(&value)),
        Err(oneshot::error::TryRecvError::Closed) => reply.fault(Fault::NoReply),
        Err(oneshot::error::TryRecvError::Empty) => reply_later(reply, receiver, around),
    }
}

/// Sends the reply as soon as the handler's future has it.
fn reply_later<T: serde::Serialize + 'static>(
    reply: RemoteReply,
    receiver: oneshot::Receiver<T>,
    around: &Surroundings,
) {
    let status = around.status.clone();
    let mut answer = Answer::from(receiver);
    answer.fate().handled_by(around.incarnation);
    let send = |reply: RemoteReply, outcome: Result<T, Fault>| match outcome {
        Ok(value) => reply.reply(&mut |encoder| encoder.encode(&value)),
        Err(fault) => reply.fault(fault),
    };
    match answer.watch(&status) {
        Poll::Ready(outcome) => send(reply, outcome),
        // A task of its own, as actix gives a `ResponseFuture`: it must outlive the actor's context.
        Poll::Pending => {
            status.has_in_hand(InHand::far(answer.fate().clone(), &reply));
            drop(tokio::task::spawn_local(async move {
                let outcome = poll_fn(|cx| answer.poll(cx, &status)).await;
                send(reply, outcome);
            }));
        }
    }
}

/// Messages of one type that came by one lane in one batch: allocated together, for they are freed on another thread.
struct Run<M> {
    /// Of all of them: a lane has one sender.
    caller: Caller,
    /// How it is told of tells that the actor refuses.
    port: Option<Arc<dyn ReplyPort>>,
    parcels: VecDeque<(M, Option<RemoteReply>)>,
}

impl<M> Run<M> {
    /// The actor takes nothing of this sender's for now. All that are left are refused together, so that their sender is
    /// told of its tells at once.
    fn turn_away(&mut self, why: Fault) {
        let tells = self.parcels.iter().filter(|(_, reply)| reply.is_none()).count();
        if tells > 0
            && let Some(port) = &self.port
        {
            port.undelivered(tells as u64, why.clone());
        }
        self.refuse_all(&why);
    }

    fn refuse_all(&mut self, why: &Fault) {
        // One by one: two that panic when they are dropped together would be one too many for the process.
        while let Some((message, reply)) = self.parcels.pop_front() {
            if let Some(reply) = reply {
                reply.fault(why.clone());
            }
            drop(message);
        }
    }
}

impl<A, M> Delivery<A> for Run<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    fn deliver(&mut self, actor: &mut A, ctx: &mut Context<A>, around: &Surroundings) {
        if let Some(left) = around.status.quarantine.refuses(&self.caller) {
            return self.turn_away(Fault::Quarantined { left });
        }
        if let Some((message, reply)) = self.parcels.pop_front() {
            handle(message, self.caller, reply, actor, ctx, around);
        }
    }

    fn refuse(&mut self, why: Fault) {
        self.refuse_all(&why);
    }

    fn count(&self) -> usize {
        self.parcels.len()
    }

    fn far_tells(&self) -> usize {
        self.parcels.iter().filter(|(_, reply)| reply.is_none()).count()
    }

    fn run(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }
}

/// Marks a place in the queue: done when everything before it was taken by the handler.
pub(crate) enum Marker {
    /// Of a local sender.
    Local(oneshot::Sender<Result<(), Fault>>),
    /// Of a lane.
    Remote(RemoteReply),
}

impl<A: Actor> Delivery<A> for Option<Marker> {
    fn deliver(&mut self, _actor: &mut A, _ctx: &mut A::Context, _around: &Surroundings) {
        match self.take() {
            Some(Marker::Local(done)) => drop(done.send(Ok(()))),
            // A flush is answered with no payload at all.
            Some(Marker::Remote(reply)) => reply.reply(&mut |_| Ok(())),
            None => {}
        }
    }

    fn refuse(&mut self, why: Fault) {
        match self.take() {
            Some(Marker::Local(done)) => drop(done.send(Err(why))),
            Some(Marker::Remote(reply)) => reply.fault(why),
            None => {}
        }
    }
}
