//! Distributed actors on the public internet.
//!
//! The rooms, in the order of a message's way:
//!
//! - [`message`]: what an application names in its API crate: messages and protocols.
//! - `dispatch`: from a typed message to an actor of unknown type, and back for its reply.
//! - [`payload`], [`bytes`]: messages as bytes.
//! - `remote`: the seam to the network's half.
//! - `objects`, [`access`]: what can be reached from outside, and by whom.
//! - [`caller`](mod@caller), [`watch`](mod@watch), `status`, `wire_ref`: what travels with refs and messages.
//! - [`mesh`](mod@mesh): one node.
//! - `entry`: what `#[webmesh::main]` and `#[webmesh::test]` run in.
//! - [`error`]: what can go wrong.

// The remote half, under construction, is what uses the rest.
#![allow(dead_code)]

extern crate self as webmesh;

pub mod access;
mod attach;
pub mod bytes;
pub mod caller;
mod dispatch;
mod entry;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod mesh;
pub mod message;
mod objects;
pub mod payload;
mod remote;
mod status;
pub mod watch;
mod wire_ref;

pub use access::{Access, Anyone, Only};
pub use bytes::Bytes;
pub use caller::{Caller, caller};
pub use dispatch::{RemoteActor, ServedBy};
pub use error::{AskError, TellError, TrySendError};
pub use mesh::Mesh;
pub use message::{Accepts, Message, Protocol, Streams};
pub use watch::{Down, DownReason, Event, WatchEvent, WatchId};
pub use webmesh_macros::{Message, Protocol, RemoteActor, Reply, main, test};
pub use webmesh_transport::{PeerId, SecretKey};

pub use actix;
pub use serde;

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
