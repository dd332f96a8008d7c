//! The tunnels that are tried when UDP stays silent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::mpsc;

use crate::{
    dial::Late, ground::address::is_public, shared::Shared, tunnel::pump, wire::road::Road,
};

/// How long UDP has to answer before tunnels are tried (docs/architecture.md: 200 to 500 ms).
const UDP_SILENCE: Duration = Duration::from_millis(300);

/// Tunnels that are tried for one dial. A guess: two addresses at two ports.
const TUNNELS_MAX: usize = 4;

/// The port at which TLS passes most firewalls.
const HTTPS: u16 = 443;

/// Where to try tunnels: where the peer says so, and at public addresses at the usual port and at the same as UDP's.
fn candidates(addresses: &[SocketAddr], named: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let public = addresses.iter().filter(|address| is_public(address.ip().to_canonical()));
    let guessed = public.flat_map(|address| [SocketAddr::new(address.ip(), HTTPS), *address]);
    let mut candidates = Vec::new();
    for address in named.into_iter().chain(guessed) {
        if !candidates.contains(&address) && candidates.len() < TUNNELS_MAX {
            candidates.push(address);
        }
    }
    candidates
}

/// Tries tunnels once UDP has been silent for a while; the roads through them go to `late`, which says by being closed
/// that they are no longer wanted.
pub(crate) fn tunnels(
    shared: &Arc<Shared>,
    addresses: &[SocketAddr],
    named: Vec<SocketAddr>,
    late: mpsc::UnboundedSender<Late>,
) -> impl Future<Output = ()> + Send + use<> {
    let (addresses, named) =
        (shared.translated(addresses.iter().copied()), shared.translated(named));
    let (shared, candidates) = (shared.clone(), candidates(&addresses, named));
    async move {
        let Some((wire, tunnels)) = shared.socket.tunnels() else { return };
        if candidates.is_empty() {
            return;
        }
        let silence = shared.socket.sleep(UDP_SILENCE);
        tokio::select! {
            biased;
            () = late.closed() => return,
            () = silence => {}
        }
        let dial = |address| pump::dial(tunnels, &shared.tunnel_tls, address, shared.config.proxy);
        let mut dials: FuturesUnordered<_> = candidates.into_iter().map(dial).collect();
        loop {
            tokio::select! {
                biased;
                () = late.closed() => return,
                dialled = dials.next() => match dialled {
                    Some(Ok(remote)) => {
                        let road = Road { wire, remote, local: None, flow: None };
                        let _ = late.send(Late::Road(road));
                    }
                    Some(Err(e)) => {
                        tracing::debug!("no tunnel: {e}");
                        if shared.config.proxy.is_some() {
                            let _ = late.send(Late::NoTunnel(e.to_string()));
                        }
                    }
                    None => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_tried_where_they_are_named_and_at_public_addresses_only() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let addresses = ["192.168.1.7:5", "10.0.0.1:5", "100.64.0.1:5", "[::1]:5", "8.8.8.8:5"];
        let found = candidates(&addresses.map(parse), vec![parse("10.0.0.9:443")]);
        assert_eq!(found, ["10.0.0.9:443", "8.8.8.8:443", "8.8.8.8:5"].map(parse));
    }
}
