//! Asks the name server whether this network has a NAT64, where this host has no IPv4.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    interfaces,
    nat::{Resolver, nat64::NAME},
    shared::Shared,
};

/// How often is looked whether there is anything to ask; and how long an answer is waited for. Guesses.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(5);

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
