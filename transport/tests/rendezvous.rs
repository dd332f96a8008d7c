//! Hosts that nobody can dial, met through a rendezvous.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Host, host, host_with};
use webmesh_transport::{ConnectError, PathKind, PeerRef};

/// A port at which nobody is: what a host behind a NAT knows of itself leads nowhere from outside.
const NOWHERE: &str = "127.0.0.1:9";

/// A host that can be reached through `rendezvous` alone, until it is met.
async fn private(n: u8, rendezvous: &[&Host]) -> Host {
    let join: Vec<PeerRef> = rendezvous.iter().map(|host| host.endpoint.peer_ref()).collect();
    let host = host_with(n, |config| {
        config.advertise = vec![NOWHERE.parse().unwrap()];
        config.service = None;
        config.join = join;
    })
    .await;
    host.endpoint.attached().await;
    host
}

#[tokio::test]
async fn a_stranger_meets_a_private_host_by_its_reference_alone_and_they_go_on_directly() {
    let rendezvous = host(1).await;
    let served = private(2, &[&rendezvous]).await;
    let stranger = host(3).await;
    let link = stranger.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
    assert_eq!(link.peer(), served.endpoint.peer_id());
    let other = served.diary.up().await;
    // Nobody knew the served host's address; the stranger's own reference names the stranger's.
    for (link, path) in [(&link, PathKind::Punched), (&other, PathKind::Direct)] {
        while link.path() == PathKind::RelayUdp {
            link.ping().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(link.path(), path);
    }
}

#[tokio::test]
async fn a_host_that_left_its_rendezvous_is_said_not_to_be_there() {
    let rendezvous = host(1).await;
    let served = private(2, &[&rendezvous]).await;
    let reference = served.endpoint.peer_ref();
    served.endpoint.close("bye").await;
    let stranger = host(3).await;
    let outcome = stranger.endpoint.connect(&reference).await;
    assert!(matches!(outcome, Err(ConnectError::NotIntroduced(_))), "{outcome:?}");
}
