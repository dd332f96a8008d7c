//! References that have expired: hints to a key that must answer anyway.

use std::{net::SocketAddr, time::Duration};

use crate::{
    common::{Host, in_place, key},
    world::{Kind, World},
};
use webmesh_transport::{
    ConnectError, PeerRef,
    peer_ref::{RefContent, Remembered, SignedRef},
};

/// What host `n` signed long ago, of the addresses that it has now, or others.
fn expired(n: u8, addresses: &[SocketAddr]) -> PeerRef {
    let content = RefContent {
        version: 1,
        addresses: addresses.to_vec(),
        rendezvous: Vec::new(),
        expires: 1_000_000,
    };
    PeerRef::Signed(SignedRef::sign(&key(n), content).unwrap())
}

fn old(n: u8, host: &Host) -> PeerRef {
    expired(n, &[host.address()])
}

#[test]
fn a_host_is_dialled_by_an_expired_reference_and_the_newer_one_is_learnt() {
    in_place(1, async |placement| {
        let world = World::new(1, placement);
        let node = world.server(1).await;
        let caller = world.site(2, Kind::PortRestricted, &[]).await;
        let link = caller.endpoint.connect(&old(1, &node)).await.unwrap();
        assert_eq!(link.peer(), node.peer());
        caller.endpoint.disconnect(&node.peer(), "again").await;
        // What the host said of itself meanwhile is all that is needed.
        assert!(caller.endpoint.connect_peer(node.peer(), &[]).await.is_ok());
        // It takes the place of nothing.
        let outcome = caller.endpoint.remember(&old(1, &node));
        assert!(matches!(outcome, Remembered::Expired(_)), "{outcome:?}");
    });
}

#[test]
fn where_an_expired_reference_leads_to_nobody_or_to_another_host_the_error_says_both() {
    in_place(2, async |placement| {
        let world = World::new(2, placement);
        let node = world.server(1).await;
        let caller = world.site(2, Kind::PortRestricted, &[]).await;
        let nobody = expired(9, &["198.51.100.9:4433".parse().unwrap()]);
        let error = caller.endpoint.connect(&nobody).await.unwrap_err();
        let ConnectError::Expired { failed, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**failed, ConnectError::Timeout(_)), "{error:?}");
        assert!(error.to_string().contains("expired"), "{error}");
        let taken = expired(9, &[node.address()]);
        let error = caller.endpoint.connect(&taken).await.unwrap_err();
        let ConnectError::Expired { failed, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**failed, ConnectError::WrongPeer { .. }), "{error:?}");
    });
}

#[test]
fn a_rendezvous_is_joined_by_an_expired_reference_also_when_it_starts_an_hour_later() {
    in_place(3, async |placement| {
        let world = World::new(3, placement);
        let told = expired(1, &[SocketAddr::new(World::outside(1), 4433)]);
        let host = world.joining(2, Kind::PortRestricted, vec![told]).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(host.endpoint.attached_to().is_empty());
        let node = world.server(1).await;
        tokio::time::timeout(Duration::from_secs(60), host.endpoint.attached()).await.unwrap();
        assert_eq!(host.endpoint.attached_to(), [node.peer()]);
    });
}
