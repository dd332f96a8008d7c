//! What the scenarios share: hosts whose observers write down what they hear.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod exact;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

#[allow(unused_imports, reason = "not every scenario needs it")]
pub use exact::in_exact_time;
use tokio::sync::Notify;
use webmesh_transport::{
    Endpoint, EndpointConfig, InPlace, Link, LinkDown, MemoryNetwork, Observer, PeerId, PeerRef,
    Placement, SecretKey, Service, Threads,
    peer_ref::{AddressRef, RefContent, SignedRef},
};

/// What an observer heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Up(Link),
    Draining(Link),
    Down(Link, LinkDown),
    Unreachable(PeerId),
    Reachable(PeerId),
}

/// Writes down what it hears. With `drains`, it is done with draining links at once.
#[derive(Default)]
pub struct Diary {
    entries: Mutex<Vec<Heard>>,
    news: Notify,
    drains: bool,
}

impl Diary {
    fn write(&self, heard: Heard) {
        self.entries.lock().unwrap().push(heard);
        self.news.notify_waiters();
    }

    pub fn all(&self) -> Vec<Heard> {
        self.entries.lock().unwrap().clone()
    }

    /// Waits until `pick` finds something in the diary.
    pub async fn until<T>(&self, what: &str, pick: impl Fn(&[Heard]) -> Option<T>) -> T {
        let wait = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = pick(&self.entries.lock().unwrap()) {
                    return found;
                }
                news.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(120), wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; heard {:?}", self.all()),
        }
    }

    pub async fn up(&self) -> Link {
        self.until("a link", |all| {
            all.iter().rev().find_map(|heard| match heard {
                Heard::Up(link) => Some(link.clone()),
                _ => None,
            })
        })
        .await
    }

    pub async fn down(&self, link: &Link) -> LinkDown {
        self.until("the end of a link", |all| {
            all.iter().find_map(|heard| match heard {
                Heard::Down(down, why) if down == link => Some(why.clone()),
                _ => None,
            })
        })
        .await
    }
}

impl Observer for Diary {
    fn link_up(&self, link: Link) {
        self.write(Heard::Up(link));
    }

    fn link_draining(&self, link: Link) {
        if self.drains {
            link.drained();
        }
        self.write(Heard::Draining(link));
    }

    fn link_down(&self, link: Link, reason: LinkDown) {
        self.write(Heard::Down(link, reason));
    }

    fn unreachable(&self, peer: PeerId) {
        self.write(Heard::Unreachable(peer));
    }

    fn reachable(&self, peer: PeerId) {
        self.write(Heard::Reachable(peer));
    }
}

/// An endpoint and its diary.
pub struct Host {
    pub endpoint: Endpoint,
    pub diary: Arc<Diary>,
    /// Kept, lest its threads end.
    pub placement: Arc<dyn Placement>,
    threads: Option<Arc<Threads>>,
}

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32])
}

/// Hosts here relay for others unless they are told not to.
fn relaying(n: u8) -> EndpointConfig {
    let mut config = EndpointConfig::new(key(n));
    config.service = Some(Service::with_relay());
    config
}

/// A host on loopback with threads of its own.
pub async fn host(n: u8) -> Host {
    host_with(n, |_| {}).await
}

pub async fn host_with(n: u8, change: impl FnOnce(&mut EndpointConfig)) -> Host {
    let mut config = relaying(n);
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    change(&mut config);
    let threads = Arc::new(Threads::start().unwrap());
    Host { threads: Some(threads.clone()), ..start(config, threads).await }
}

/// A host in place at an address of a memory network.
pub async fn host_in_place(
    n: u8,
    network: &MemoryNetwork,
    placement: &Arc<InPlace>,
    change: impl FnOnce(&mut EndpointConfig),
) -> Host {
    let mut config = relaying(n);
    config.listen = vec![SocketAddr::from(([10, 0, 0, n], 1000))];
    config.network = Some(network.clone());
    change(&mut config);
    start(config, placement.clone()).await
}

/// The same, but the scenario says itself when draining links are drained.
pub async fn patient_host_in_place(
    n: u8,
    network: &MemoryNetwork,
    placement: &Arc<InPlace>,
) -> Host {
    let mut config = relaying(n);
    config.listen = vec![SocketAddr::from(([10, 0, 0, n], 1000))];
    config.network = Some(network.clone());
    start_with(config, placement.clone(), Diary::default()).await
}

pub async fn start(config: EndpointConfig, placement: Arc<dyn Placement>) -> Host {
    start_with(config, placement, Diary { drains: true, ..Diary::default() }).await
}

async fn start_with(config: EndpointConfig, placement: Arc<dyn Placement>, diary: Diary) -> Host {
    let diary = Arc::new(diary);
    let endpoint = Endpoint::bind(config, placement.clone(), diary.clone()).await.unwrap();
    Host { endpoint, diary, placement, threads: None }
}

impl Host {
    /// Ends a host as SIGKILL would: without a word to its peers. Its port is free afterwards.
    pub fn kill(self) {
        self.threads.as_ref().unwrap().shutdown();
    }

    pub fn address(&self) -> SocketAddr {
        self.endpoint.local_addrs()[0]
    }

    pub fn peer(&self) -> PeerId {
        self.endpoint.peer_id()
    }

    pub async fn connect(&self, other: &Host) -> Link {
        self.endpoint.connect(&other.endpoint.peer_ref()).await.unwrap()
    }
}

/// A valid reference to host `n` at other addresses than its own.
pub fn reference(n: u8, addresses: &[SocketAddr]) -> PeerRef {
    let content = RefContent {
        version: u64::MAX - 1,
        addresses: addresses.to_vec(),
        rendezvous: Vec::new(),
        expires: 4_000_000_000,
    };
    PeerRef::Signed(SignedRef::sign(&key(n), content).unwrap())
}

pub fn address_only(addresses: &[SocketAddr]) -> PeerRef {
    PeerRef::Addresses(AddressRef::new(addresses).unwrap())
}

/// Runs a scenario on one current-thread runtime with a paused clock, as `in place` wants it.
pub fn in_place<T>(seed: u64, scenario: impl AsyncFnOnce(Arc<InPlace>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let placement = Arc::new(InPlace::new(seed).unwrap());
        scenario(placement).await
    })
}

/// Sends `bytes` on a new stream and has the other side send them back.
pub async fn echo(from: &Link, to: &Link, bytes: &[u8]) -> Vec<u8> {
    let serve = async {
        let (mut tx, mut rx) = to.quic().accept_bi().await.unwrap();
        let got = rx.read_to_end(1 << 24).await.unwrap();
        tx.write_all(&got).await.unwrap();
        tx.finish().unwrap();
    };
    let ask = async {
        let (mut tx, mut rx) = from.quic().open_bi().await.unwrap();
        tx.write_all(bytes).await.unwrap();
        tx.finish().unwrap();
        rx.read_to_end(1 << 24).await.unwrap()
    };
    tokio::join!(serve, ask).1
}
