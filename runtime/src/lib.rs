//! Distributed actors on the public internet.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use webmesh::{ActorRef, Anyone, Mesh, Message, Protocol, RemoteActor, prelude::*};
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[message(id = "example.add", reply = u64)]
//! struct Add {
//!     n: u64,
//! }
//!
//! #[derive(Protocol)]
//! #[protocol(id = "example.sum/1", accepts(Add))]
//! struct Sum; // what others hold: ActorRef<Sum>
//!
//! #[derive(Default, RemoteActor)]
//! #[remote(serves(Sum))]
//! struct SumActor(u64);
//!
//! impl Actor for SumActor {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Add> for SumActor {
//!     type Result = u64;
//!     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
//!         self.0 += add.n;
//!         self.0
//!     }
//! }
//!
//! #[webmesh::main]
//! async fn main() -> webmesh::Result<()> {
//!     let host = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
//!     let sum = host.spawn(SumActor::default);
//!     host.publish("example/sum", &sum).version("1.0.0").allow(Anyone).await?;
//!
//!     // In another program, on another host:
//!     let guest = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
//!     let sum: ActorRef<Sum> = guest.resolve("example/sum").at(&host.peer_ref()).version("^1").await?;
//!     sum.tell(Add { n: 40 }).await?;
//!     assert_eq!(sum.ask(Add { n: 2 }).await?, 42);
//!     Ok(())
//! }
//! ```
//!
//! What may be relied on stands in docs/guarantees.md, each line with its test.
//!
//! The floors, in this order from the top down. Imports run downward only, which a test checks; each floor's own page lists its rooms.
//!
//! - `macros`, `entry`: the derives and attributes, and what `#[webmesh::main]` and `#[webmesh::test]` run in.
//! - `fuzzing`: what the fuzz targets do with an input.
//! - `actor`: how actors come into a mesh, live, are restarted and end, and what they can do from inside.
//! - `mesh`: one node: how it is started, what is published there, and how it ends.
//! - `net`: its connections, one connection at work, lanes in and out, and what can be reached from outside.
//! - `mailbox`: the bounded queue in front of an actor, and what lies in it.
//! - `refs`: what an application holds of an actor, the futures of its calls, and what stands behind them. [`access`]: who may
//!   call; [`watch`](mod@watch): what a watcher is told.
//! - `codec`: messages, refs and frames as bytes: [`payload`], [`bytes`].
//! - `ground`: what an application names in its API crate, messages and protocols: [`message`]; what can go wrong: [`error`].

extern crate self as webmesh;

mod macros;

mod entry;

#[doc(hidden)]
pub mod fuzzing;

mod actor;

mod mesh;

mod net;

mod mailbox;

mod refs;

mod codec;

mod ground;

pub use actor::context::{
    InMesh, OUTBOX_MAX, Serving, mesh, send, spawn_child, this, try_mesh, try_this, unwatch, watch,
    watch_events,
};
pub use actor::expose::MeshEnded;
pub use actor::restart::Restart;
pub use actor::spawn::Spawner;
pub use codec::bytes::Bytes;
pub use codec::{bytes, payload};
pub use ground::error::{AskError, TellError, TrySendError};
pub use ground::message::{Accepts, Message, Protocol, Streams};
pub use ground::{error, message};
pub use macros::{Message, Protocol, RemoteActor, Reply, main, test};
pub use mailbox::dispatch::{RemoteActor, ServedBy};
pub use mesh::Mesh;
pub use mesh::builder::{BODY_MAX, MeshBuilder, StartError, identity_in};
pub use mesh::departures::linger;
pub use mesh::descriptors::Descriptors;
pub use mesh::peers::{PingError, Pong};
pub use mesh::publish::{Publish, PublishError, Recheck, Resolve, Unpublish, UnpublishError};
pub use mesh::stats::{LinkStats, RefusalStats, Stats};
pub use net::query::ResolveError;
pub use refs::access::{Access, Anyone, Only};
pub use refs::actor_ref::ActorRef;
pub use refs::caller::{Caller, caller};
pub use refs::calls::{ASK_TIMEOUT, Ask, Flush, Tell};
pub use refs::cancellation::{Cancellation, cancellation};
pub use refs::watch::{Down, DownReason, Event, WatchEvent, WatchId};
pub use refs::{access, watch};
#[cfg(feature = "port-mapping")]
pub use webmesh_transport::nat::Router;
pub use webmesh_transport::nat::{Mapping, NatClass, Ports, Reachability};
pub use webmesh_transport::peer_ref::AddressRef;
pub use webmesh_transport::shortage;
pub use webmesh_transport::{
    BindError, Candidate, ConnectError, Drops, Explanation, JoinError, KeyFileError, PathKind,
    PeerId, PeerRef, PeerRefChanges, PlacementError, Relaying, SecretKey, Served, Service,
    peer_ref,
};
#[cfg(feature = "sim")]
pub use webmesh_transport::{MemoryNetwork, sim};

pub use actix;
pub use serde;

/// The result of a `main` that may fail in any way.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What the implementation of an actor needs of actix.
pub mod prelude {
    pub use actix::fut::{ActorFuture, ActorFutureExt, WrapFuture};
    pub use actix::{
        Actor, ActorContext, Addr, AsyncContext, AtomicResponse, Context, Handler, MessageResult,
        Response, ResponseActFuture, ResponseFuture, Running, SpawnHandle,
    };
}

/// What the derives expand to. Not for direct use; nothing here is stable.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "test-util")]
    pub use crate::entry::block_on_paused;
    pub use crate::entry::{Flavor, block_on};
    pub use crate::ground::message::assert_new_id;
    pub use crate::mailbox::dispatch::{Dispatch, assert_served};
    pub use crate::mailbox::expose_request::Attach;
    pub use actix;
}

/// `block_on_paused`, or a sentence that says what is missing for it. A feature of this crate is asked here, where it is known.
#[cfg(feature = "test-util")]
#[doc(hidden)]
#[macro_export]
macro_rules! __block_on_paused {
    ($future:expr) => {
        $crate::__private::block_on_paused($future)
    };
}

/// `block_on_paused`, or a sentence that says what is missing for it. A feature of this crate is asked here, where it is known.
#[cfg(not(feature = "test-util"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __block_on_paused {
    ($future:expr) => {{
        ::core::compile_error!(
            "the paused clock of `#[webmesh::test]` needs the feature `test-util` of `webmesh` in [dev-dependencies]; \
             `#[webmesh::test(clock = \"real\")]` does without"
        );
        $crate::__private::block_on($crate::__private::Flavor::CurrentThread, $future)
    }};
}

/// The README's program, compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
