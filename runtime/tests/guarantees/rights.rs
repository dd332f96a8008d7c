//! Rules of names: whose they are, and what becomes of those who lose a right.

use crate::actors::{Atomic, InFuture, Log, Note, Plain, Probe, ProbeActor};
use crate::world::{Introduce, far_desk, host, lossy_pair, seconds, watcher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use webmesh::{
    Access, ActorRef, Anyone, AskError, MemoryNetwork, Mesh, Only, ResolveError, TellError,
};

async fn resolve(from: &Mesh, at: &Mesh, version: &str) -> Result<ActorRef<Probe>, ResolveError> {
    from.resolve("probe").at(&at.peer_ref()).version(version).await
}

/// The same ref, as another mesh gets it inside a message.
fn passed(to: &Mesh, reference: &ActorRef<Probe>) -> ActorRef<Probe> {
    to.bind(serde_json::from_str(&serde_json::to_string(reference).unwrap()).unwrap())
}

const GONE: Result<u64, AskError> = Err(AskError::NoSuchActor);

#[webmesh::test]
async fn each_version_of_a_published_actor_has_a_rule_of_its_own() {
    let network = MemoryNetwork::new(3);
    let (host, friend, stranger) =
        (host(&network, 1).await, host(&network, 2).await, host(&network, 3).await);
    let probe = host.spawn(ProbeActor::factory(&Log::default()));
    let friends = || Only::these([friend.peer_id()]);
    let publish = |version| host.publish("probe", &probe).version(version);
    publish("1.0.0").allow(Anyone).await.unwrap();
    publish("1.1.0").allow(friends()).await.unwrap();
    let (at_first, at_second) = (
        resolve(&stranger, &host, "^1").await.unwrap(),
        resolve(&friend, &host, "^1").await.unwrap(),
    );
    assert_eq!(at_first.ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(at_second.ask(Plain { n: 2 }).await, Ok(2));
    // Neither rule came in place of the other's, whichever was the last.
    assert_eq!(passed(&stranger, &at_second).ask(Plain { n: 3 }).await, GONE);
    publish("1.0.0").allow(Anyone).await.unwrap();
    assert_eq!(passed(&stranger, &at_second).ask(Plain { n: 4 }).await, GONE);
    assert_eq!(passed(&friend, &at_first).ask(Plain { n: 5 }).await, Ok(5));
    // Without its own version a ref falls under the rule of the one that is left.
    host.unpublish("probe").version("1.0.0").await.unwrap();
    assert_eq!(at_first.ask(Plain { n: 6 }).await, GONE);
    assert_eq!(passed(&friend, &at_first).ask(Plain { n: 7 }).await, Ok(7));
}

#[webmesh::test]
async fn a_resolved_ref_falls_under_the_present_rule_and_the_ref_of_the_actor_under_none() {
    let (_network, guest, host) = lossy_pair().await;
    let probe = host.spawn(ProbeActor::factory(&Log::default()));
    let before = passed(&guest, &probe);
    host.publish("probe", &probe).allow(Anyone).await.unwrap();
    // Handed out while the name is everybody's: it is a right of its own all the same.
    let handed = passed(&guest, &probe);
    let resolved = resolve(&guest, &host, "*").await.unwrap();
    for n in 0..3 {
        host.publish("probe", &probe).allow(Anyone).await.unwrap();
        assert_eq!(resolved.ask(Plain { n }).await, Ok(n));
        if n == 1 {
            host.unpublish("probe").await.unwrap();
        } else {
            host.publish("probe", &probe).allow(Only::default()).await.unwrap();
        }
        assert_eq!(resolved.ask(Plain { n }).await, GONE);
        assert_eq!(resolve(&guest, &host, "*").await, Err(ResolveError::Unknown));
        assert_eq!(before.ask(Plain { n }).await, Ok(n));
        assert_eq!(handed.ask(Plain { n }).await, Ok(n));
    }
}

#[webmesh::test]
async fn whoever_loses_the_right_is_told_and_nothing_more_of_it_is_handled() {
    let (_network, guest, host) = lossy_pair().await;
    let log = Log::default();
    let probe = host.spawn(ProbeActor::factory(&log));
    host.publish("probe", &probe).allow(Anyone).await.unwrap();
    let far = resolve(&guest, &host, "*").await.unwrap();
    let heard = watcher(&guest, &far).await;
    far.tell(Note { n: 1 }).await.unwrap();
    far.flush().await.unwrap();
    let long = tokio::task::spawn_local(far.ask(InFuture { n: 2, ms: 25_000 }));
    let busy = tokio::task::spawn_local(far.ask(Atomic { n: 3, ms: 5_000 }));
    seconds(1).await;
    let waiting = tokio::task::spawn_local(far.ask(Plain { n: 4 }));
    for n in 5..10 {
        far.tell(Note { n }).await.unwrap();
    }
    seconds(1).await;
    assert_eq!(log.take(), ["note 1", "begin 3"]);
    host.unpublish("probe").await.unwrap();
    for ask in [long, busy, waiting] {
        assert_eq!(ask.await.unwrap(), GONE);
    }
    seconds(1).await;
    // That tells are lost comes by another stream, and may come too late for a watch that has ended.
    assert_eq!(heard.take().last().map(String::as_str), Some("down Revoked"));
    assert_eq!(far.tell(Note { n: 10 }).await, Err(TellError::LostTells { at_most: 5 }));
    assert_eq!(far.tell(Note { n: 11 }).await, Err(TellError::NoSuchActor));
    let again = watcher(&guest, &far).await;
    assert_eq!(again.take(), ["down NoSuchActor"]);
    seconds(10).await;
    assert_eq!(log.take(), ["end 3"]);
    // The link is as good as ever, and so is the ref when the right is back.
    host.publish("probe", &probe).allow(Anyone).await.unwrap();
    assert_eq!(far.ask(Plain { n: 12 }).await, Ok(12));
    seconds(100).await;
    assert!(heard.take().is_empty() && again.take().is_empty());
}

#[webmesh::test]
async fn only_those_are_affected_whom_the_rule_concerns() {
    let network = MemoryNetwork::new(3);
    let (host, friend, stranger) =
        (host(&network, 1).await, host(&network, 2).await, host(&network, 3).await);
    let probe = host.spawn(ProbeActor::factory(&Log::default()));
    host.publish("probe", &probe).allow(Anyone).await.unwrap();
    host.publish("other", &probe).allow(Anyone).await.unwrap();
    let here = resolve(&friend, &host, "*").await.unwrap();
    let there = resolve(&stranger, &host, "*").await.unwrap();
    let other: ActorRef<Probe> = stranger.resolve("other").at(&host.peer_ref()).await.unwrap();
    let (kept, lost) = (watcher(&friend, &here).await, watcher(&stranger, &there).await);
    let near = host.resolve::<Probe>("probe").await.unwrap();
    let (near_watch, own_watch) = (watcher(&host, &near).await, watcher(&host, &probe).await);
    let pending = tokio::task::spawn_local(here.ask(InFuture { n: 1, ms: 3_000 }));
    let elsewhere = tokio::task::spawn_local(other.ask(InFuture { n: 2, ms: 3_000 }));
    seconds(1).await;
    host.publish("probe", &probe).allow(Only::these([friend.peer_id()])).await.unwrap();
    assert_eq!(there.ask(Plain { n: 3 }).await, GONE);
    assert_eq!(pending.await.unwrap(), Ok(1));
    assert_eq!(elsewhere.await.unwrap(), Ok(2));
    seconds(1).await;
    assert_eq!(lost.take(), ["down Revoked"]);
    // The mesh itself is one of those whom the rule refuses.
    assert_eq!(near.ask(Plain { n: 4 }).await, GONE);
    assert_eq!(near_watch.take(), ["down Revoked"]);
    assert!(kept.take().is_empty() && own_watch.take().is_empty());
}

#[webmesh::test]
async fn a_rule_in_code_is_asked_again_when_it_is_said_that_it_has_changed() {
    let (_network, guest, host) = lossy_pair().await;
    let probe = host.spawn(ProbeActor::factory(&Log::default()));
    let open = Arc::new(AtomicBool::new(true));
    let rule = open.clone();
    let rule = Access::by(move |_| rule.load(Ordering::Relaxed));
    host.publish("probe", &probe).allow(rule).await.unwrap();
    let far = resolve(&guest, &host, "*").await.unwrap();
    let heard = watcher(&guest, &far).await;
    assert_eq!(far.ask(Plain { n: 1 }).await, Ok(1));
    host.recheck().await.unwrap();
    assert_eq!(far.ask(Plain { n: 2 }).await, Ok(2));
    open.store(false, Ordering::Relaxed);
    host.recheck().name("probe").await.unwrap();
    assert_eq!(far.ask(Plain { n: 3 }).await, GONE);
    seconds(1).await;
    assert_eq!(heard.take(), ["down Revoked"]);
}

#[webmesh::test]
async fn a_resolved_ref_that_is_passed_on_stays_a_resolved_one() {
    let network = MemoryNetwork::new(3);
    let (host, friend, stranger) =
        (host(&network, 1).await, host(&network, 2).await, host(&network, 3).await);
    let probe = host.spawn(ProbeActor::factory(&Log::default()));
    let friends = Only::these([friend.peer_id(), host.peer_id()]);
    host.publish("probe", &probe).allow(friends).await.unwrap();
    let (at_friend, _) = far_desk(&friend, &stranger).await;
    let (at_stranger, _) = far_desk(&stranger, &friend).await;
    let (at_host, _) = far_desk(&host, &friend).await;
    // Resolved by the friend, and by the host itself: at the stranger the rule is asked for the stranger.
    let resolved = resolve(&friend, &host, "*").await.unwrap();
    let near = host.resolve::<Probe>("probe").await.unwrap();
    for to in [&resolved, &passed(&friend, &near)] {
        let introduce = Introduce { to: to.clone(), n: 1 };
        assert!(at_stranger.ask(introduce).await.unwrap().is_none());
    }
    // Back at the friend it works, and at home it is the name's as well.
    let (_, back) =
        at_friend.ask(Introduce { to: passed(&stranger, &resolved), n: 2 }).await.unwrap().unwrap();
    assert_eq!(passed(&friend, &back).ask(Plain { n: 3 }).await, Ok(3));
    assert!(at_host.ask(Introduce { to: resolved.clone(), n: 4 }).await.unwrap().is_some());
    host.publish("probe", &probe).allow(Only::these([friend.peer_id()])).await.unwrap();
    assert!(at_host.ask(Introduce { to: resolved.clone(), n: 5 }).await.unwrap().is_none());
    assert_eq!(resolved.ask(Plain { n: 6 }).await, Ok(6));
    // The actor's own ref goes everywhere.
    let own = passed(&friend, &probe);
    assert!(at_stranger.ask(Introduce { to: own.clone(), n: 7 }).await.unwrap().is_some());
    assert!(at_host.ask(Introduce { to: own, n: 8 }).await.unwrap().is_some());
}

#[webmesh::test]
async fn after_a_restart_a_resolved_ref_falls_under_the_rule_of_what_is_published_then() {
    let network = MemoryNetwork::new(3);
    let (friend, stranger) = (host(&network, 2).await, host(&network, 3).await);
    let old = host(&network, 1).await;
    let probe = old.spawn(ProbeActor::factory(&Log::default()));
    old.publish("probe", &probe).version("1.0.0").allow(Anyone).await.unwrap();
    let (here, there) =
        (resolve(&friend, &old, "*").await.unwrap(), resolve(&stranger, &old, "*").await.unwrap());
    assert_eq!((here.ask(Plain { n: 1 }).await, there.ask(Plain { n: 1 }).await), (Ok(1), Ok(1)));
    old.shutdown().await;
    drop((old, probe));
    let new = host(&network, 1).await;
    let probe = new.spawn(ProbeActor::factory(&Log::default()));
    let friends = Only::these([friend.peer_id()]);
    new.publish("probe", &probe).version("1.3.0").allow(friends).await.unwrap();
    assert_eq!(here.ask(Plain { n: 2 }).await, Ok(2));
    assert_eq!(there.ask(Plain { n: 2 }).await, GONE);
}
