//! What lies in a mailbox: a message of whatever type, for the actor that handles it.

use crate::ground::error::Fault;
use crate::refs::caller::Caller;
use crate::refs::status::Status;
use actix::Actor;
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// What a delivery may know of the actor that it reaches.
pub(crate) struct Surroundings {
    /// The caller that local messages come from: the own mesh.
    pub(crate) own: Caller,
    /// Which instance of the actor this is; 0 for the first.
    pub(crate) incarnation: u64,
    pub(crate) status: Arc<Status>,
    /// The host whose message's `AtomicResponse` the actor waits for.
    pub(crate) waits_for: Rc<Cell<Option<Caller>>>,
}

/// A message (or marker, or a run of messages) on its way to an actor of type `A`. Dropped undelivered, it answers as
/// `NoReply`.
pub(crate) trait Delivery<A: Actor>: Send {
    /// Hands it (or the next one of the run) to the handler, now. What is left of a single message is an empty box.
    fn deliver(&mut self, actor: &mut A, ctx: &mut A::Context, around: &Surroundings);
    /// Answers that it will never be handled. If a message panics when it is dropped, it is gone, and the next call refuses
    /// the rest.
    fn refuse(&mut self, why: Fault);
    /// How many messages it holds.
    fn count(&self) -> usize {
        1
    }
    /// How many of them are tells of another host's, whose sender hears nothing of them unless it is told.
    fn far_tells(&self) -> usize {
        0
    }
    /// Whether its delivery takes so long that others on the thread get their turn behind it.
    fn is_large(&self) -> bool {
        false
    }
    /// The incarnation that is told, if it is a notice of a watch.
    fn is_notice_to(&self) -> Option<u64> {
        None
    }
    /// The run of messages that it is, if it's one.
    fn run(&mut self) -> Option<&mut dyn Any> {
        None
    }
    /// The box itself, if another message can be put into it. Freeing on one thread what another one allocates costs
    /// more than all the rest of a tell.
    fn reusable(&mut self) -> Option<&mut dyn Any> {
        None
    }
}
