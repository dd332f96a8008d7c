//! What happens rarely: lanes that are ended while a reply is on its way, names that change hands, peers that say things
//! twice, meshes that end in the middle of it.

use crate::common::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use webmesh::prelude::*;
use webmesh::{ActorRef, AddressRef, Anyone, AskError, Bytes, Mesh, PeerRef, TellError};
use webmesh_transport::{Endpoint, EndpointConfig, SecretKey, Threads};

/// Answers after a while, with many bytes.
#[derive(webmesh::Message, Serialize, Deserialize, Debug)]
#[message(id = "test.late", reply = Bytes)]
struct Late {
    ms: u64,
    len: usize,
}

/// Answers with what cannot be encoded.
#[derive(webmesh::Message, Serialize, Deserialize, Debug)]
#[message(id = "test.bomb", reply = Bomb)]
struct Ignite;

#[derive(webmesh::Reply, Deserialize, Debug, PartialEq)]
struct Bomb;

impl Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("as expected")
    }
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.odd/1", accepts(Late, Ignite))]
struct Odd;

#[derive(Default, webmesh::RemoteActor)]
#[remote(serves(Odd))]
struct OddActor;

impl Actor for OddActor {
    type Context = Context<Self>;
}

impl Handler<Late> for OddActor {
    type Result = ResponseFuture<Bytes>;
    fn handle(&mut self, late: Late, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(late.ms)).await;
            vec![7; late.len].into()
        })
    }
}

impl Handler<Ignite> for OddActor {
    type Result = Bomb;
    fn handle(&mut self, _: Ignite, _: &mut Context<Self>) -> Bomb {
        Bomb
    }
}

async fn odd(host: &Mesh, guest: &Mesh) -> ActorRef<Odd> {
    let near = host.spawn(OddActor::default);
    host.publish("odd", &near).allow(Anyone).await.unwrap();
    guest.resolve("odd").at(&host.peer_ref()).await.unwrap()
}

#[test]
fn a_large_reply_arrives_though_its_lane_was_ended_meanwhile() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let late = odd(&host, &guest).await;
        let reply = late.ask(Late { ms: 500, len: 32 << 20 });
        // More targets than lanes: the one used longest ago goes.
        let mut others = Vec::new();
        for _ in 0..90 {
            let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
            far.ask(note(1, 1, 0)).await.unwrap();
            others.push(far);
        }
        assert_eq!(reply.await.map(|body| body.len()), Ok(32 << 20));
    });
}

/// The recorder's protocol as another version of the program has it: a note without a number.
#[derive(webmesh::Message, Serialize, Deserialize, Debug)]
#[message(id = "test.note", reply = u64)]
struct OldNote {
    sender: u32,
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.recorder/1", accepts(OldNote))]
struct OldRecorder;

#[test]
fn a_flush_fails_if_a_tell_before_it_was_refused() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        for round in 0..20 {
            let name = format!("old/{round}");
            let near = host.spawn(RecorderActor::default);
            host.publish(&name, &near).allow(Anyone).await.unwrap();
            let far: ActorRef<OldRecorder> =
                guest.resolve(&name).at(&host.peer_ref()).await.unwrap();
            far.flush().await.unwrap();
            far.tell(OldNote { sender: 1 }).await.unwrap();
            assert_eq!(far.flush().await, Err(TellError::LostTells { at_most: 1 }));
            // It has been told; nothing is in doubt any more.
            far.flush().await.unwrap();
        }
    });
}

#[test]
fn a_ref_to_a_name_reaches_the_next_actor_of_that_name() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let first = host.spawn(RecorderActor::default);
        host.publish("post", &first).allow(Anyone).await.unwrap();
        let far: ActorRef<Recorder> = guest.resolve("post").at(&host.peer_ref()).await.unwrap();
        assert_eq!(far.ask(note(1, 1, 0)).await, Ok(1));
        let _ = far.ask(Do::Stop).await;
        // Nobody has the name: neither accepted nor lost, but refused.
        let mut refused = Ok(());
        for number in 0..10 {
            refused = far.tell(note(1, number, 0)).await;
            if refused == Err(TellError::NoSuchActor) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(refused, Err(TellError::NoSuchActor));
        let second = host.spawn(RecorderActor::default);
        host.publish("post", &second).allow(Anyone).await.unwrap();
        assert_eq!(far.ask(note(1, 2, 0)).await, Ok(2));
    });
}

#[test]
fn a_reply_that_panics_while_it_is_encoded_is_a_failure_at_once() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let far = odd(&host, &guest).await;
        let began = Instant::now();
        let answer = far.ask(Ignite).await;
        assert!(matches!(answer, Err(AskError::Panicked | AskError::NoReply)), "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(far.ask(Late { ms: 0, len: 3 }).await, Ok(vec![7; 3].into()));
    });
}

#[test]
fn those_who_wait_for_a_mesh_that_is_shut_down_are_told_so() {
    run(async {
        for _ in 0..5 {
            let (host, guest) = (mesh().await, mesh().await);
            let (far, _) = recorder(&host, &guest, Duration::from_millis(20)).await;
            far.flush().await.unwrap();
            let asks: Vec<_> = (0..50).map(|n| far.ask(note(1, n, 0))).collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::spawn(async move { host.shutdown().await });
            for ask in asks {
                let answer = ask.await;
                assert!(matches!(answer, Ok(_) | Err(AskError::Stopped)), "{answer:?}");
            }
        }
    });
}

#[test]
fn a_watch_that_is_told_again_over_a_link_that_knows_it_is_no_offence() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let object = crate::hostile::published_object(&far);
        for (second, offence) in [(object, false), ([9; 16], true)] {
            let config = EndpointConfig {
                listen: vec!["127.0.0.1:0".parse().unwrap()],
                ..EndpointConfig::new(SecretKey::generate())
            };
            let placement = Arc::new(Threads::start().unwrap());
            let observer = Arc::new(crate::hostile::Ends::default());
            let peer = Endpoint::bind(config, placement, observer).await.unwrap();
            let link = peer.connect(&host.peer_ref()).await.unwrap();
            let (mut send, _recv) = link.quic().open_bi().await.unwrap();
            let watch = |object: [u8; 16]| [vec![19, 4, 7], object.to_vec(), vec![0]].concat();
            send.write_all(&[vec![1], watch(object), watch(second)].concat()).await.unwrap();
            let closed =
                tokio::time::timeout(Duration::from_millis(500), link.quic().closed()).await;
            assert_eq!(closed.is_ok(), offence, "{closed:?}");
        }
    });
}

#[test]
fn a_name_can_be_asked_for_at_an_address_that_is_ones_own() {
    run(async {
        let host = mesh().await;
        let near = host.spawn(RecorderActor::default);
        host.publish("self", &near).allow(Anyone).await.unwrap();
        let at = PeerRef::Addresses(AddressRef::new(host.listen_addresses()).unwrap());
        let asked = tokio::time::timeout(Duration::from_secs(20), async {
            host.resolve::<Recorder>("self").at(&at).await
        });
        // Whether that works or not, it must come to an end, and leave the mesh well.
        if let Ok(far) = asked.await.expect("an end") {
            assert_eq!(far.ask(note(1, 1, 0)).await, Ok(1));
        }
        assert_eq!(near.ask(note(1, 2, 0)).await, Ok(2));
        host.shutdown().await;
    });
}

#[test]
fn a_ref_works_on_a_third_host_that_never_met_the_actors_own() {
    run(async {
        let (host, between, third) = (mesh().await, mesh().await, mesh().await);
        let (at_host, log) = recorder(&host, &between, Duration::ZERO).await;
        let (at_third, _) = recorder(&third, &between, Duration::ZERO).await;
        assert_eq!(at_third.ask(Introduce { to: at_host }).await, Ok(1));
        assert_eq!(*log.lock().unwrap(), [(99, 1, 10)]);
    });
}

/// Has the actor end when [`Touchy`] messages wait behind it.
#[derive(webmesh::Message, Serialize, Deserialize, Debug)]
#[message(id = "test.end", reply = ())]
struct End;

/// Panics when it is dropped by the actor's side.
#[derive(webmesh::Message, Serialize, Deserialize, Debug)]
#[message(id = "test.touchy", reply = ())]
struct Touchy {
    #[serde(skip, default = "armed")]
    armed: bool,
}

fn armed() -> bool {
    true
}

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(!self.armed, "as expected");
    }
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.touchy/1", accepts(End, Touchy))]
struct Touchies;

#[derive(webmesh::RemoteActor)]
#[remote(serves(Touchies))]
struct TouchyActor {
    may_end: Arc<tokio::sync::Notify>,
}

impl Actor for TouchyActor {
    type Context = Context<Self>;
}

impl Handler<End> for TouchyActor {
    type Result = actix::AtomicResponse<Self, ()>;
    fn handle(&mut self, _: End, _: &mut Context<Self>) -> Self::Result {
        let may_end = self.may_end.clone();
        let told = async move { may_end.notified().await };
        let end = told.into_actor(self).map(|(), _, ctx: &mut Context<Self>| ctx.stop());
        actix::AtomicResponse::new(Box::pin(end))
    }
}

impl Handler<Touchy> for TouchyActor {
    type Result = ();
    fn handle(&mut self, mut touchy: Touchy, _: &mut Context<Self>) {
        touchy.armed = false;
    }
}

#[test]
fn messages_that_panic_when_they_are_dropped_do_not_keep_others_from_being_refused() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let may_end = Arc::new(tokio::sync::Notify::new());
        let ending = may_end.clone();
        let near = host.spawn(move || TouchyActor { may_end: ending.clone() });
        host.publish("touchy", &near).allow(Anyone).await.unwrap();
        let far: ActorRef<Touchies> = guest.resolve("touchy").at(&host.peer_ref()).await.unwrap();
        let end = far.ask(End);
        // As many as go in one frame or a few, that several wait as one delivery.
        let touchy: Vec<_> = (0..50).map(|_| far.ask(Touchy { armed: false })).collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        may_end.notify_one();
        assert_eq!(end.await, Ok(()));
        for ask in touchy {
            assert_eq!(ask.await, Err(AskError::Stopped));
        }
    });
}
