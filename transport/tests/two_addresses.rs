//! Hosts that know a relay by another of its addresses than the one that its system would send from.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::{Host, echo, host_with, reference};

/// A port at which nobody is.
const NOWHERE: &str = "127.0.0.1:9";

/// A relay at every address of this machine, and its port.
async fn relay() -> (Host, u16) {
    let relay = host_with(1, |config| config.listen = vec!["0.0.0.0:0".parse().unwrap()]).await;
    let port = relay.address().port();
    (relay, port)
}

/// A host that is met through the relay at this address alone.
async fn private(n: u8, relay: SocketAddr) -> Host {
    let host = host_with(n, |config| {
        config.advertise = vec![NOWHERE.parse().unwrap()];
        config.service = None;
        config.join = vec![reference(1, &[relay])];
    })
    .await;
    host.endpoint.attached().await;
    host
}

#[tokio::test]
async fn a_relay_joined_by_either_of_its_addresses_serves_both_hosts() {
    let (relay, port) = relay().await;
    let at = |last: u8| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
    // The system itself would send from the first.
    for (n, (mine, theirs)) in (10..).step_by(2).zip([(2, 2), (1, 2), (2, 1), (2, 3)]) {
        let served = private(n, at(theirs)).await;
        let caller = private(n + 1, at(mine)).await;
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        let bytes = vec![7; 50_000];
        assert_eq!(echo(&link, &served.diary.up().await, &bytes).await, bytes);
    }
    assert!(relay.endpoint.relayed() > 0);
}
