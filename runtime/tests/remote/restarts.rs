//! Refs over the end of a process: a mesh that starts again under the same key and address.

use crate::common::*;
use std::net::SocketAddr;
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{ActorRef, AskError, KeyFileError, Mesh, SecretKey, StartError};

async fn start(key: &SecretKey, address: SocketAddr) -> Mesh {
    let key = SecretKey::from_bytes(key.to_bytes());
    for _ in 0..100 {
        let started = Mesh::builder()
            .secret_key(SecretKey::from_bytes(key.to_bytes()))
            .listen(address)
            .start()
            .await;
        match started {
            Ok(mesh) => return mesh,
            // The old socket is closed by its thread, a moment after its mesh.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("the address stays taken")
}

#[test]
fn a_published_ref_works_after_a_restart_and_an_unpublished_one_says_no_such_actor() {
    run(async {
        let key = SecretKey::generate();
        let guest = mesh().await;
        let host = start(&key, "127.0.0.1:0".parse().unwrap()).await;
        let address = host.listen_addresses()[0];
        let near = host.spawn(RecorderActor::default);
        host.publish("it", &near).allow(webmesh::Anyone).await.unwrap();
        let published: ActorRef<Recorder> = guest.resolve("it").at(&host.peer_ref()).await.unwrap();
        let private_near = host.spawn(RecorderActor::default);
        let keeper = host.spawn(|| Keeper(None));
        keeper.tell(Keep { it: private_near }).await.unwrap();
        host.publish("keeper", &keeper).allow(webmesh::Anyone).await.unwrap();
        let far_keeper: ActorRef<Keeping> =
            guest.resolve("keeper").at(&host.peer_ref()).await.unwrap();
        let private = far_keeper.ask(Give).await.unwrap().unwrap();
        assert_eq!(published.ask(note(1, 1, 0)).await, Ok(1));
        assert_eq!(private.ask(note(1, 1, 0)).await, Ok(1));

        host.shutdown().await;
        drop((host, near, keeper));
        let host = start(&key, address).await;
        let near = host.spawn(RecorderActor::default);
        host.publish("it", &near).allow(webmesh::Anyone).await.unwrap();
        assert_eq!(published.ask(note(1, 2, 0)).await, Ok(2));
        assert_eq!(private.ask(note(1, 2, 0)).await, Err(AskError::NoSuchActor));
        assert_eq!(published.ask(note(1, 3, 0)).await, Ok(3));
    });
}

#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "test.keep", reply = u64)]
struct Keep {
    it: ActorRef<Recorder>,
}

#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "test.give", reply = Option<ActorRef<Recorder>>)]
struct Give;

#[derive(webmesh::Protocol)]
#[protocol(id = "test.keeping/1", accepts(Keep, Give))]
struct Keeping;

#[derive(webmesh::RemoteActor)]
#[remote(serves(Keeping))]
struct Keeper(Option<ActorRef<Recorder>>);

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Keep> for Keeper {
    type Result = u64;
    fn handle(&mut self, keep: Keep, _: &mut Context<Self>) -> u64 {
        self.0 = Some(keep.it);
        0
    }
}

impl Handler<Give> for Keeper {
    type Result = Option<ActorRef<Recorder>>;
    fn handle(&mut self, _: Give, _: &mut Context<Self>) -> Self::Result {
        self.0.clone()
    }
}

#[test]
fn a_ref_inside_a_message_works_at_a_third_host() {
    run(async {
        let (first, second, third) = (mesh().await, mesh().await, mesh().await);
        // `second` gets a ref to an actor of `third` from `first`, who knows both.
        let (at_second, _) = recorder(&second, &first, Duration::ZERO).await;
        let (at_third, log) = recorder(&third, &first, Duration::ZERO).await;
        assert_eq!(at_second.ask(Introduce { to: at_third }).await, Ok(1));
        assert_eq!(*log.lock().unwrap(), [(99, 1, 10)]);
        // Also one to an actor of the receiver's own mesh, and of the sender's.
        let (own, log) = recorder(&second, &first, Duration::ZERO).await;
        assert_eq!(at_second.ask(Introduce { to: own }).await, Ok(1));
        assert_eq!(log.lock().unwrap().len(), 1);
        let log = Log::default();
        let made = log.clone();
        let near = first.spawn(move || RecorderActor { log: made.clone(), ..Default::default() });
        assert_eq!(at_second.ask(Introduce { to: near }).await, Ok(1));
        assert_eq!(log.lock().unwrap().len(), 1);
    });
}

#[test]
fn one_mesh_at_a_time_runs_with_the_key_of_a_data_directory() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let start = || {
            let local = "127.0.0.1:0".parse().unwrap();
            Mesh::builder().data_dir(dir.path()).listen(local).start()
        };
        let first = start().await.unwrap();
        let refused = start().await.unwrap_err();
        assert!(matches!(refused, StartError::Identity(KeyFileError::InUse { .. })), "{refused}");
        assert_eq!(webmesh::identity_in(dir.path()).unwrap().peer_id(), first.peer_id());
        first.shutdown().await;
        let second = start().await.unwrap();
        assert_eq!(second.peer_id(), first.peer_id(), "though the first one hasn't been dropped");
    });
}
