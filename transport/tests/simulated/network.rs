//! The network itself, in time that is exact.

use std::{io::IoSliceMut, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use quinn::{
    AsyncUdpSocket,
    udp::{RecvMeta, Transmit},
};
use tokio::time::Instant;
use webmesh_transport::{
    MemoryNetwork,
    sim::{Fate, Link},
};

use crate::common::in_exact_time;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

fn places() -> (SocketAddr, SocketAddr) {
    ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap())
}

fn send(socket: &Arc<dyn AsyncUdpSocket>, to: SocketAddr, contents: &[u8]) {
    let transmit =
        Transmit { destination: to, ecn: None, contents, segment_size: None, src_ip: None };
    socket.try_send(&transmit).unwrap();
}

/// The first byte of the next datagram.
async fn receive(socket: &Arc<dyn AsyncUdpSocket>) -> u8 {
    std::future::poll_fn(|cx| {
        let (mut buffer, mut metas) = ([0; 2000], [RecvMeta::default()]);
        match socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut metas) {
            Poll::Ready(received) => Poll::Ready(received.map(|_| buffer[0]).unwrap()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[test]
fn datagrams_are_received_when_they_arrive_and_timers_keep_their_ticks() {
    let network = MemoryNetwork::new(1);
    in_exact_time(1, &network, async |_| {
        let (a, b) = places();
        network.set_links(Link { bits_per_second: Some(100_000_000), ..Link::of(333 * US) });
        let [at_a, at_b] = [a, b].map(|place| network.socket(place).unwrap());
        let begun = Instant::now();
        let timer = tokio::task::spawn_local(async move {
            let mut ticks = Vec::new();
            for _ in 0..3 {
                tokio::time::sleep(MS).await;
                ticks.push(begun.elapsed());
            }
            ticks
        });
        // A datagram of 1,250 bytes takes 100 µs.
        (0..20).for_each(|n| send(&at_a, b, &[n; 1250]));
        for n in 0..20 {
            assert_eq!(receive(&at_b).await, n);
            assert_eq!(begun.elapsed(), 333 * US + 100 * US * (u32::from(n) + 1));
        }
        assert_eq!(timer.await.unwrap(), [MS, 2 * MS, 3 * MS]);
        // There and back, from a moment between two ticks and much later.
        for pause in [70 * US, 3 * MS, Duration::from_secs(7)] {
            tokio::time::sleep(pause).await;
            send(&at_a, b, b"to");
            let sent = Instant::now();
            receive(&at_b).await;
            send(&at_b, a, b"fro");
            receive(&at_a).await;
            let transmission = Duration::from_nanos(80 * 5);
            assert_eq!(sent.elapsed(), 2 * 333 * US + transmission);
        }
    });
}

#[test]
fn a_cut_one_way_lets_the_other_through_and_an_observer_is_told_of_both() {
    let network = MemoryNetwork::new(1);
    in_exact_time(1, &network, async |_| {
        let (a, b) = places();
        network.set_latency(10 * MS);
        let [at_a, at_b] = [a, b].map(|place| network.socket(place).unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        network.observe(move |sent| {
            let _ = tell.send((sent.from, sent.payload.to_vec(), sent.fate));
        });
        network.set_cut_towards(a.ip(), b.ip(), true);
        send(&at_a, b, b"swallowed");
        send(&at_b, a, b"passes");
        let arrival = Instant::now() + 10 * MS;
        assert_eq!(told.recv().unwrap(), (a.ip(), b"swallowed".to_vec(), Fate::Cut));
        let passes = (b.ip(), b"passes".to_vec(), Fate::Arrives(arrival));
        assert_eq!(told.recv().unwrap(), passes);
        assert_eq!(receive(&at_a).await, b'p');
        network.set_cut(a.ip(), b.ip(), false);
        send(&at_a, b, b"healed");
        assert_eq!(receive(&at_b).await, b'h');
    });
}

#[test]
fn what_is_lost_follows_from_chance_alone_for_each_datagram_and_direction() {
    const COUNT: usize = 40_000;
    let network = MemoryNetwork::new(1);
    in_exact_time(1, &network, async |_| {
        let (a, b) = places();
        network.set_loss(0.1);
        let [at_a, at_b] = [a, b].map(|place| network.socket(place).unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        network.observe(move |sent| {
            let _ = tell.send(sent.fate == Fate::Lost);
        });
        for _ in 0..COUNT {
            send(&at_a, b, b"to");
            send(&at_b, a, b"fro");
        }
        let lost: Vec<bool> = told.try_iter().collect();
        let share = |lost: &dyn Fn(usize) -> bool, of: usize| {
            (0..of).filter(|n| lost(*n)).count() as f64 / of as f64
        };
        // Chance alone is six standard deviations away from any of these bounds; the seed is always the same.
        for direction in [0, 1] {
            let one = share(&|n| lost[2 * n + direction], COUNT);
            assert!((one - 0.1).abs() < 0.01, "{one}");
            let two = share(&|n| lost[2 * n + direction] && lost[2 * n + 2 + direction], COUNT - 1);
            assert!((two - 0.01).abs() < 0.003, "two in a row: {two}");
        }
        let both = share(&|n| lost[2 * n] && lost[2 * n + 1], COUNT);
        assert!((both - 0.01).abs() < 0.003, "there and back: {both}");
    });
}
