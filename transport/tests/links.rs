//! How links come to be and end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{address_only, echo, host, in_place, reference};
use webmesh_transport::{ConnectError, LinkDown, MemoryNetwork, PathKind};

#[tokio::test]
async fn two_hosts_prove_their_keys_and_exchange_bytes() {
    let (a, b) = (host(1).await, host(2).await);
    let at_a = a.connect(&b).await;
    let at_b = b.diary.up().await;
    assert_eq!((at_a.peer(), at_b.peer()), (b.peer(), a.peer()));
    assert_eq!(at_a.instance(), b.endpoint.instance());
    assert_eq!((at_a.via(), at_a.path()), (b.address(), PathKind::Direct));
    let bytes = vec![7; 3_000_000];
    assert_eq!(echo(&at_a, &at_b, &bytes).await, bytes);
    assert!(at_a.ping().await.unwrap() < std::time::Duration::from_secs(1));
    assert!(at_b.ping().await.is_ok());
}

#[tokio::test]
async fn a_second_connect_returns_the_link_that_is_up() {
    let (a, b) = (host(1).await, host(2).await);
    let reference = b.endpoint.peer_ref();
    let (one, two) = tokio::join!(a.endpoint.connect(&reference), a.endpoint.connect(&reference));
    assert_eq!(one.unwrap(), two.unwrap());
}

#[tokio::test]
async fn an_address_alone_leads_to_whoever_answers_and_says_who_it_is() {
    let (a, b) = (host(1).await, host(2).await);
    let link = a.endpoint.connect(&address_only(&[b.address()])).await.unwrap();
    assert_eq!(link.peer(), b.peer());
    let again = a.endpoint.connect(&address_only(&[b.address()])).await.unwrap();
    assert_eq!(again, link);
}

#[tokio::test]
async fn another_key_at_the_address_is_a_typed_error() {
    let (a, b, c) = (host(1).await, host(2).await, host(3).await);
    let error = a.endpoint.connect(&reference(3, &[b.address()])).await.unwrap_err();
    let expected = c.peer();
    assert!(
        matches!(error, ConnectError::WrongPeer { expected: e, found } if e == expected && found == b.peer()),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_reason_of_a_close_arrives() {
    let (a, b) = (host(1).await, host(2).await);
    let at_a = a.connect(&b).await;
    let at_b = b.diary.up().await;
    at_a.close("enough for today");
    let reason = "enough for today".to_owned();
    assert_eq!(b.diary.down(&at_b).await, LinkDown::Closed { reason: reason.clone() });
    assert_eq!(a.diary.down(&at_a).await, LinkDown::Local { reason });
}

#[tokio::test]
async fn closing_an_endpoint_tells_its_peers_that_it_shuts_down() {
    let (a, b) = (host(1).await, host(2).await);
    let at_a = a.connect(&b).await;
    let at_b = b.diary.up().await;
    a.endpoint.close("good night").await;
    let reason = "good night".to_owned();
    assert_eq!(b.diary.down(&at_b).await, LinkDown::Shutdown { reason: reason.clone() });
    assert_eq!(a.diary.down(&at_a).await, LinkDown::Local { reason });
    let error = a.endpoint.connect(&b.endpoint.peer_ref()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Closed), "{error:?}");
}

#[test]
fn two_hosts_in_place_meet_over_a_memory_network() {
    in_place(1, async |placement| {
        let network = MemoryNetwork::new(1);
        network.set_latency(std::time::Duration::from_millis(20));
        let a = common::host_in_place(1, &network, &placement, |_| {}).await;
        let b = common::host_in_place(2, &network, &placement, |_| {}).await;
        let at_a = a.connect(&b).await;
        let at_b = b.diary.up().await;
        assert_eq!(echo(&at_a, &at_b, &[1; 100_000]).await, [1; 100_000]);
    });
}
