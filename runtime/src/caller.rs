//! Who asks: the authenticated sender of the message that a handler has in hand.

use actix::{Actor, Context};
use std::cell::Cell;
use webmesh_transport::PeerId;

/// The authenticated sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    peer: PeerId,
}

impl Caller {
    pub(crate) fn new(peer: PeerId) -> Self {
        Self { peer }
    }

    /// The peer whose key authenticated the connection on which the message came. For a message from the same mesh it is
    /// the mesh's own id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }
}

thread_local! {
    static CALLER: Cell<Option<Caller>> = const { Cell::new(None) };
}

/// Who sent the message in hand.
///
/// `Some` only in the synchronous part of `handle`, and only for messages that came through an
/// [`ActorRef`](crate::ActorRef). Copy it before going asynchronous: inside the futures that a handler returns, in
/// timers, and for messages sent through a plain actix `Addr` it is `None` (never another message's caller), which an
/// access check must treat as refusal.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "go", reply = u64)]
/// # struct Go;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Go))]
/// # struct Example;
/// # #[derive(webmesh::RemoteActor)]
/// # #[remote(serves(Example))]
/// # struct ExampleActor;
/// # impl Actor for ExampleActor { type Context = Context<Self>; }
/// impl Handler<Go> for ExampleActor {
///     type Result = u64;
///     fn handle(&mut self, _: Go, ctx: &mut Context<Self>) -> u64 {
///         match webmesh::caller(ctx) {
///             Some(caller) => println!("{} asks", caller.peer()),
///             None => println!("nobody who can be named asks"),
///         }
///         1
///     }
/// }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # assert_eq!(mesh.spawn(|| ExampleActor).ask(Go).await?, 1);
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub fn caller<A: Actor<Context = Context<A>>>(_ctx: &Context<A>) -> Option<Caller> {
    CALLER.get()
}

/// While it lives, [`caller`] answers with the given one on this thread. Handlers don't nest, so there's no outer one.
pub(crate) struct CallerScope(());

impl CallerScope {
    pub(crate) fn enter(caller: Caller) -> Self {
        CALLER.set(Some(caller));
        Self(())
    }
}

impl Drop for CallerScope {
    fn drop(&mut self) {
        CALLER.set(None);
    }
}
