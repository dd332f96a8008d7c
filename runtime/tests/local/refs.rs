//! Refs as values: inside messages, in files, in logs.

use crate::actors::{Note, Plain, Probe, mesh_in_place, probe_in_place};
use std::collections::HashSet;
use webmesh::{ActorRef, AskError, Mesh, Protocol, TellError};

#[derive(Protocol, Debug)]
#[protocol(id = "test.other/1", accepts(Note))]
struct Other;

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut encoder = webmesh::payload::Encoder::new(1 << 20);
    encoder.encode(value).unwrap();
    encoder.bytes().to_vec()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    webmesh::payload::Payload { bytes, bodies: &[] }.decode().map_err(|error| error.to_string())
}

#[webmesh::test]
async fn a_ref_from_a_file_works_once_it_is_bound() {
    let (mesh, probe, _) = probe_in_place().await;
    let unbound: ActorRef<Probe> = decode(&encode(&probe)).unwrap();
    assert_eq!(unbound, probe);
    assert_eq!(unbound.ask(Plain { n: 1 }).await, Err(AskError::Unbound));
    assert_eq!(unbound.tell(Note { n: 1 }).await, Err(TellError::Unbound));
    assert_eq!(unbound.flush().await, Err(TellError::Unbound));
    assert_eq!(mesh.bind(unbound).ask(Plain { n: 1 }).await, Ok(1));
}

#[webmesh::test]
async fn a_ref_survives_text_formats_too() {
    let (mesh, probe, _) = probe_in_place().await;
    let text = serde_json::to_string(&probe).unwrap();
    let back: ActorRef<Probe> = serde_json::from_str(&text).unwrap();
    assert_eq!(mesh.bind(back).ask(Plain { n: 1 }).await, Ok(1));
}

#[webmesh::test]
async fn a_ref_to_another_protocol_does_not_decode() {
    let (_mesh, probe, _) = probe_in_place().await;
    let error = decode::<ActorRef<Other>>(&encode(&probe)).unwrap_err();
    assert!(error.contains("test.probe/1") && error.contains("test.other/1"), "{error}");
}

#[webmesh::test]
async fn a_ref_to_an_actor_that_is_no_more_says_so() {
    let (mesh, probe, _) = probe_in_place().await;
    let bytes = encode(&probe);
    probe.tell(crate::actors::Stop).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(
        probe.ask(Plain { n: 1 }).await,
        Err(AskError::Stopped),
        "an old ref knows how it ended"
    );
    let later = mesh.bind(decode::<ActorRef<Probe>>(&bytes).unwrap());
    assert_eq!(later.ask(Plain { n: 1 }).await, Err(AskError::NoSuchActor));
    assert_eq!(later.tell(Note { n: 1 }).await, Err(TellError::NoSuchActor));
}

#[webmesh::test]
async fn debug_does_not_give_away_what_would_let_one_call() {
    let (_mesh, probe, _) = probe_in_place().await;
    let shown = format!("{probe:?}");
    assert!(shown.contains("test.probe/1") && shown.contains(&probe.peer().to_string()), "{shown}");
    let json = serde_json::to_value(&probe).unwrap();
    let object: Vec<u8> = serde_json::from_value(json["object"].clone()).unwrap();
    assert_eq!(object.len(), 16);
    let hex: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.contains(&hex) && !shown.contains(&format!("{object:?}")), "{shown}");
}

#[webmesh::test]
async fn refs_compare_by_what_they_name() {
    let (mesh, one, log) = probe_in_place().await;
    let two = mesh.spawn(crate::actors::ProbeActor::factory(&log));
    assert_ne!(one, two);
    let set = HashSet::from([one.clone(), two.clone(), one.clone(), mesh.bind(two.clone())]);
    assert_eq!(set.len(), 2);
}

#[webmesh::test]
async fn a_ref_outlives_its_mesh_without_harm() {
    let (mesh, probe, _) = probe_in_place().await;
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    mesh.shutdown().await;
    drop::<Mesh>(mesh);
    assert_eq!(probe.ask(Plain { n: 2 }).await, Err(AskError::Stopped));
    assert!(serde_json::to_string(&probe).is_err());
    let _ = format!("{probe:?}");
    let other = mesh_in_place().await;
    assert_eq!(other.bind(probe).ask(Plain { n: 3 }).await, Err(AskError::Stopped));
}
