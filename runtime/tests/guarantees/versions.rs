//! Two programs that understand a protocol differently.

use crate::actors::{Log, Note, Plain, Probe, ProbeActor};
use crate::world::{Desk, far_desk, far_probe, lossy_pair, seconds, watcher};
use serde::{Deserialize, Serialize};
use webmesh::{ActorRef, Anyone, AskError, Message, Protocol, ResolveError, TellError};

/// Known to the newer program alone.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.newer", reply = u64)]
struct Newer;

/// What another program takes a note for.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.plain", reply = u64)]
struct OtherPlain {
    title: String,
}

/// As another program reads the answer.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.who", reply = String)]
struct OtherWho;

#[derive(Protocol)]
#[protocol(id = "test.probe/1", accepts(OtherPlain, OtherWho, Newer))]
struct OtherProbe;

#[derive(Protocol)]
#[protocol(id = "test.stranger/1", accepts(Newer))]
struct Stranger;

#[webmesh::test]
async fn unknown_messages_bad_payloads_and_bad_replies_are_told_apart_and_the_lane_goes_on() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 10).await;
    let other: ActorRef<OtherProbe> = guest.resolve("probe").at(&host.peer_ref()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(other.ask(Newer).await, Err(AskError::UnknownMessage));
        let bad = other.ask(OtherPlain { title: "x".repeat(1000) }).await;
        assert!(matches!(&bad, Err(AskError::BadPayload(why)) if why.len() <= 200), "{bad:?}");
        let bad = other.ask(OtherWho).await;
        assert!(matches!(&bad, Err(AskError::BadReply(_))), "{bad:?}");
        assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    }
    assert_eq!(log.take(), ["plain 1", "plain 1"]);
}

#[webmesh::test]
async fn a_tell_that_the_receiver_cannot_use_is_told_as_lost() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 10).await;
    let heard = watcher(&guest, &probe).await;
    let other: ActorRef<OtherProbe> = guest.resolve("probe").at(&host.peer_ref()).await.unwrap();
    let (first, second) = (other.tell(Newer), other.tell(OtherPlain { title: "x".into() }));
    first.await.unwrap();
    second.await.unwrap();
    seconds(1).await;
    assert_eq!(other.tell(Newer).await, Err(TellError::LostTells { at_most: 2 }));
    // Told once; and the one that told was not sent.
    other.flush().await.unwrap();
    probe.tell(Note { n: 1 }).await.unwrap();
    probe.flush().await.unwrap();
    assert_eq!(log.take(), ["note 1"]);
    assert!(heard.take().iter().any(|line| line.starts_with("lost")));
}

#[webmesh::test]
async fn another_protocol_is_refused_whether_by_name_or_by_ref() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, _log) = far_probe(&host, &guest, 10).await;
    let stranger: Result<ActorRef<Stranger>, _> = guest.resolve("probe").at(&host.peer_ref()).await;
    let found = "test.probe/1".to_string();
    assert_eq!(stranger.err(), Some(ResolveError::WrongProtocol { found }));
    // A ref whose text says another protocol than its object serves.
    let lie = serde_json::to_string(&probe).unwrap().replace("test.probe/1", "test.stranger/1");
    let stranger: ActorRef<Stranger> = guest.bind(serde_json::from_str(&lie).unwrap());
    assert_eq!(stranger.ask(Newer).await, Err(AskError::WrongProtocol));
}

#[webmesh::test]
async fn streams_are_not_yet_supported_near_and_far() {
    let (_network, guest, host) = lossy_pair().await;
    let (desk, log) = far_desk(&host, &guest).await;
    let near = host.resolve::<Desk>("desk").await.unwrap();
    assert_eq!(desk.stream(Note { n: 1 }).map(|_| ()), Err(AskError::Unsupported));
    assert_eq!(near.stream(Note { n: 1 }).map(|_| ()), Err(AskError::Unsupported));
    assert!(log.take().is_empty());
}

#[webmesh::test]
async fn whoever_the_rule_refuses_sees_nothing_and_a_ref_handed_out_is_a_right_of_its_own() {
    let (_network, guest, host) = lossy_pair().await;
    let log = Log::default();
    let probe = host.spawn(ProbeActor::factory(&log));
    host.publish("probe", &probe).allow(Anyone).await.unwrap();
    let far: ActorRef<Probe> = guest.resolve("probe").at(&host.peer_ref()).await.unwrap();
    let only_itself = webmesh::Only::these([host.peer_id()]);
    let secret = host.spawn(ProbeActor::factory(&log));
    host.publish("secret", &secret).allow(only_itself).await.unwrap();
    let resolved = guest.resolve::<Probe>("secret").at(&host.peer_ref()).await;
    assert_eq!(resolved.err(), Some(ResolveError::Unknown));
    // Its own ref, deliberately handed out, is a right of its own.
    let handed: ActorRef<Probe> =
        guest.bind(serde_json::from_str(&serde_json::to_string(&secret).unwrap()).unwrap());
    assert_eq!(handed.ask(Plain { n: 1 }).await, Ok(1));
    // The rule is asked when a lane opens.
    assert_eq!(far.ask(Plain { n: 2 }).await, Ok(2));
}
