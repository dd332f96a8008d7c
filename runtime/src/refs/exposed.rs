//! An actor as the network's side sees it. The traits hide its type: behind them stand a mailbox and a dispatch table.

use crate::codec::payload::{DecodeError, Payload};
use crate::ground::error::Fault;
use crate::refs::binder::WeakBinder;
use crate::refs::caller::Caller;
use crate::refs::target::{LocalTarget, OwnedPayload};
use crate::refs::watch::{WatchId, WatchSink};
use crate::refs::way_back::{RemoteReply, ReplyPort, WayBack};
use std::sync::Arc;
use std::task::{Context, Poll};

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
    /// be called within a `DecodeScope` of [`Self::binder`], one for many messages.
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
    fn binder(&self) -> WeakBinder;
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
