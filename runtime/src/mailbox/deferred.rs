//! Large messages from the network. Decoding one can take as long as handling it, so it is done when the actor takes it,
//! on the actor's thread: the network's thread works for all peers and actors of the mesh. Bytes that travel as
//! [`Bytes`](crate::Bytes) are never decoded, and don't make a message large in this sense.

use crate::ground::error::Fault;
use crate::ground::message::Message;
use crate::mailbox::delivery::{Delivery, Surroundings};
use crate::mailbox::dispatch::handle;
use crate::refs::binder::WeakBinder;
use crate::refs::caller::Caller;
use crate::refs::decode_scope::DecodeScope;
use crate::refs::target::OwnedPayload;
use crate::refs::way_back::WayBack;
use actix::{Actor, Context, Handler};
use std::marker::PhantomData;

/// How a large message is kept for actors of type `A`.
pub(crate) type Defer<A> = fn(OwnedPayload, Caller, WayBack, WeakBinder) -> Box<dyn Delivery<A>>;

/// See [`Defer`].
pub(crate) fn defer<A, M>(
    payload: OwnedPayload,
    caller: Caller,
    way_back: WayBack,
    binder: WeakBinder,
) -> Box<dyn Delivery<A>>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    Box::new(Large::<M> {
        undecoded: Some(Undecoded { payload, caller, way_back, binder }),
        message: PhantomData,
    })
}

/// A message of type `M`, as it came.
struct Large<M> {
    undecoded: Option<Undecoded>,
    message: PhantomData<fn() -> M>,
}

struct Undecoded {
    payload: OwnedPayload,
    caller: Caller,
    way_back: WayBack,
    /// For the refs in it.
    binder: WeakBinder,
}

impl<A, M> Delivery<A> for Large<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message,
{
    fn deliver(&mut self, actor: &mut A, ctx: &mut Context<A>, around: &Surroundings) {
        let Some(Undecoded { payload, caller, way_back, mut binder }) = self.undecoded.take()
        else {
            return;
        };
        if way_back.is_cancelled() {
            return;
        }
        if let Some(left) = around.status.quarantine.refuses(&caller) {
            return way_back.fault(Fault::Quarantined { left });
        }
        let decoded = {
            let _scope = DecodeScope::enter(&mut binder, caller.peer());
            payload.decode::<M>()
        };
        drop(payload);
        match decoded {
            Ok(message) => handle(message, caller, way_back.reply(), actor, ctx, around),
            // Now, before it counts as taken: a flush behind it must not succeed before its sender knows.
            Err(error) => {
                let why = error.to_string();
                if let Some(mesh) = binder.upgrade() {
                    mesh.undecodable(caller.peer(), M::ID, &why);
                }
                way_back.fault(Fault::BadPayload(why));
            }
        }
    }

    fn refuse(&mut self, why: Fault) {
        // A tell is counted by the inlet, which says so for all tells together.
        if let Some(reply) = self.undecoded.take().and_then(|large| large.way_back.reply()) {
            reply.fault(why);
        }
    }

    fn far_tells(&self) -> usize {
        let tell = |large: &Undecoded| matches!(large.way_back, WayBack::Tell(_));
        usize::from(self.undecoded.as_ref().is_some_and(tell))
    }

    fn is_large(&self) -> bool {
        true
    }
}
