//! Watching actors of other meshes.

use crate::common::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{ActorRef, Down, DownReason, Event, Mesh, SecretKey, WatchEvent};

#[derive(Debug, PartialEq, Clone, Copy)]
enum Heard {
    Down(DownReason),
    Event(Event),
}

type Diary = Arc<Mutex<Vec<Heard>>>;

#[derive(webmesh::Protocol)]
#[protocol(id = "test.watcher/1", accepts(Note))]
struct Watching;

#[derive(webmesh::RemoteActor)]
#[remote(serves(Watching))]
struct Watcher {
    of: ActorRef<Recorder>,
    diary: Diary,
}

impl Actor for Watcher {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        webmesh::watch_events(ctx, &self.of);
    }
}

impl Handler<Note> for Watcher {
    type Result = u64;
    fn handle(&mut self, _: Note, _: &mut Context<Self>) -> u64 {
        0
    }
}

impl Handler<Down> for Watcher {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.diary.lock().unwrap().push(Heard::Down(down.reason));
    }
}

impl Handler<WatchEvent> for Watcher {
    type Result = ();
    fn handle(&mut self, event: WatchEvent, _: &mut Context<Self>) {
        self.diary.lock().unwrap().push(Heard::Event(event.event));
    }
}

async fn watcher(mesh: &Mesh, of: &ActorRef<Recorder>) -> Diary {
    let diary = Diary::default();
    let (of, made) = (of.clone(), diary.clone());
    let watcher = mesh.spawn(move || Watcher { of: of.clone(), diary: made.clone() });
    watcher.ask(note(0, 0, 0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    diary
}

async fn until(diary: &Diary, expected: &[Heard]) {
    for _ in 0..500 {
        if diary.lock().unwrap().len() >= expected.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nothing follows.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(*diary.lock().unwrap(), expected);
}

#[test]
fn restarts_and_the_end_of_a_far_actor_are_told() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let diary = watcher(&guest, &far).await;
        let _ = far.ask(Do::Panic).await;
        let _ = far.ask(Do::Stop).await;
        until(
            &diary,
            &[Heard::Event(Event::Restarted { incarnation: 1 }), Heard::Down(DownReason::Stopped)],
        )
        .await;
        // Who comes later learns that there's nobody.
        let late = watcher(&guest, &far).await;
        for _ in 0..100 {
            if !late.lock().unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(matches!(
            late.lock().unwrap()[..],
            [Heard::Down(DownReason::NoSuchActor | DownReason::Stopped)]
        ));
    });
}

#[test]
fn a_peer_that_goes_ends_the_watch_once() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let diary = watcher(&guest, &far).await;
        host.shutdown().await;
        for _ in 0..300 {
            if !diary.lock().unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Its actors are stopped first, which may or may not be heard before it is gone.
        let heard = diary.lock().unwrap().clone();
        assert!(
            matches!(heard[..], [Heard::Down(DownReason::Stopped | DownReason::PeerGone)]),
            "{heard:?}"
        );
    });
}

#[test]
fn a_watch_on_an_actor_of_an_earlier_process_is_stale() {
    run(async {
        let key = SecretKey::generate();
        let guest = mesh().await;
        let host = Mesh::builder()
            .secret_key(SecretKey::from_bytes(key.to_bytes()))
            .listen("127.0.0.1:0".parse().unwrap())
            .start()
            .await
            .unwrap();
        let address = host.listen_addresses()[0];
        let near = host.spawn(RecorderActor::default);
        // A ref that isn't published, as it would come inside a message.
        let private: ActorRef<Recorder> =
            serde_json::from_str(&serde_json::to_string(&near).unwrap()).unwrap();
        let private = guest.bind(private);
        assert_eq!(private.ask(note(1, 1, 0)).await, Ok(1));
        host.shutdown().await;
        drop((host, near));
        let mut again = None;
        while again.is_none() {
            let key = SecretKey::from_bytes(key.to_bytes());
            again = Mesh::builder().secret_key(key).listen(address).start().await.ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let diary = watcher(&guest, &private).await;
        until(&diary, &[Heard::Down(DownReason::Stale)]).await;
    });
}

#[test]
fn a_mesh_whose_key_another_one_uses_is_told_so_and_not_that_its_peer_restarted() {
    run(async {
        let key = SecretKey::generate();
        let guest = async || {
            let key = SecretKey::from_bytes(key.to_bytes());
            let local = "127.0.0.1:0".parse().unwrap();
            Mesh::builder().secret_key(key).listen(local).start().await.unwrap()
        };
        let (host, first) = (mesh().await, guest().await);
        let (far, _) = recorder(&host, &first, Duration::ZERO).await;
        let diary = watcher(&first, &far).await;
        assert_eq!(far.ask(note(1, 1, 0)).await, Ok(1));
        let second = guest().await;
        second.connect(&host.peer_ref()).await.unwrap();
        until(&diary, &[Heard::Down(DownReason::KeyInUse)]).await;
    });
}
