//! Who asks: the authenticated sender of the message that a handler has in hand.

use actix::{Actor, Context};
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU64;
use webmesh_transport::PeerId;

/// The authenticated sender of a message.
#[derive(Clone, Copy)]
pub struct Caller {
    peer: PeerId,
    source: Source,
}

impl Caller {
    /// Somebody in the mesh of this id itself.
    pub(crate) fn near(peer: PeerId) -> Self {
        Self { peer, source: Source::NEAR }
    }

    /// Another host, with the network that its datagrams come from (/24 of IPv4, /48 of IPv6), and whether that is a relay's.
    pub(crate) fn far(peer: PeerId, network: Option<(IpAddr, bool)>) -> Self {
        let source = network.map_or(Source::UNKNOWN, |(network, relay)| Source::of(network, relay));
        Self { peer, source }
    }

    /// The peer whose key authenticated the connection on which the message came. For a message from the same mesh it is
    /// the mesh's own id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }
}

// By hand: where a caller is seen doesn't make it another one.
impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        self.peer == other.peer
    }
}

impl Eq for Caller {}

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.peer.hash(state);
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("peer", &self.peer).finish()
    }
}

/// Where a caller is: here, or in which network. Small, for each message has one: a kind in the upper 16 bits, 48 bits of
/// network below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source(NonZeroU64);

impl Source {
    pub(crate) const NEAR: Self = Self::new(1, 0);
    pub(crate) const UNKNOWN: Self = Self::new(2, 0);
    const V4: u16 = 3;
    const V6: u16 = 4;
    const RELAY: u16 = 0x10;

    const fn new(kind: u16, network: u64) -> Self {
        // A kind is never 0.
        Self(NonZeroU64::MIN.saturating_add(((kind as u64) << 48 | network) - 1))
    }

    fn of(network: IpAddr, relay: bool) -> Self {
        let (kind, bits) = match network {
            IpAddr::V4(ip) => (Self::V4, u64::from(ip.to_bits())),
            // The upper 48 bits.
            IpAddr::V6(ip) => (Self::V6, (ip.to_bits() >> 80) as u64),
        };
        Self::new(if relay { kind | Self::RELAY } else { kind }, bits)
    }

    fn kind(self) -> u16 {
        (self.0.get() >> 48) as u16
    }

    pub(crate) fn is_relay(self) -> bool {
        self.kind() & Self::RELAY != 0
    }

    /// Whether it names a network.
    pub(crate) fn is_known(self) -> bool {
        self != Self::NEAR && self != Self::UNKNOWN
    }
}

/// Where a context lies. While it is borrowed, no other one lies there.
pub(crate) fn place_of<A: Actor<Context = Context<A>>>(ctx: &Context<A>) -> usize {
    std::ptr::from_ref(ctx).addr()
}

thread_local! {
    /// With the place of the context that has the message in hand.
    static CALLER: Cell<Option<(usize, Caller)>> = const { Cell::new(None) };
    static BLAMED: Cell<Option<Caller>> = const { Cell::new(None) };
}

/// Who sent the message in hand.
///
/// `Some` only in the synchronous part of `handle`, and only for messages that came through an
/// [`ActorRef`](crate::ActorRef). Copy it before going asynchronous: inside the futures that a handler returns, in
/// timers, and for messages sent through a plain actix `Addr` it is `None` (never another message's caller), which an
/// access check must treat as refusal. In another actor's context, such as that of one which the handler has just made, it is
/// `None` too.
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
pub fn caller<A: Actor<Context = Context<A>>>(ctx: &Context<A>) -> Option<Caller> {
    let (context, caller) = CALLER.get()?;
    (context == place_of(ctx)).then_some(caller)
}

/// While it lives, [`caller`] answers with the given one on this thread, in that context.
pub(crate) struct CallerScope {
    outer: Option<(usize, Caller)>,
}

impl CallerScope {
    pub(crate) fn enter<A: Actor<Context = Context<A>>>(caller: Caller, ctx: &Context<A>) -> Self {
        Self { outer: CALLER.replace(Some((place_of(ctx), caller))) }
    }
}

impl Drop for CallerScope {
    fn drop(&mut self) {
        CALLER.set(self.outer);
    }
}

/// While it lives, this thread works at a message of that other host: a panic meanwhile is its doing.
pub(crate) struct Blame(Caller);

impl Blame {
    pub(crate) fn enter(caller: Caller) -> Self {
        Self(caller)
    }

    /// Who is to blame for the panic that was just caught. `None` also for messages of this mesh, and where it isn't known.
    pub(crate) fn take() -> Option<Caller> {
        BLAMED.take()
    }
}

impl Drop for Blame {
    fn drop(&mut self) {
        if std::thread::panicking() {
            BLAMED.set(Some(self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_from_every_other_and_from_the_same_behind_a_relay() {
        let networks =
            ["0.0.0.0", "192.0.2.0", "::", "2001:db8:1::", "2001:db8:2::", "255.255.255.0"];
        let mut sources = vec![Source::NEAR, Source::UNKNOWN];
        for network in networks {
            for relay in [false, true] {
                let source = Source::of(network.parse().unwrap(), relay);
                assert_eq!((source.is_relay(), source.is_known()), (relay, true), "{network}");
                assert!(!sources.contains(&source), "{network}");
                sources.push(source);
            }
        }
        assert!(sources[..2].iter().all(|source| !source.is_known() && !source.is_relay()));
    }
}
