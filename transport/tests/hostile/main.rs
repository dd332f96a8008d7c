//! What hostile hosts do, and that everyone else is served all the same.
//!
//! - `strangers`: without any key: garbage, spoofed and abandoned handshakes
//! - `peers`: with a key of their own: whatever can be said wrongly
//! - `guests`, `abuse`: what a rendezvous and relay is asked for, rightly, wrongly and too often
//! - `crowds`: floods of what a rendezvous is asked for, by hosts with keys
//! - `bystanders`: on the road between two others: stolen, replayed and reflected probes
//! - `liars`: rendezvous that lie about where hosts are seen
//! - `forwarders`: relays and others that forge the end of the handshakes they forward (`forgery`)
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod abuse;
mod alone;
mod attacker;
mod bystanders;
mod crowds;
mod flood;
mod forgery;
mod forwarders;
mod guests;
mod liars;
mod peers;
mod strangers;

use std::{sync::atomic::Ordering, time::Duration};

use common::{Host, echo};
use webmesh_transport::Link;

/// Fails unless `guest`, a newcomer, gets a link to `host` and its bytes to and fro.
async fn serves(host: &Host, guest: &Host) -> (Link, Link) {
    let bytes = vec![7; 20_000];
    let served = async {
        let at_guest = guest.connect(host).await;
        let at_host = host
            .diary
            .until("the guest", |all| {
                all.iter().rev().find_map(|heard| match heard {
                    common::Heard::Up(link) if link.peer() == guest.peer() => Some(link.clone()),
                    _ => None,
                })
            })
            .await;
        assert_eq!(echo(&at_guest, &at_host, &bytes).await, bytes);
        (at_guest, at_host)
    };
    let served = tokio::time::timeout(Duration::from_secs(20), served).await;
    served.expect("the host doesn't serve an honest guest")
}

/// The same where a dial may be lost amid others', and is dialled again, as always allowed: within a minute.
async fn serves_in_the_end(host: &Host, guest: &Host) -> (Link, Link) {
    let dials = async {
        while guest.endpoint.connect(&host.endpoint.peer_ref()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let let_in = tokio::time::timeout(Duration::from_secs(60), dials).await;
    let_in.expect("the host lets no honest guest in");
    serves(host, guest).await
}

/// A small generator of our own (xorshift64*), so that every run sends the same garbage.
struct Dice(std::sync::atomic::AtomicU64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.max(1).into())
    }

    fn roll(&self) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&self, length: usize) -> Vec<u8> {
        let words = length.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.roll().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
