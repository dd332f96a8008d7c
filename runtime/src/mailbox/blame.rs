//! Whose message an asynchronous response works at, so that a panic of it is known to be that host's doing.

use crate::ground::message::Message;
use crate::mailbox::delivery::Surroundings;
use crate::refs::caller::{Blame, Caller};
use actix::fut::ActorFuture;
use actix::{Actor, AsyncContext, AtomicResponse, Context, Handler, ResponseActFuture};
use std::any::Any;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

/// The response to another host's message, attributed to that host if it is one that runs in the actor's context. (A
/// `ResponseFuture` runs apart and harms only itself.) Never `None`.
pub(crate) fn attributed<A, M>(
    response: A::Result,
    caller: Caller,
    ctx: &mut Context<A>,
    around: &Surroundings,
) -> Option<A::Result>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    let mut response = Some(response);
    let any: &mut dyn Any = &mut response;
    if let Some(future) = any.downcast_mut::<Option<ResponseActFuture<A, M::Result>>>() {
        if let Some(inner) = future.take() {
            *future = Some(Box::pin(Attributed { inner, caller }));
        }
    } else if any.is::<Option<AtomicResponse<A, M::Result>>>() {
        // actix hides its future. But while the actor waits for it, it does nothing else; and of what it waits for, it begins
        // with what came last, so that this runs as soon as the response is done.
        ctx.wait(EndOfWait(around.waits_for.clone()));
        around.waits_for.set(Some(caller));
    }
    response
}

/// A future that works at a message of another host.
struct Attributed<A: Actor, T> {
    inner: ResponseActFuture<A, T>,
    caller: Caller,
}

impl<A: Actor, T> ActorFuture<A> for Attributed<A, T> {
    type Output = T;

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        cx: &mut task::Context<'_>,
    ) -> Poll<T> {
        let this = self.get_mut();
        let _blame = Blame::enter(this.caller);
        this.inner.as_mut().poll(actor, ctx, cx)
    }
}

/// Comes to its turn when the actor no longer waits for another host's `AtomicResponse`.
struct EndOfWait(Rc<Cell<Option<Caller>>>);

impl<A: Actor> ActorFuture<A> for EndOfWait {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        _: &mut A,
        _: &mut A::Context,
        _: &mut task::Context<'_>,
    ) -> Poll<()> {
        self.0.set(None);
        Poll::Ready(())
    }
}
