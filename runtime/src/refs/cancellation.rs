//! What a handler can learn of its asker: that nobody waits for the answer any more.

use crate::refs::caller::place_of;
use crate::refs::responder::Fate;
use crate::refs::way_back::RemoteReply;
use actix::{Actor, Context};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Whether the asker of one message has given up: its time was up, or it dropped the ask's future, or its connection has
/// ended. Got by [`cancellation`]; clones are the same.
///
/// Nothing is ever cut short by it: a handler that doesn't look goes on to its end, and its answer is dropped.
#[derive(Clone, Debug)]
pub struct Cancellation {
    /// `None`: nobody asks.
    signal: Option<Arc<Signal>>,
}

impl Cancellation {
    /// Whether the asker has given up. Always `false` for a message that was told, and once the ask was answered.
    pub fn is_cancelled(&self) -> bool {
        self.signal.as_ref().is_some_and(|signal| signal.is_given())
    }

    /// Resolves when the asker has given up; for a message that was told, or an ask that was answered, never.
    pub async fn cancelled(&self) {
        match &self.signal {
            Some(signal) => signal.given().await,
            None => std::future::pending().await,
        }
    }
}

/// Whether whoever asked the message in hand still waits for the answer, now and later.
///
/// To be called in the synchronous part of `handle`, for messages that came through an
/// [`ActorRef`](crate::ActorRef), near or far; the [`Cancellation`] can be taken into the future that a handler returns.
/// Elsewhere, in another actor's context, and for messages that were told, nobody is there to give up. It costs an allocation, and nothing where it
/// isn't called.
///
/// A far asker's word takes as long as a packet from there. A peer that is older than this says nothing, and neither does one
/// that has ended its stream to the actor in the meantime (it was idle, or one of too many); then the end of the connection is
/// what cancels.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "next", reply = Option<u64>)]
/// # struct Next;
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "example/1", accepts(Next))]
/// # struct Example;
/// # #[derive(webmesh::RemoteActor)]
/// # #[remote(serves(Example))]
/// # struct ExampleActor;
/// # impl Actor for ExampleActor { type Context = Context<Self>; }
/// # async fn news() -> u64 { 7 }
/// impl Handler<Next> for ExampleActor {
///     type Result = ResponseFuture<Option<u64>>;
///     fn handle(&mut self, _: Next, ctx: &mut Context<Self>) -> Self::Result {
///         let asker = webmesh::cancellation(ctx);
///         Box::pin(async move {
///             tokio::select! {
///                 n = news() => Some(n),
///                 () = asker.cancelled() => None, // nobody wants to know any more
///             }
///         })
///     }
/// }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// # assert_eq!(mesh.spawn(|| ExampleActor).ask(Next).await?, Some(7));
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub fn cancellation<A: Actor<Context = Context<A>>>(ctx: &Context<A>) -> Cancellation {
    let asked = ASKED.take();
    let signal = match &asked {
        Some((context, asked)) if *context == place_of(ctx) => match asked {
            Asked::Near(fate) => Some(fate.signal()),
            Asked::Far(reply) => reply.signal(),
        },
        _ => None,
    };
    ASKED.set(asked);
    Cancellation { signal }
}

/// Says once that an asker has given up.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    given: AtomicBool,
    waiting: Notify,
}

impl Signal {
    pub(crate) fn give(&self) {
        self.given.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    async fn given(&self) {
        let mut notified = std::pin::pin!(self.waiting.notified());
        // In line before looking, lest the signal come in between.
        notified.as_mut().enable();
        if !self.is_given() {
            notified.await;
        }
    }
}

thread_local! {
    /// With the place of the context that has the message in hand.
    static ASKED: Cell<Option<(usize, Asked)>> = const { Cell::new(None) };
}

/// Who waits for the answer to the message in hand.
enum Asked {
    Near(Arc<Fate>),
    Far(RemoteReply),
}

/// While it lives, [`cancellation`] on this thread is about the given ask. It holds the way back meanwhile: a panic of the
/// handler drops that here.
pub(crate) struct AskedScope {
    entered: bool,
    outer: Option<(usize, Asked)>,
}

impl AskedScope {
    /// For the ask of a local sender. `None`: a tell.
    pub(crate) fn near<A: Actor<Context = Context<A>>>(
        fate: Option<Arc<Fate>>,
        ctx: &Context<A>,
    ) -> Self {
        Self::enter(fate.map(|fate| (place_of(ctx), Asked::Near(fate))))
    }

    /// For the ask of a remote one.
    pub(crate) fn far<A: Actor<Context = Context<A>>>(
        reply: Option<RemoteReply>,
        ctx: &Context<A>,
    ) -> Self {
        Self::enter(reply.map(|reply| (place_of(ctx), Asked::Far(reply))))
    }

    fn enter(asked: Option<(usize, Asked)>) -> Self {
        match asked {
            Some(asked) => Self { entered: true, outer: ASKED.replace(Some(asked)) },
            None => Self { entered: false, outer: None },
        }
    }

    /// The handler has returned; gives back the way back of a remote ask.
    pub(crate) fn leave(mut self) -> Option<RemoteReply> {
        match self.take() {
            Some(Asked::Far(reply)) => Some(reply),
            _ => None,
        }
    }

    /// The handler has returned; gives back what is shared with a local asker.
    pub(crate) fn leave_near(mut self) -> Option<Arc<Fate>> {
        match self.take() {
            Some(Asked::Near(fate)) => Some(fate),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<Asked> {
        if !std::mem::take(&mut self.entered) {
            return None;
        }
        ASKED.replace(self.outer.take()).map(|(_, asked)| asked)
    }
}

impl Drop for AskedScope {
    fn drop(&mut self) {
        if let Some(Asked::Near(fate)) = self.take()
            && std::thread::panicking()
        {
            fate.refused(&crate::ground::error::Fault::Panicked);
        }
    }
}
