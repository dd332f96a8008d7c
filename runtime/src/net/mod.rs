//! A mesh's connections, and what goes on upon them.
//!
//! - `connections`: all of them; `network`: how their mesh sees them; `far_target`: how a ref does.
//! - `session`: one link at work. `outbound`, `inbound`: lanes, a message's way out, and in.
//! - `shared`: what all connections share, and what they ask of their mesh.
//! - `objects`, `names`, `rights`: what can be reached from outside, under which name, and who uses a right to it.
//! - `remote_watches`: this mesh's watches on actors of others; `query`: a name that is asked for there.
//! - `stream`, `output`, `bodies`, `wake_batch`: how streams are filled, large bodies beside them, and wake-ups held back.
//! - `refusals`: what is refused to peers, counted and logged.

pub(crate) mod bodies;
pub(crate) mod connections;
pub(crate) mod far_target;
pub(crate) mod inbound;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod objects;
pub(crate) mod outbound;
pub(crate) mod output;
pub(crate) mod query;
pub(crate) mod refusals;
pub(crate) mod remote_watches;
pub(crate) mod rights;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod stream;
pub(crate) mod wake_batch;
