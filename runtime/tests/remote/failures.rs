//! Whatever goes wrong, the sender learns of it by its type.

use crate::common::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use webmesh::{
    ActorRef, AskError, Bytes, Mesh, Message, Only, Protocol, ResolveError, TellError, TrySendError,
};

/// What a newer program knows of the same protocol.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.newer", reply = u64)]
struct Newer;

/// A note, as another program understands it.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.note", reply = u64)]
struct OtherNote {
    title: String,
}

#[derive(Protocol)]
#[protocol(id = "test.recorder/1", accepts(OtherNote, Newer))]
struct OtherRecorder;

#[derive(Protocol)]
#[protocol(id = "test.stranger/1", accepts(Newer))]
struct Stranger;

#[test]
fn unknown_ids_bad_payloads_and_other_protocols_are_told_apart() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let near = host.spawn(RecorderActor::default);
        host.publish("it", &near).allow(webmesh::Anyone).await.unwrap();
        let at = host.peer_ref();
        let far: ActorRef<OtherRecorder> = guest.resolve("it").at(&at).await.unwrap();
        assert_eq!(far.ask(Newer).await, Err(AskError::UnknownMessage));
        let bad = far.ask(OtherNote { title: "x".into() }).await;
        assert!(matches!(bad, Err(AskError::BadPayload(ref why)) if why.len() <= 200), "{bad:?}");
        // The lane goes on.
        assert_eq!(far.ask(Newer).await, Err(AskError::UnknownMessage));
        // A tell that went wrong is told at the next use.
        far.tell(Newer).await.unwrap();
        assert_eq!(far.flush().await, Err(TellError::LostTells { at_most: 1 }));
        far.tell(Newer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(far.tell(Newer).await, Err(TellError::LostTells { at_most: 1 }));
        let stranger: Result<ActorRef<Stranger>, _> = guest.resolve("it").at(&at).await;
        assert_eq!(
            stranger.err(),
            Some(ResolveError::WrongProtocol { found: "test.recorder/1".into() })
        );
        let nobody: Result<ActorRef<Recorder>, _> = guest.resolve("nobody").at(&at).await;
        assert_eq!(nobody.err(), Some(ResolveError::Unknown));
        let newer: Result<ActorRef<Recorder>, _> = guest.resolve("it").at(&at).version("^2").await;
        assert!(
            matches!(newer, Err(ResolveError::NoMatchingVersion { ref published }) if published == &["1.0.0"])
        );
    });
}

#[test]
fn whoever_may_not_sees_nothing() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let near = host.spawn(RecorderActor::default);
        host.publish("it", &near).allow(Only::these([host.peer_id()])).await.unwrap();
        let far: Result<ActorRef<Recorder>, _> = guest.resolve("it").at(&host.peer_ref()).await;
        assert_eq!(far.err(), Some(ResolveError::Unknown));
    });
}

#[test]
fn an_actor_that_stopped_says_so_and_later_looks_unknown() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        far.ask(note(1, 1, 0)).await.unwrap();
        let stopped = far.ask(Do::Stop).await;
        assert!(matches!(stopped, Ok(0) | Err(AskError::Stopped)), "{stopped:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let after = far.ask(note(1, 2, 0)).await;
        assert!(matches!(after, Err(AskError::Stopped | AskError::NoSuchActor)), "{after:?}");
        let told = far.tell(note(1, 3, 0)).await;
        let flushed = far.flush().await;
        assert!(told.is_err() || flushed.is_err() || far.tell(note(1, 4, 0)).await.is_err());
    });
}

#[test]
fn a_panicking_actor_keeps_its_ref_and_its_queue() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, log) = recorder(&host, &guest, Duration::ZERO).await;
        // A third panic would have the guest refused.
        for number in 0..200 {
            if number % 100 == 50 {
                assert_eq!(far.ask(Do::Panic).await, Err(AskError::Panicked));
            }
            far.tell(note(1, number, 10)).await.unwrap();
        }
        far.flush().await.unwrap();
        assert_eq!(log.lock().unwrap().len(), 200);
    });
}

#[test]
fn oversize_is_refused_on_either_side() {
    run(async {
        let host = Mesh::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .body_max(1 << 20)
            .start()
            .await
            .unwrap();
        let guest = mesh().await;
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        // The host's limit is known only once it accepted the lane, which comes too late for the first message.
        let refused = far.ask(note(1, 1, 3 << 20)).await;
        assert_eq!(refused, Err(AskError::TooLarge { limit: 1 << 20 }));
        let refused = far.ask(Echo { body: vec![0; 2 << 20].into() }).await;
        assert_eq!(refused, Err(AskError::TooLarge { limit: 1 << 20 }));
        let told = far.tell(note(1, 1, 65 << 20)).await;
        assert_eq!(told, Err(TellError::TooLarge { limit: 64 << 20 }));
        assert_eq!(
            far.ask(Echo { body: Bytes::from(vec![7; 900_000]) }).await.map(|body| body.len()),
            Ok(900_000)
        );
    });
}

#[test]
fn time_outs_and_dropped_responders_are_told_apart() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let late = far.ask(Do::Sleep(2000)).timeout(Duration::from_millis(100)).await;
        assert_eq!(late, Err(AskError::Timeout));
        assert_eq!(far.ask(Do::Sleep(10)).await, Ok(10));
        let never = far.ask(Do::NeverAnswer).timeout(Duration::from_millis(100)).await;
        assert_eq!(never, Err(AskError::Timeout));
        host.shutdown().await;
        assert!(far.ask(note(1, 1, 0)).timeout(Duration::from_secs(8)).await.is_err());
    });
}

#[test]
fn a_full_inlet_fills_the_lane_and_then_refuses_without_overtaking() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, log) = recorder(&host, &guest, Duration::from_millis(1)).await;
        far.ask(note(1, 0, 0)).await.unwrap();
        let mut sent = 1;
        let full = loop {
            match far.try_tell(note(1, sent, 300)) {
                Ok(()) => sent += 1,
                Err(TrySendError::Full(note)) => break note,
                Err(error) => panic!("{error:?}"),
            }
            assert!(sent < 50_000, "unbounded");
        };
        assert_eq!(full.number, sent);
        far.tell(full).await.unwrap();
        far.flush().await.unwrap();
        let log = log.lock().unwrap();
        assert!(log.iter().enumerate().all(|(at, entry)| entry.1 == at as u64));
        assert_eq!(log.len() as u64, sent + 1);
    });
}

#[test]
fn a_withdrawn_tell_is_not_sent() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, log) = recorder(&host, &guest, Duration::from_millis(1)).await;
        far.ask(note(1, 0, 0)).await.unwrap();
        let mut number = 1;
        while far.try_tell(note(1, number, 300)).is_ok() {
            number += 1;
        }
        drop(far.tell(note(2, 0, 300)));
        far.tell(note(3, 0, 0)).await.unwrap();
        far.flush().await.unwrap();
        let log = log.lock().unwrap();
        assert!(log.iter().all(|entry| entry.0 != 2));
        assert_eq!(log.last().map(|entry| entry.0), Some(3));
    });
}

#[test]
fn a_peer_that_shuts_down_ends_what_is_pending() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        far.ask(note(1, 1, 0)).await.unwrap();
        let asking = tokio::spawn({
            let far = far.clone();
            async move { far.ask(Do::NeverAnswer).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        host.shutdown().await;
        let ended = tokio::time::timeout(Duration::from_secs(6), asking).await.unwrap().unwrap();
        assert!(
            matches!(ended, Err(AskError::PeerGone | AskError::Stopped | AskError::NoReply)),
            "{ended:?}"
        );
    });
}
