//! The derive and attribute macros of Webmesh. Use them through the crate `webmesh`, which re-exports them.
//!
//! - [`message`], [`protocol`], [`remote_actor`], [`reply`]: one derive each.
//! - [`entry`]: `#[webmesh::main]` and `#[webmesh::test]`.
//! - [`attr`]: what the attributes have in common: keys, ids, the name of the crate, errors.
//! - [`octets`]: finds fields that would be encoded byte by byte.
//!
//! Expansions name nothing but the crate `webmesh`, so a user depends on it alone. Where it goes by another name,
//! `crate = path` in the attribute says so. Mistakes are reported all at once, each at its own place.

mod attr;
mod entry;
mod message;
mod octets;
mod protocol;
mod remote_actor;
mod reply;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct or an enum a message: `#[message(id = "…", reply = …)]`.
///
/// - `id`: its name on the wire, a string of 1 to 128 bytes, such as `"chat.post"`. It decides what two programs mean by
///   the same message; the Rust name may change freely. Required.
/// - `reply`: the type that an `ask` is answered with; `()` if left out. It is encoded like the message, so it
///   implements `Serialize` and `DeserializeOwned`. A type of your own that a handler returns as it is also
///   needs `#[derive(Reply)]`.
/// - `crate`: the path of the crate `webmesh` where it isn't `::webmesh`.
///
/// The type also needs serde's `Serialize` and `Deserialize`. It can't be generic, for its id names one type. Fields of
/// type `Vec<u8>` are refused: they would be encoded byte by byte; use `webmesh::Bytes`, or serde's `with`.
#[proc_macro_derive(Message, attributes(message))]
pub fn message(item: TokenStream) -> TokenStream {
    expand(message::derive(&parse_macro_input!(item as DeriveInput)))
}

/// Makes a type the token of a protocol: `#[protocol(id = "…", accepts(Join, Post))]`. Clients hold `ActorRef<Token>`.
///
/// - `id`: its name on the wire, a string of 1 to 128 bytes, with a version: `"example.chat.room/1"`. Required.
/// - `accepts`: the messages, each one once. `stream(M)` names a message that is answered by a stream. Required, but it
///   may be empty: such an actor can be watched, not asked.
/// - `crate`: the path of the crate `webmesh` where it isn't `::webmesh`.
///
/// Two messages with one id in a protocol don't compile. The type itself, a struct or an enum without
/// parameters, is never instantiated: `pub struct Room;`.
#[proc_macro_derive(Protocol, attributes(protocol))]
pub fn protocol(item: TokenStream) -> TokenStream {
    expand(protocol::derive(&parse_macro_input!(item as DeriveInput)))
}

/// Lets an actix actor be reached through `ActorRef`s: `#[remote(serves(Room))]`.
///
/// - `serves`: the protocols that it can stand behind. The first one is the type of the ref that `Mesh::spawn` returns.
///   Required.
/// - `crate`: the path of the crate `webmesh` where it isn't `::webmesh`.
///
/// The actor needs `type Context = Context<Self>` and a `Handler` for every message of these protocols; the compiler
/// names those that are missing.
#[proc_macro_derive(RemoteActor, attributes(remote))]
pub fn remote_actor(item: TokenStream) -> TokenStream {
    expand(remote_actor::derive(&parse_macro_input!(item as DeriveInput)))
}

/// Lets handlers return a type of your own as it is (`type Result = History`), which actix otherwise allows for its own types,
/// numbers, strings, `Option`, `Result` and `Vec` only.
///
/// It takes no keys but `#[reply(crate = path)]`. The type needs serde's `Serialize` and `Deserialize` as well. It may be generic.
/// Fields of type `Vec<u8>` are refused: they would be encoded byte by byte; use `webmesh::Bytes`, or serde's `with`.
#[proc_macro_derive(Reply, attributes(reply))]
pub fn reply(item: TokenStream) -> TokenStream {
    expand(reply::derive(&parse_macro_input!(item as DeriveInput)))
}

/// Runs an `async fn main()` to its end.
///
/// The Mesh brings threads of its own, so a runtime on the current thread is enough, and the default. A `LocalSet` is around it:
/// plain actix actors can be started in it too (`Actor::start`), though no arbiters.
///
/// - `flavor = "multi_thread"`: tokio's pool of workers for what main itself spawns. `"current_thread"` is the default.
/// - `worker_threads = 4`: how many, at least 1; as many as there are cores if left out. Only for `"multi_thread"`.
/// - `crate`: the path of the crate `webmesh` where it isn't `::webmesh`.
///
/// # Panics
///
/// The program panics if the operating system refuses a runtime's descriptors or threads.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(args.into(), item.into()).into()
}

/// Runs an `async fn` as a test on one thread, under a clock that is paused: it jumps to the next timer whenever all
/// tasks wait, so hours pass in milliseconds. Meshes placed *in place* share that thread and clock.
///
/// `#[should_panic]`, `#[ignore]` and a return type such as `Result<(), E>` work as for `#[test]`.
///
/// - `clock = "real"`: real time, for tests with real sockets or threads. `"paused"` is the default; it needs the feature
///   `test-util` of webmesh in `[dev-dependencies]`.
/// - `crate`: the path of the crate `webmesh` where it isn't `::webmesh`.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::test(args.into(), item.into()).into()
}

fn expand(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
