//! An actor whose handlers take long and watch their askers, and raw peers that ask it.

use crate::world::address;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, Cancellation, MemoryNetwork, Mesh, Message, PeerRef, Protocol, RemoteActor,
};
use webmesh_transport::{
    Endpoint, EndpointConfig, InPlace, Link, LinkDown, Observer, PeerId, SecretKey,
};

/// Answered after so long, or when the asker has given up, if the handler looks.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.wait", reply = u64)]
pub(crate) struct Wait {
    pub(crate) ms: u64,
    pub(crate) looks: bool,
}

/// Takes the actor so long, and nothing else in between.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.work", reply = webmesh::Bytes)]
pub(crate) struct Work {
    pub(crate) n: u64,
    pub(crate) us: u64,
    /// So many bytes are wanted back.
    pub(crate) back: usize,
}

/// Panics.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.break", reply = u64)]
pub(crate) struct Break;

#[derive(Protocol)]
#[protocol(id = "test.patience/1", accepts(Wait, Work, Break))]
pub(crate) struct Patience;

/// What several instances count.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    /// Handlers of `Wait`: begun, at work, and told that their asker gave up.
    pub(crate) begun: Arc<AtomicUsize>,
    pub(crate) at_work: Arc<AtomicUsize>,
    pub(crate) given_up: Arc<AtomicUsize>,
    /// The `n` of each work that was begun.
    pub(crate) works: Arc<std::sync::Mutex<Vec<u64>>>,
    /// What the last handler knew of its asker.
    pub(crate) asker: Arc<std::sync::Mutex<Option<Cancellation>>>,
}

impl Counts {
    pub(crate) fn get(&self) -> (usize, usize, usize) {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (count(&self.begun), count(&self.at_work), count(&self.given_up))
    }

    pub(crate) fn asker(&self) -> Cancellation {
        self.asker.lock().unwrap().clone().unwrap()
    }
}

#[derive(RemoteActor)]
#[remote(serves(Patience))]
pub(crate) struct Patient {
    counts: Counts,
}

impl Patient {
    pub(crate) fn factory(counts: &Counts) -> impl FnMut() -> Self + Send + 'static {
        let counts = counts.clone();
        move || Self { counts: counts.clone() }
    }
}

impl Actor for Patient {
    type Context = Context<Self>;
}

/// Counts a handler as long as it is at work.
struct AtWork(Arc<AtomicUsize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler<Wait> for Patient {
    type Result = ResponseFuture<u64>;
    fn handle(&mut self, wait: Wait, ctx: &mut Context<Self>) -> Self::Result {
        let counts = self.counts.clone();
        counts.begun.fetch_add(1, Ordering::Relaxed);
        counts.at_work.fetch_add(1, Ordering::Relaxed);
        let at_work = AtWork(counts.at_work.clone());
        if !wait.looks {
            return Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(wait.ms)).await;
                drop(at_work);
                wait.ms
            });
        }
        let asker = webmesh::cancellation(ctx);
        *counts.asker.lock().unwrap() = Some(asker.clone());
        Box::pin(async move {
            let _at_work = at_work;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait.ms)) => {}
                () = asker.cancelled() => {
                    assert!(asker.is_cancelled());
                    counts.given_up.fetch_add(1, Ordering::Relaxed);
                }
            }
            wait.ms
        })
    }
}

impl Handler<Work> for Patient {
    type Result = AtomicResponse<Self, webmesh::Bytes>;
    fn handle(&mut self, work: Work, _: &mut Context<Self>) -> Self::Result {
        self.counts.works.lock().unwrap().push(work.n);
        let done = async move {
            tokio::time::sleep(Duration::from_micros(work.us)).await;
            webmesh::Bytes::from(vec![0; work.back])
        };
        AtomicResponse::new(Box::pin(done.into_actor(self)))
    }
}

impl Handler<Break> for Patient {
    type Result = u64;
    fn handle(&mut self, _: Break, _: &mut Context<Self>) -> u64 {
        panic!("as a hostile peer wants it");
    }
}

/// A patient actor on `on`, as it is known there and as `from` reaches it, and what it counts.
pub(crate) async fn patient(
    on: &Mesh,
    from: &Mesh,
) -> (ActorRef<Patience>, ActorRef<Patience>, Counts) {
    patient_of(4096, on, from).await
}

/// One that has so many places.
pub(crate) async fn patient_of(
    places: usize,
    on: &Mesh,
    from: &Mesh,
) -> (ActorRef<Patience>, ActorRef<Patience>, Counts) {
    let counts = Counts::default();
    let near = on.spawner().capacity(places).spawn(Patient::factory(&counts));
    on.publish("patient", &near).allow(webmesh::Anyone).await.unwrap();
    let far = from.resolve("patient").at(&on.peer_ref()).await.unwrap();
    (near, far, counts)
}

struct Deaf;

impl Observer for Deaf {
    fn link_up(&self, _: Link) {}
    fn link_draining(&self, _: Link) {}
    fn link_down(&self, _: Link, _: LinkDown) {}
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

/// A peer that speaks by hand, and its stream to the actor.
pub(crate) struct Raw {
    endpoint: Endpoint,
    pub(crate) link: Link,
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
    asks: u64,
    answered: u64,
    /// Messages that it may have sent in all.
    granted: u64,
    unread: Vec<u8>,
    known: Vec<&'static str>,
}

impl Raw {
    /// As host `n`, which takes no more than `window` bytes of a stream that it doesn't read.
    pub(crate) async fn new(
        network: &MemoryNetwork,
        n: u8,
        to: &PeerRef,
        object: [u8; 16],
        window: u32,
    ) -> Self {
        let mut config = EndpointConfig {
            listen: vec![address(n)],
            network: Some(network.clone()),
            ..EndpointConfig::new(SecretKey::from_bytes([n; 32]))
        };
        config.windows.stream = window;
        let placement = Arc::new(InPlace::new(n.into()).unwrap());
        let endpoint = Endpoint::bind(config, placement, Arc::new(Deaf)).await.unwrap();
        let link = endpoint.connect(to).await.unwrap();
        let (send, recv) = Self::open(&link, object).await;
        let (unread, known) = (Vec::new(), Vec::new());
        Self { endpoint, link, send, recv, asks: 0, answered: 0, granted: 64, unread, known }
    }

    async fn open(link: &Link, object: [u8; 16]) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = link.quic().open_bi().await.unwrap();
        let protocol = b"test.patience/1";
        let mut open = vec![1];
        open.extend(object);
        open.push(protocol.len() as u8);
        open.extend(protocol);
        send.write_all(&[&[2, open.len() as u8], &open[..]].concat()).await.unwrap();
        (send, recv)
    }

    /// Opens its next stream to the actor; gives back the one that it had.
    pub(crate) async fn next_stream(
        &mut self,
        object: [u8; 16],
    ) -> (quinn::SendStream, quinn::RecvStream) {
        let (send, recv) = Self::open(&self.link, object).await;
        (self.asks, self.answered, self.granted) = (0, 0, 64);
        self.unread.clear();
        self.known.clear();
        (std::mem::replace(&mut self.send, send), std::mem::replace(&mut self.recv, recv))
    }

    /// Ends its connection and makes the next one, with a stream to the actor.
    pub(crate) async fn reconnect(&mut self, to: &PeerRef, object: [u8; 16]) {
        self.link.quic().close(0u32.into(), b"");
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.link = self.endpoint.connect(to).await.unwrap();
        drop(self.next_stream(object).await);
    }

    /// Reads for so long, and learns what it was granted.
    pub(crate) async fn listen(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        let mut heard = [0; 4096];
        while let Ok(read) = tokio::time::timeout_at(until, self.recv.read(&mut heard)).await {
            let Ok(Some(len)) = read else { return tokio::time::sleep_until(until).await };
            self.unread.extend(&heard[..len]);
            while let Some((len, prefix)) = read_number(&self.unread)
                && let Some(frame) = self.unread.get(prefix..prefix + len as usize)
            {
                match frame {
                    [0x43, credit @ ..] => self.granted = read_number(credit).unwrap().0,
                    [0x44 | 0x46, ..] => self.answered += 1,
                    _ => {}
                }
                self.unread.drain(..prefix + len as usize);
            }
        }
    }

    /// How many asks it may send now.
    pub(crate) fn may_ask(&self) -> u64 {
        self.granted - self.asks
    }

    /// How many of them were answered, as far as it has listened.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// The frame of an ask, and its number.
    pub(crate) fn ask<M: Message + Serialize>(&mut self, message: &M) -> (u64, Vec<u8>) {
        let ask = self.asks;
        self.asks += 1;
        let mut frame = vec![3];
        number(&mut frame, ask);
        match self.known.iter().position(|known| *known == M::ID) {
            Some(at) => frame.push(at as u8),
            None => {
                frame.extend([self.known.len() as u8, M::ID.len() as u8]);
                frame.extend(M::ID.as_bytes());
                self.known.push(M::ID);
            }
        }
        frame.extend(rmp_serde::to_vec_named(message).unwrap());
        let mut whole = Vec::new();
        number(&mut whole, frame.len() as u64);
        whole.extend(frame);
        (ask, whole)
    }

    /// The number of the next ask.
    pub(crate) fn number(&self) -> u64 {
        self.asks
    }

    pub(crate) fn cancel(ask: u64) -> Vec<u8> {
        let mut frame = vec![8];
        number(&mut frame, ask);
        [vec![frame.len() as u8], frame].concat()
    }
}

/// Appends a number as RFC 9000 writes it.
fn number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..0x40 => out.push(number as u8),
        0x40..0x4000 => out.extend((number as u16 | 0x4000).to_be_bytes()),
        _ => out.extend((number as u32 | 0x8000_0000).to_be_bytes()),
    }
}

/// A number and how many bytes it takes; `None`: it isn't here in whole.
fn read_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1 << (bytes.first()? >> 6);
    let whole = bytes.get(..len)?;
    let value = whole.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & (u64::MAX >> (64 - 8 * len + 2)), len))
}

/// The object id inside a ref.
pub(crate) fn object_of<P: Protocol>(far: &ActorRef<P>) -> [u8; 16] {
    let value = serde_json::to_value(far).unwrap();
    std::array::from_fn(|at| value["object"][at].as_u64().unwrap() as u8)
}
