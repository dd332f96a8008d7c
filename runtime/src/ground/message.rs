//! What an application names in its API crate: messages and protocols (docs/architecture.md).
//!
//! Nobody implements these traits by hand: `#[derive(Message)]` and `#[derive(Protocol)]` do, and check at
//! compile time what the traits alone cannot say (non-empty ids, no id twice in a protocol).

use serde::{Serialize, de::DeserializeOwned};

/// The longest id of a message or a protocol, in bytes. A guess that leaves room for
/// `reverse.domain.service.message/version`; it bounds what a peer can make us intern.
pub const MAX_ID_BYTES: usize = 128;

/// A message that may cross the network: an actix message whose payload and reply can be encoded.
///
/// Derive it: `#[derive(Message, Serialize, Deserialize)] #[message(id = "chat.post", reply = u64)]`.
/// The payload is MessagePack by field name, so fields may be added, removed (with `#[serde(default)]`) and reordered.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Webmesh message",
    note = "derive it: `#[derive(webmesh::Message, Serialize, Deserialize)] #[message(id = \"…\", reply = …)]`"
)]
pub trait Message:
    actix::Message<Result: Serialize + DeserializeOwned + Send + 'static>
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
    /// The explicit name of this message on the wire, 1 to [`MAX_ID_BYTES`] bytes. Two programs mean the same
    /// message exactly if they use the same id; the Rust name may change freely.
    const ID: &'static str;
}

/// The messages that an actor may be asked or told: the type parameter of `ActorRef`.
///
/// Derive it: `#[derive(Protocol)] #[protocol(id = "example.chat.room/1", accepts(Join, Post))]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Webmesh protocol",
    note = "derive it: `#[derive(webmesh::Protocol)] #[protocol(id = \"…\", accepts(…))]`"
)]
pub trait Protocol: 'static {
    /// The explicit name of this protocol on the wire, 1 to [`MAX_ID_BYTES`] bytes.
    const ID: &'static str;
    /// The ids of the messages that it accepts, in the order of the derive.
    const MESSAGES: &'static [&'static str];
    /// The ids of its streaming messages. They are checked like the others, but calling one is refused with
    /// "not yet supported".
    const STREAMS: &'static [&'static str];
}

/// That a protocol accepts a message; emitted by `#[derive(Protocol)]`.
#[diagnostic::on_unimplemented(
    message = "protocol `{Self}` does not accept the message `{M}`",
    note = "list it: `#[protocol(id = \"…\", accepts({M}, …))]`"
)]
pub trait Accepts<M: Message>: Protocol {
    /// Where the message stands in [`Protocol::MESSAGES`].
    const INDEX: usize;
}

/// That a protocol has a streaming message; emitted by `#[derive(Protocol)]` for `accepts(stream(M))`.
#[diagnostic::on_unimplemented(
    message = "protocol `{Self}` does not accept `{M}` as a stream",
    note = "list it: `#[protocol(id = \"…\", accepts(stream({M}), …))]`"
)]
pub trait Streams<M: Message>: Protocol {}

/// Fails the compilation with `problem` when the id at `index` stands at an earlier place too. Called by the expansion of
/// `#[derive(Protocol)]`, once for each message, so that the error points at the message.
#[doc(hidden)]
#[track_caller]
pub const fn assert_new_id(ids: &[&str], index: usize, problem: &str) {
    let mut earlier = 0;
    while earlier < index {
        if equal(ids[earlier].as_bytes(), ids[index].as_bytes()) {
            panic!("{}", problem);
        }
        earlier += 1;
    }
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
