//! What an endpoint can say of itself to its operator. All of it is read from counters and tables that are there anyway.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    endpoint::Endpoint, link::Link, path::explain::Candidate, peer_ref::PeerRef, shared::Shared,
};

/// Datagrams, and runs of them, that were dropped since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Drops {
    /// Datagrams that are nothing we know.
    pub garbage: u64,
    /// First packets of handshakes beyond the limits.
    pub initials_refused: u64,
    /// Datagrams of mixed batches beyond the staging ring.
    pub staging_full: u64,
    /// Datagrams that the system refused to send, and errors on receiving.
    pub io_errors: u64,
    /// Datagrams for connections that are gone.
    pub nowhere: u64,
    /// Datagrams of tunnels that were too slow.
    pub tunnels_full: u64,
    /// Runs of relayed datagrams whose hosts sent more than they may.
    pub throttled: u64,
}

/// What an endpoint does for others at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Served {
    /// Hosts that have a session here.
    pub sessions: usize,
    /// Flows that lead through here: one for two hosts.
    pub flows: usize,
    /// Bytes that were relayed since the start.
    pub relayed_bytes: u64,
}

/// What an endpoint refused since the start, by what was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedByEndpoint {
    /// Connections beyond the most that there may be.
    pub connections: u64,
    /// Handshakes from outside that failed: another protocol, no key, too slow.
    pub handshakes: u64,
    /// Sessions with this host as a rendezvous.
    pub sessions: u64,
    /// Introductions to a host with a session here.
    pub introductions: u64,
}

impl Endpoint {
    /// For how long it has been running.
    pub fn uptime(&self) -> Duration {
        let now = tokio::time::Instant::now().into_std();
        now.saturating_duration_since(self.shared().started)
    }

    /// The links that take new work, one for each connected peer, in the order of the peers' keys.
    pub fn links(&self) -> Vec<Link> {
        let mut links: Vec<_> = self.shared().up.iter().map(|up| up.value().clone()).collect();
        links.sort_unstable_by_key(Link::peer);
        links
    }

    /// The roads of a link: what is known of each, the one in use included. At most as many as are kept for one peer.
    pub fn roads(&self, link: &Link) -> Vec<Candidate> {
        self.shared().roads(link)
    }

    /// What it does for others at the moment.
    pub fn served(&self) -> Served {
        let shared = self.shared();
        Served {
            sessions: shared.host.lock().sessions(),
            flows: shared.socket.relay().map_or(0, |relay| relay.flows()),
            relayed_bytes: self.relayed(),
        }
    }

    /// What it refused since the start.
    pub fn refused(&self) -> RefusedByEndpoint {
        let counters = &self.shared().refused;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RefusedByEndpoint {
            connections: get(&counters.connections),
            handshakes: get(&counters.handshakes),
            sessions: get(&counters.sessions),
            introductions: get(&counters.introductions),
        }
    }

    /// What was dropped since the start.
    pub fn drops(&self) -> Drops {
        let counters = &self.shared().socket.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tunnels = self.shared().socket.tunnels();
        Drops {
            garbage: get(&counters.garbage),
            initials_refused: get(&counters.initials_refused),
            staging_full: get(&counters.staging_full),
            io_errors: get(&counters.send_errors) + get(&counters.receive_errors),
            nowhere: get(&counters.send_nowhere),
            tunnels_full: tunnels.map_or(0, |(_, tunnels)| tunnels.dropped()),
            throttled: get(&counters.throttled),
        }
    }

    /// The changes of [`Endpoint::peer_ref`] from now on.
    pub fn peer_ref_changes(&self) -> PeerRefChanges {
        let news = self.shared().own_ref.lock().subscribe();
        PeerRefChanges { shared: Arc::downgrade(self.shared()), news }
    }
}

/// How often it is looked whether the reference must be signed anew, for its age or because the clock was set. A guess.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The changes of an endpoint's own PeerRef: other addresses, other rendezvous, or a new signature before the old one expires. It doesn't
/// keep the endpoint running.
#[derive(Debug)]
pub struct PeerRefChanges {
    shared: Weak<Shared>,
    news: watch::Receiver<PeerRef>,
}

impl PeerRefChanges {
    /// Waits for the next change; of several at once, the last is returned. `None`: the endpoint has ended. Dropping the future
    /// loses nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime with a clock.
    pub async fn next(&mut self) -> Option<PeerRef> {
        loop {
            let changed = tokio::time::timeout(LOOK_EVERY, self.news.changed()).await;
            match changed {
                Ok(changed) => {
                    changed.ok()?;
                    return Some(self.news.borrow_and_update().clone());
                }
                Err(_) => drop(self.shared.upgrade()?.own_ref.lock().current()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        endpoint::config::EndpointConfig,
        identity::{PeerId, SecretKey},
        link::Observer,
        placement::Threads,
        wire::closing::LinkDown,
    };

    struct Nobody;

    impl Observer for Nobody {
        fn link_up(&self, _: Link) {}
        fn link_draining(&self, _: Link) {}
        fn link_down(&self, _: Link, _: LinkDown) {}
        fn unreachable(&self, _: PeerId) {}
        fn reachable(&self, _: PeerId) {}
    }

    async fn endpoint() -> (Endpoint, Arc<Threads>) {
        let placement = Arc::new(Threads::start().unwrap());
        let config = EndpointConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..EndpointConfig::new(SecretKey::generate())
        };
        (Endpoint::bind(config, placement.clone(), Arc::new(Nobody)).await.unwrap(), placement)
    }

    #[tokio::test]
    async fn a_change_of_the_own_reference_is_told_once_and_the_end_of_the_endpoint_too() {
        let (one, _placement) = endpoint().await;
        let (rendezvous, _other) = endpoint().await;
        let mut changes = one.peer_ref_changes();
        let before = one.peer_ref();
        one.join(rendezvous.peer_ref()).unwrap();
        let changed = changes.next().await.unwrap();
        assert_ne!(changed, before);
        assert_eq!(changed, one.peer_ref());
        let quiet = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        assert_eq!(rendezvous.served().sessions, 1);
        drop(one);
        assert_eq!(changes.next().await, None);
    }

    #[tokio::test]
    async fn links_and_their_roads_are_listed() {
        let ((one, _placement), (two, _other)) = (endpoint().await, endpoint().await);
        assert!(one.links().is_empty());
        one.connect(&two.peer_ref()).await.unwrap();
        let links = one.links();
        assert_eq!(links.iter().map(Link::peer).collect::<Vec<_>>(), [two.peer_id()]);
        let roads = one.roads(&links[0]);
        assert!(roads.iter().any(|road| road.in_use && road.address == two.local_addrs()[0]));
    }
}
