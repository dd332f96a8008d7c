//! A stranger who sends garbage: 50,000 datagrams a second to a node, or to a socket that nobody reads.

use crate::process::{Child, Role, Task};
use rand::{Rng, RngExt, SeedableRng};
use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

const DATAGRAMS_PER_SECOND: u64 = 50_000;
/// The pace is kept in steps of this many datagrams: 2 ms.
const STEP: u64 = 100;

/// Floods the task's address, or a socket of its own where it is "sink", until the parent closes standard input.
pub(crate) fn run(task: &Task) {
    std::thread::spawn(|| {
        crate::process::wait_for_parent();
        std::process::exit(0);
    });
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target: SocketAddr = match task.address.as_deref() {
        Some("sink") | None => sink.local_addr().unwrap(),
        Some(address) => address.parse().unwrap(),
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rng = rand::rngs::SmallRng::seed_from_u64(2);
    let mut datagram = [0; 1400];
    let start = Instant::now();
    println!("flooding");
    for step in 1.. {
        for n in 0..STEP {
            let length = garbage(&mut rng, n, &mut datagram);
            // A full buffer at the other side is no error of ours.
            let _ = socket.send_to(&datagram[..length], target);
        }
        let due =
            start + Duration::from_secs(1) * (step * STEP) as u32 / DATAGRAMS_PER_SECOND as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// One datagram of each kind in turn: noise, what looks like a short header, our own frames, an Initial.
fn garbage(rng: &mut impl Rng, n: u64, datagram: &mut [u8; 1400]) -> usize {
    let length = match n % 4 {
        3 => 1200,
        _ => rng.random_range(1..200),
    };
    rng.fill_bytes(&mut datagram[..length]);
    match n % 4 {
        0 => {}
        1 => datagram[0] = 0x40 | (datagram[0] & 0x3f),
        2 => datagram[0] &= 0x3f,
        _ => {
            datagram[0] = 0xc0 | (datagram[0] & 0x0f);
            datagram[1..6].copy_from_slice(&[0, 0, 0, 1, 8]); // version 1, a connection id of 8 bytes
            datagram[14] = 8; // source connection id
            datagram[23] = 0; // no token
            datagram[24..26].copy_from_slice(&[0x44, 0x80]); // the rest of the datagram
        }
    }
    length
}

/// Starts a flood that ends with the returned value.
pub(crate) fn start(target: &str) -> Child {
    let mut child = Child::spawn(&Task {
        role: Role::Flood,
        system: "-".into(),
        workload: "-".into(),
        address: Some(target.into()),
    });
    child.line();
    child
}
