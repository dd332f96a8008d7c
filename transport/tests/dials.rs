//! Dialling: several addresses at once, dead ones, wrong ones, and hosts that ask for proof first.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{address_only, echo, host_in_place, host_with, in_place, reference};
use tokio::time::Instant;
use webmesh_transport::{ConnectError, EndpointConfig, MemoryNetwork};

const SECOND: Duration = Duration::from_secs(1);

fn slow_network() -> MemoryNetwork {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(20));
    network
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn careful(config: &mut EndpointConfig) {
    config.limits.retry_from = 0;
}

#[test]
fn dead_addresses_do_not_delay_a_dial() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let b = host_in_place(2, &network, &placement, |_| {}).await;
        let dead = [address("10.0.0.8:1"), address("10.0.0.9:1"), b.address()];
        let begun = Instant::now();
        let link = a.endpoint.connect(&reference(2, &dead)).await.unwrap();
        assert_eq!(link.via(), b.address());
        // Three round trips: TLS, and HELLO.
        assert!(begun.elapsed() < Duration::from_millis(130), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_wrong_host_among_the_addresses_does_not_prevent_a_link() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let b = host_in_place(2, &network, &placement, |_| {}).await;
        let c = host_in_place(3, &network, &placement, |_| {}).await;
        for addresses in [[c.address(), b.address()], [b.address(), c.address()]] {
            let begun = Instant::now();
            let link = a.endpoint.connect(&reference(2, &addresses)).await.unwrap();
            assert_eq!((link.peer(), link.via()), (b.peer(), b.address()));
            assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
            let at_b = b.diary.up().await;
            assert_eq!(echo(&link, &at_b, b"hello").await, b"hello");
            link.close("once more");
            a.diary.down(&link).await;
            b.diary.down(&at_b).await;
        }
    });
}

#[test]
fn a_silent_stranger_that_answers_first_costs_two_seconds_at_most() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let b = host_in_place(2, &network, &placement, |_| {}).await;
        let c = host_in_place(3, &network, &placement, |_| {}).await;
        let begun = Instant::now();
        let target = reference(2, &[c.address(), b.address()]);
        let cut = async {
            // The stranger's first packet arrives, and decides the road; then it falls silent.
            tokio::time::sleep(Duration::from_millis(41)).await;
            network.set_cut(a.address().ip(), c.address().ip(), true);
        };
        let (link, ()) = tokio::join!(a.endpoint.connect(&target), cut);
        assert_eq!(link.unwrap().peer(), b.peer());
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
    });
}

#[test]
fn if_all_addresses_are_those_of_others_the_error_names_one() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let c = host_in_place(3, &network, &placement, |_| {}).await;
        let target = reference(2, &[address("10.0.0.9:1"), c.address()]);
        let error = a.endpoint.connect(&target).await.unwrap_err();
        assert!(matches!(error, ConnectError::WrongPeer { found, .. } if found == c.peer()));
        let target = reference(4, &[c.address()]);
        let error = a.endpoint.connect(&target).await.unwrap_err();
        assert!(matches!(error, ConnectError::WrongPeer { found, .. } if found == c.peer()));
    });
}

#[test]
fn nobody_at_home_is_a_timeout_and_no_address_an_error_at_once() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let begun = Instant::now();
        let error = a.endpoint.connect(&reference(2, &[address("10.0.0.9:1")])).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout(_)), "{error:?}");
        assert!((9 * SECOND..11 * SECOND).contains(&begun.elapsed()));
        let error = a.endpoint.connect(&reference(4, &[])).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoAddress), "{error:?}");
        let error = a.endpoint.connect(&address_only(&[a.address()])).await.unwrap_err();
        assert!(matches!(error, ConnectError::Myself), "{error:?}");
    });
}

#[test]
fn a_host_under_load_has_addresses_proved_first_and_several_roads_survive_that() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let b = host_in_place(2, &network, &placement, careful).await;
        let c = host_in_place(3, &network, &placement, careful).await;
        // Both demand a proof; only one of the two tokens can be used.
        for addresses in [vec![b.address()], vec![c.address(), b.address()]] {
            let link = a.endpoint.connect(&reference(2, &addresses)).await.unwrap();
            assert_eq!(link.peer(), b.peer());
            let at_b = b.diary.up().await;
            link.close("once more");
            a.diary.down(&link).await;
            b.diary.down(&at_b).await;
        }
    });
}

#[test]
fn a_host_with_two_addresses_is_one_peer() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let two = |config: &mut EndpointConfig| {
            config.listen = vec![address("10.0.0.2:1000"), address("10.0.0.2:2000")];
        };
        let b = host_in_place(2, &network, &placement, two).await;
        for addresses in [[1000, 2000], [2000, 1000]] {
            let addresses = addresses.map(|port| SocketAddr::from(([10, 0, 0, 2], port)));
            let link = a.endpoint.connect(&reference(2, &addresses)).await.unwrap();
            let at_b = b.diary.up().await;
            assert_eq!(echo(&link, &at_b, &[5; 30_000]).await, [5; 30_000]);
            link.close("once more");
            a.diary.down(&link).await;
            b.diary.down(&at_b).await;
        }
        let link = a.endpoint.connect(&address_only(&[address("10.0.0.2:2000")])).await.unwrap();
        assert_eq!(link.via(), address("10.0.0.2:2000"));
    });
}

#[tokio::test]
async fn hosts_meet_over_ipv6_and_over_all_addresses() {
    let six = |config: &mut EndpointConfig| config.listen = vec![address("[::1]:0")];
    let (a, b) = (host_with(1, six).await, host_with(2, six).await);
    let link = a.connect(&b).await;
    assert_eq!(link.via(), b.address());
    let at_b = b.diary.up().await;
    assert_eq!(echo(&link, &at_b, &[1; 1_000_000]).await, [1; 1_000_000]);
    let all = |config: &mut EndpointConfig| config.listen = vec![];
    let c = host_with(3, all).await;
    let port = c.address().port();
    let link = c.endpoint.connect(&b.endpoint.peer_ref()).await;
    // Where the machine has IPv6 at all.
    if c.endpoint.local_addrs().len() == 2 {
        assert_eq!(link.unwrap().peer(), b.peer());
    }
    let d = host_with(4, all).await;
    let target = reference(3, &[SocketAddr::from(([127, 0, 0, 1], port))]);
    assert_eq!(d.endpoint.connect(&target).await.unwrap().peer(), c.peer());
}

// Only Linux gives each host all of 127.0.0.0/8.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_host_that_listens_on_one_address_measures_the_way_from_no_other() {
    let a = host_with(1, |config| config.listen = vec![address("127.0.0.2:0")]).await;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = reference(2, &[silent.local_addr().unwrap()]);
    let dial = tokio::spawn({
        let endpoint = a.endpoint.clone();
        async move { endpoint.connect(&target).await }
    });
    let mut room = [0; 2000];
    loop {
        let (length, from) = silent.recv_from(&mut room).await.unwrap();
        // A sizing probe: its kind, and what QUIC needs.
        if room[0] == 3 && length == 1200 {
            assert_eq!(from.ip(), a.address().ip());
            break;
        }
    }
    dial.abort();
}

#[test]
fn the_last_of_sixteen_addresses_is_reached_after_the_first_ones_stayed_silent() {
    in_place(1, async |placement| {
        let network = slow_network();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let b = host_in_place(2, &network, &placement, |_| {}).await;
        let nobody = (0..15).map(|n| SocketAddr::from(([10, 0, 1, n], 1000)));
        let addresses: Vec<_> = nobody.chain([b.address()]).collect();
        let begun = Instant::now();
        let link = a.endpoint.connect(&reference(2, &addresses)).await.unwrap();
        assert_eq!(link.via(), b.address());
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    });
}
