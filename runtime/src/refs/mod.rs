//! What is held of an actor, and what is seen of it through a ref.
//!
//! - `actor_ref`, `calls`: what an application holds, and the futures of its calls; `parcel`, `responder`: a message within
//!   this process, and who answers it.
//! - `target`: what stands behind a ref; `exposed`, `way_back`: an actor as the network's side sees it, and how it answers.
//! - `binder`, `decode_scope`: what binds refs that are decoded; `near`: calls within a mesh that are encoded all the same, for
//!   tests.
//! - `status`, `quarantine`: what is known of an actor over its restarts, and whom it refuses.
//! - `caller`, `cancellation`, [`access`]: who calls, whether he still waits, and who may.
//! - [`watch`]: what a watcher is told.
//! - `turn`: on which task's behalf this thread runs an actor.

pub mod access;
pub(crate) mod actor_ref;
pub(crate) mod binder;
pub(crate) mod caller;
pub(crate) mod calls;
pub(crate) mod cancellation;
pub(crate) mod decode_scope;
pub(crate) mod exposed;
pub(crate) mod near;
pub(crate) mod parcel;
pub(crate) mod quarantine;
pub(crate) mod responder;
pub(crate) mod status;
pub(crate) mod target;
pub(crate) mod turn;
pub mod watch;
pub(crate) mod way_back;
