//! Floods of datagrams from many addresses, and what is left of honest traffic.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    Dice,
    common::{Host, echo},
    serves,
};

pub const PER_SECOND: u64 = 50_000;
const ROUNDS: usize = 3;

/// Sends what `make` makes to `target` from a thread of its own, `per_second` of them or as many as go.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    pub fn start(
        target: SocketAddr,
        per_second: Option<u64>,
        make: impl Fn(&Dice) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let dice = Dice::new(1);
            let ready: Vec<_> = (0..512).map(|_| make(&dice)).collect();
            // Other addresses of loopback stand for spoofed sources.
            let sockets: Vec<_> =
                (2..18).map(|n| UdpSocket::bind((format!("127.0.0.{n}"), 0)).unwrap()).collect();
            let started = Instant::now();
            let mut count = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    let n = count as usize;
                    let _ = sockets[n % sockets.len()].send_to(&ready[n % ready.len()], target);
                    count += 1;
                }
                counter.store(count, Ordering::Relaxed);
                if let Some(rate) = per_second {
                    let due = Duration::from_secs_f64(count as f64 / rate as f64);
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                }
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Round trips per second of 8 KiB over one link, for `length`.
async fn throughput(
    pair: &(webmesh_transport::Link, webmesh_transport::Link),
    length: Duration,
) -> f64 {
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < length {
        echo(&pair.0, &pair.1, &[5; 8192]).await;
        rounds += 1;
    }
    f64::from(rounds) / started.elapsed().as_secs_f64()
}

/// Honest traffic amid a flood aimed at the host, as a part of that beside the same flood aimed at a
/// sink; medians of interleaved measurements.
pub async fn share_amid(
    host: &Host,
    guest: &Host,
    what: &str,
    make: impl Fn(&Dice) -> Vec<u8> + Copy + Send + 'static,
) -> f64 {
    let pair = serves(host, guest).await;
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sink = sink.local_addr().map(|address| (address, sink)).unwrap();
    let mut shares = Vec::new();
    for _ in 0..ROUNDS {
        let flood = Flood::start(sink.0, Some(PER_SECOND), make);
        let beside = throughput(&pair, Duration::from_millis(700)).await;
        drop(flood);
        let flood = Flood::start(host.address(), Some(PER_SECOND), make);
        let amid = throughput(&pair, Duration::from_millis(700)).await;
        drop(flood);
        shares.push(amid / beside);
    }
    shares.sort_by(f64::total_cmp);
    println!("shares of honest traffic amid {PER_SECOND} datagrams/s of {what}: {shares:.2?}");
    shares[ROUNDS / 2]
}
