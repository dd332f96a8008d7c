//! Who is asked whether this network has a NAT64: the name server.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    pin::Pin,
};

/// The addresses that a name server tells, or why it doesn't.
pub type Resolved<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<Ipv6Addr>>> + Send + 'a>>;

/// Asks the name server of the network for the IPv6 addresses of a name.
pub trait Resolver: Send + Sync {
    /// The IPv6 addresses of `name`. Any time-out and any number of addresses will do: both are bounded by who asks.
    fn ipv6_of<'a>(&'a self, name: &'a str) -> Resolved<'a>;
}

impl fmt::Debug for dyn Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn ipv6_of<'a>(&'a self, name: &'a str) -> Resolved<'a> {
        Box::pin(async move {
            // In a thread of its own, for tokio's pool panics where the system has none to give.
            let (done, found) = tokio::sync::oneshot::channel();
            let name = name.to_owned();
            std::thread::Builder::new().name("webmesh-dns".into()).spawn(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                let _ = done.send(found.map(Iterator::collect::<Vec<_>>));
            })?;
            let found = found.await.map_err(io::Error::other)??;
            let ipv6 = |found: SocketAddr| match found.ip() {
                IpAddr::V6(ip) => Some(ip),
                IpAddr::V4(_) => None,
            };
            Ok(found.into_iter().filter_map(ipv6).collect())
        })
    }
}
