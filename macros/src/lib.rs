//! The derive and attribute macros of Webmesh. Use them through the crate `webmesh`, which re-exports them.
//!
//! - `message`, `protocol`, `remote_actor`, `reply`: one derive each.
//! - `entry`: `#[webmesh::main]` and `#[webmesh::test]`.
//! - `attr`: what the attributes have in common: keys, ids, the name of the crate, errors.
//! - `octets`: finds fields that would be encoded byte by byte.
//!
//! Expansions name nothing but the crate `webmesh`, so a user depends on it alone. Where it goes by another name,
//! `crate = path` in the attribute says so. Mistakes are reported all at once, each at its own place, and
//! what can be emitted in spite of them is: the compiler then doesn't complain about every use of the type as well.

mod attr;
mod entry;
mod message;
mod octets;
mod protocol;
mod remote_actor;
mod reply;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Emits what makes a struct or an enum a message. The keys of `#[message(…)]`:
///
/// - `id = "chat.post"`: its name on the wire, 1 to 128 bytes. It decides what two programs mean by the same message;
///   the Rust name may change freely. Required.
/// - `reply = u64`: the type that an `ask` is answered with; `()` if left out. It is encoded like the message, so it
///   implements `Serialize` and `DeserializeOwned`. A type of your own that a handler returns as it is also
///   needs `#[derive(Reply)]`.
/// - `crate = path`: of the crate `webmesh` where it isn't `::webmesh`.
///
/// The type also needs serde's `Serialize` and `Deserialize`. It can't be generic, for its id names one type. Fields
/// and replies with a `Vec<u8>` are refused: they would be encoded byte by byte; use `webmesh::Bytes`, or serde's
/// `with` on the field.
#[proc_macro_derive(Message, attributes(message))]
pub fn message(item: TokenStream) -> TokenStream {
    message::derive(&parse_macro_input!(item as DeriveInput)).into()
}

/// Emits what makes a type the token of a protocol. The keys of `#[protocol(…)]`:
///
/// - `id = "example.chat.room/1"`: its name on the wire, 1 to 128 bytes, with a version. Required.
/// - `accepts(Join, Post)`: the messages, each one once. `stream(M)` names a message that is answered by a stream.
///   Required, but it may be empty: such an actor can be watched, not asked.
/// - `crate = path`: of the crate `webmesh` where it isn't `::webmesh`.
///
/// Two messages with one id in a protocol don't compile. The type itself, a struct or an enum without
/// parameters, is never instantiated.
#[proc_macro_derive(Protocol, attributes(protocol))]
pub fn protocol(item: TokenStream) -> TokenStream {
    protocol::derive(&parse_macro_input!(item as DeriveInput)).into()
}

/// Emits what lets an actor serve protocols. The keys of `#[remote(…)]`:
///
/// - `serves(Room, Admin)`: the protocols. The first one is the type of the ref that `Mesh::spawn` returns. Required.
/// - `crate = path`: of the crate `webmesh` where it isn't `::webmesh`.
///
/// The actor needs `type Context = Context<Self>` and a `Handler` for every message of these protocols; the compiler
/// names those that are missing. Streamed messages need none yet. It may be generic.
#[proc_macro_derive(RemoteActor, attributes(remote))]
pub fn remote_actor(item: TokenStream) -> TokenStream {
    remote_actor::derive(&parse_macro_input!(item as DeriveInput)).into()
}

/// Emits actix's `MessageResponse`, which actix itself has only for its own types, numbers, strings, `Option`,
/// `Result` and `Vec`. The one key is `#[reply(crate = path)]`, where `webmesh` isn't `::webmesh`.
///
/// The type needs serde's `Serialize` and `Deserialize` as well. It may be generic. Fields with a `Vec<u8>` are
/// refused: they would be encoded byte by byte; use `webmesh::Bytes`, or serde's `with` on the field.
#[proc_macro_derive(Reply, attributes(reply))]
pub fn reply(item: TokenStream) -> TokenStream {
    reply::derive(&parse_macro_input!(item as DeriveInput)).into()
}

/// The Mesh brings threads of its own, so a runtime on the current thread is enough, and the default. A tokio `LocalSet`
/// is around it: plain actix actors can be started in it too (`Actor::start`), though no arbiters. The keys:
///
/// - `flavor = "multi_thread"`: tokio's pool of workers for what main itself spawns. `"current_thread"` is the default.
/// - `worker_threads = 4`: how many, at least 1; as many as there are cores if left out. Only for `"multi_thread"`.
/// - `crate = path`: of the crate `webmesh` where it isn't `::webmesh`.
///
/// # Panics
///
/// The program panics if the operating system refuses a runtime's descriptors or threads.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(args.into(), item.into()).into()
}

/// The paused clock jumps to the next timer whenever all tasks wait, so hours pass in milliseconds. Meshes placed *in place*
/// share that thread and clock. `#[should_panic]`, `#[ignore]` and a return type such as `Result<(), E>` work
/// as for `#[test]`. The keys:
///
/// - `clock = "real"`: real time, for tests with real sockets or threads. `"paused"` is the default; it needs the
///   feature `test-util` of webmesh in `[dev-dependencies]`.
/// - `crate = path`: of the crate `webmesh` where it isn't `::webmesh`.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::test(args.into(), item.into()).into()
}
