//! How a running actix actor gets an inlet: by a message that its own context handles.

use actix::{Actor, Context};

/// Asks an actor to take its messages from an inlet too. `#[derive(RemoteActor)]` emits the handler; only
/// [`Mesh::expose`](crate::Mesh::expose) sends it.
#[doc(hidden)]
pub struct Attach<A: Actor> {
    install: Install<A>,
}

type Install<A> = Box<dyn FnOnce(&mut <A as Actor>::Context) + Send>;

impl<A: Actor<Context = Context<A>>> Attach<A> {
    pub(crate) fn new(install: impl FnOnce(&mut Context<A>) + Send + 'static) -> Self {
        Self { install: Box::new(install) }
    }
}

impl<A: Actor> Attach<A> {
    /// Called in the actor's context.
    pub fn install(self, ctx: &mut A::Context) {
        (self.install)(ctx);
    }
}

impl<A: Actor> actix::Message for Attach<A> {
    type Result = ();
}
