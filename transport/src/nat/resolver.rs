//! The shell of `nat64`: asks the name server, where this host has no IPv4.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use super::nat64::NAME;
use crate::{endpoint::Shared, interfaces};

/// How often is looked whether there is anything to ask; and how long an answer is waited for. Guesses.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a dial that has no other road waits for the first answer. A guess: name servers answer in a tenth of it.
const DIAL_WAITS_MAX: Duration = Duration::from_secs(2);
const DIAL_LOOKS_EVERY: Duration = Duration::from_millis(50);

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

/// Whether a host that is bound to these, and has these addresses, has IPv6 alone: and more than its own loopback.
fn is_without_ipv4(locals: &[SocketAddr], own: &[IpAddr]) -> bool {
    let outside = |ip: &IpAddr| !ip.is_loopback();
    let any = |ipv4: bool| own.iter().filter(|ip| outside(ip)).any(|ip| ip.is_ipv4() == ipv4);
    let has = |local: &SocketAddr| match local.ip() {
        ip if ip.is_unspecified() => any(ip.is_ipv4()),
        // Who is bound to the loopback of IPv4 has no use for a NAT64 either.
        ip => ip.is_ipv4() || outside(&ip),
    };
    let (ipv4, ipv6): (Vec<_>, Vec<_>) = locals.iter().partition(|local| local.is_ipv4());
    ipv6.into_iter().any(has) && !ipv4.into_iter().any(has)
}

/// Asks whenever that is due, until the endpoint is gone. `locals` are the bound addresses.
pub(crate) async fn watch(
    shared: Weak<Shared>,
    locals: Vec<SocketAddr>,
    resolver: Arc<dyn Resolver>,
) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let now = tokio::time::Instant::now().into_std();
        // Where the addresses aren't known, nothing has changed.
        let own = interfaces::addresses();
        let has_ipv4 = own.map(|own| !is_without_ipv4(&locals, &own.all));
        let due = has_ipv4.is_ok_and(|has_ipv4| shared.nat64.lock().ask(has_ipv4, now));
        if due {
            let answer = tokio::time::timeout(ANSWER_MAX, resolver.ipv6_of(NAME)).await;
            let answer = answer.unwrap_or_else(|late| Err(late.into()));
            if let Err(e) = &answer {
                tracing::debug!("whether there is a NAT64 isn't known: {e}");
            }
            shared.nat64.lock().answered(answer.ok().as_deref());
        }
        let sleep = shared.socket.sleep(LOOK_EVERY);
        drop(shared);
        sleep.await;
    }
}

impl Shared {
    /// As they are reached from here: where there is a NAT64 and no IPv4, by way of that.
    pub(crate) fn translated(
        &self,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        self.nat64.lock().translate(addresses)
    }

    /// As others know it: what only this network's NAT64 means something by is nobody's address elsewhere.
    pub(crate) fn original(&self, address: SocketAddr) -> SocketAddr {
        self.nat64.lock().original(address).unwrap_or(address)
    }

    /// Waits a moment for what the name server says, if it is being asked.
    pub(crate) async fn nat64_known(&self) {
        let mut waited = Duration::ZERO;
        while waited < DIAL_WAITS_MAX && self.nat64.lock().is_waiting() {
            self.socket.sleep(DIAL_LOOKS_EVERY).await;
            waited += DIAL_LOOKS_EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_with_ipv6_and_nothing_else_ask() {
        let without = |locals: &[&str], own: &[&str]| {
            let locals: Vec<_> = locals.iter().map(|local| local.parse().unwrap()).collect();
            let own: Vec<_> = own.iter().map(|ip| ip.parse().unwrap()).collect();
            is_without_ipv4(&locals, &own)
        };
        let any = ["0.0.0.0:1", "[::]:1"];
        assert!(without(&any, &["127.0.0.1", "::1", "2001:db8::1"]));
        assert!(without(&["[2001:db8::1]:1"], &["2001:db8::1", "192.0.2.1"]));
        assert!(!without(&any, &["192.168.0.7", "2001:db8::1"]));
        assert!(!without(&any, &["127.0.0.1", "::1"]), "it has nothing at all");
        assert!(!without(&any[..1], &["2001:db8::1"]), "it can't send to IPv6");
        assert!(!without(&["[::1]:1"], &["2001:db8::1"]));
        assert!(!without(&["127.0.0.1:1", "[::]:1"], &["2001:db8::1"]));
        assert!(!without(&[], &["2001:db8::1"]));
    }
}
