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
//! The rooms:
//!
//! - [`message`]: what an application names in its API crate: messages and protocols.
//! - `actor_ref`, `calls`: what it holds of an actor, and the futures of its calls.
//! - `dispatch`, `large`: from a typed message to an actor of unknown type, and back for its reply; large ones from afar.
//! - [`payload`], [`bytes`]: messages as bytes.
//! - `near`: calls within a mesh that are encoded all the same, for tests.
//! - `remote`, `network`, `wire_ref`: the seams to the half that holds connections.
//! - `outbound`, `inbound`, `body`: lanes: a message's way out, and in; large bodies beside them.
//! - `frame`, `stream`, `scratch`: frames as bytes, and how streams are filled with them.
//! - `links`, `session`, `watches`: a mesh's connections, one connection at work, watches over them.
//! - `objects`, `names`, [`access`]: what can be reached from outside, under which name, and by whom.
//! - `rights`, `named`: rules that are asked again, and refs in the process of their actor that fall under them.
//! - `inlet`, `pump`, `cork`: the bounded queue in front of an actor, and what feeds the actor from it.
//! - `actor_cell`, `supervise`, `restart`, `status`: what stays of an actor over its restarts, who restarts it, and when.
//! - `quarantine`, `blame`: who is refused, for his messages made an actor panic, and how that is known.
//! - `turn`: on which task's behalf this thread runs an actor.
//! - `context`, `caller`, `cancellation`, [`watch`](mod@watch), `attach`: what an actor can do from inside.
//! - `mesh`, `builder`, `spawn`, `publish`: one node.
//! - `refusals`, `stats`: what it refuses its peers, counted and logged; a snapshot of all that it does.
//! - `departures`: nodes that are on their way out, and the way out of `main`.
//! - `macros`, `entry`: the derives and attributes, and what `#[webmesh::main]` and `#[webmesh::test]` run in.
//! - [`error`]: what can go wrong.

extern crate self as webmesh;

pub mod access;
mod actor_cell;
mod actor_ref;
mod attach;
mod blame;
mod body;
mod builder;
pub mod bytes;
mod caller;
mod calls;
mod cancellation;
mod context;
mod cork;
mod departures;
mod dispatch;
mod entry;
pub mod error;
mod fate;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod inbound;
mod inlet;
mod large;
mod links;
mod macros;
mod mesh;
pub mod message;
mod named;
mod names;
mod near;
mod network;
mod objects;
mod outbound;
pub mod payload;
mod publish;
mod pump;
mod quarantine;
mod refusals;
mod remote;
mod restart;
mod rights;
mod scratch;
mod session;
mod spawn;
mod stats;
mod status;
mod stream;
mod supervise;
mod turn;
pub mod watch;
mod watches;
mod wire_ref;

pub use access::{Access, Anyone, Only};
pub use actor_ref::ActorRef;
pub use builder::{BODY_MAX, MeshBuilder, StartError, identity_in};
pub use bytes::Bytes;
pub use caller::{Caller, caller};
pub use calls::{ASK_TIMEOUT, Ask, Flush, Tell};
pub use cancellation::{Cancellation, cancellation};
pub use context::{
    InMesh, OUTBOX_MAX, Serving, mesh, send, spawn_child, this, try_mesh, try_this, unwatch, watch,
    watch_events,
};
pub use departures::linger;
pub use dispatch::{RemoteActor, ServedBy};
pub use error::{AskError, TellError, TrySendError};
pub use macros::{Message, Protocol, RemoteActor, Reply, main, test};
pub use mesh::{Descriptors, Mesh, MeshEnded, PingError, Pong};
pub use message::{Accepts, Message, Protocol, Streams};
pub use publish::{
    Publish, PublishError, Recheck, Resolve, ResolveError, Unpublish, UnpublishError,
};
pub use restart::Restart;
pub use spawn::Spawner;
pub use stats::{LinkStats, RefusalStats, Stats};
pub use watch::{Down, DownReason, Event, WatchEvent, WatchId};
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
    pub use crate::attach::Attach;
    pub use crate::dispatch::{Dispatch, assert_served};
    #[cfg(feature = "test-util")]
    pub use crate::entry::block_on_paused;
    pub use crate::entry::{Flavor, block_on};
    pub use crate::message::assert_new_id;
    pub use actix;
}

/// The README's program, compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
