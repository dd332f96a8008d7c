//! Names: published here, resolved here. (Resolving elsewhere has its own tests.)

use crate::actors::{Log, Note, Plain, Probe, ProbeActor, Stop, mesh_in_place, probe_in_place};
use webmesh::prelude::*;
use webmesh::{
    Access, ActorRef, Anyone, AskError, Mesh, Only, Protocol, PublishError, RemoteActor,
    ResolveError, SecretKey, TellError, UnpublishError,
};

#[derive(Protocol, Debug)]
#[protocol(id = "test.unrelated/1", accepts())]
struct Unrelated;

async fn resolve(mesh: &Mesh, requirement: &str) -> Result<ActorRef<Probe>, ResolveError> {
    mesh.resolve("test/probe").version(requirement).await
}

#[webmesh::test]
async fn a_published_actor_is_found_by_name_and_version() {
    let (mesh, probe, _) = probe_in_place().await;
    assert_eq!(resolve(&mesh, "*").await, Err(ResolveError::Unknown));
    mesh.publish("test/probe", &probe).version("1.2.0").allow(Anyone).await.unwrap();
    for requirement in ["*", "^1", ">=1.2, <2"] {
        assert_eq!(resolve(&mesh, requirement).await.unwrap().ask(Plain { n: 1 }).await, Ok(1));
    }
    let published = vec!["1.2.0".to_string()];
    assert_eq!(resolve(&mesh, "^2").await, Err(ResolveError::NoMatchingVersion { published }));
    assert!(matches!(resolve(&mesh, "two").await, Err(ResolveError::Requirement(_))));
    let wrong: Result<ActorRef<Unrelated>, _> = mesh.resolve("test/probe").await;
    assert!(matches!(wrong, Err(ResolveError::WrongProtocol { found }) if found == "test.probe/1"));
    let malformed: Result<ActorRef<Probe>, _> = mesh.resolve("No Such Name!").await;
    assert!(matches!(malformed, Err(ResolveError::Name(_))));
}

#[webmesh::test]
async fn the_highest_version_that_meets_the_requirement_wins() {
    let (mesh, one, log) = probe_in_place().await;
    let two = mesh.spawn(ProbeActor::factory(&log));
    mesh.publish("test/probe", &one).version("1.0.0").allow(Anyone).await.unwrap();
    mesh.publish("test/probe", &two).version("2.0.0").allow(Anyone).await.unwrap();
    assert_eq!(resolve(&mesh, "*").await, resolve(&mesh, "=2.0.0").await);
    assert_eq!(resolve(&mesh, "^1").await, resolve(&mesh, "=1.0.0").await);
    assert_ne!(resolve(&mesh, "*").await, resolve(&mesh, "^1").await);
    // What comes by a name is another ref than that of its actor: it has other rights.
    assert_ne!(resolve(&mesh, "*").await.unwrap(), two);
}

#[webmesh::test]
async fn two_actors_cannot_be_the_same_compatible_version() {
    let (mesh, one, log) = probe_in_place().await;
    let two = mesh.spawn(ProbeActor::factory(&log));
    mesh.publish("test/probe", &one).version("1.0.0").allow(Anyone).await.unwrap();
    let outcome = mesh.publish("test/probe", &two).version("1.1.0").allow(Anyone).await;
    assert!(matches!(outcome, Err(PublishError::Compatible)), "{outcome:?}");
    mesh.publish("test/probe", &one).version("1.1.0").allow(Anyone).await.unwrap();
}

#[webmesh::test]
async fn an_actor_that_ended_is_no_longer_found_and_cannot_be_published() {
    let (mesh, probe, _) = probe_in_place().await;
    mesh.publish("test/probe", &probe).allow(Anyone).await.unwrap();
    probe.tell(Stop).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(resolve(&mesh, "*").await, Err(ResolveError::Unknown));
    let outcome = mesh.publish("test/probe", &probe).allow(Anyone).await;
    assert!(matches!(outcome, Err(PublishError::NotHere)), "{outcome:?}");
}

#[webmesh::test]
async fn what_one_may_not_use_looks_as_if_it_were_not_there() {
    let (mesh, probe, _) = probe_in_place().await;
    mesh.publish("test/probe", &probe).allow(Only::these([])).await.unwrap();
    assert_eq!(resolve(&mesh, "*").await, Err(ResolveError::Unknown));
    let own = mesh.peer_id();
    mesh.publish("test/probe", &probe).allow(Access::by(move |peer| peer == own)).await.unwrap();
    assert!(resolve(&mesh, "*").await.is_ok());
    mesh.publish("test/probe", &probe).allow(Access::by(|_| panic!("a rule"))).await.unwrap();
    assert_eq!(resolve(&mesh, "*").await, Err(ResolveError::Unknown));
}

#[webmesh::test]
async fn a_resolved_ref_lives_on_when_the_program_is_started_anew() {
    let key = SecretKey::generate();
    let network = webmesh::MemoryNetwork::new(1);
    let start = |port: u16| {
        let (key, network) = (SecretKey::from_bytes(key.to_bytes()), network.clone());
        async move {
            let address = std::net::SocketAddr::from(([10, 0, 0, 1], port));
            let builder = Mesh::builder().in_place().memory_network(&network).listen(address);
            builder.secret_key(key).start().await.unwrap()
        }
    };
    let first = start(4000).await;
    // In place the seed decides which ids are drawn: the successor's will be this one's.
    let _first_drawn = first.spawn(ProbeActor::factory(&Log::default()));
    let (published, private) = (
        first.spawn(ProbeActor::factory(&Log::default())),
        first.spawn(ProbeActor::factory(&Log::default())),
    );
    first.publish("test/probe", &published).version("1.0.0").allow(Anyone).await.unwrap();
    let resolved = resolve(&first, "^1").await.unwrap();
    // The actor's own ref is no more than it was, though it has been published.
    let texts = [&resolved, &published, &private].map(|one| serde_json::to_string(one).unwrap());
    first.shutdown().await;

    let second = start(4001).await;
    let successor = second.spawn(ProbeActor::factory(&Log::default()));
    second.publish("test/probe", &successor).version("1.4.0").allow(Anyone).await.unwrap();
    let bind = |text: &str| second.bind(serde_json::from_str::<ActorRef<Probe>>(text).unwrap());
    assert_eq!(bind(&texts[0]).ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(bind(&texts[1]).ask(Plain { n: 2 }).await, Err(AskError::NoSuchActor));
    assert_eq!(bind(&texts[2]).ask(Plain { n: 2 }).await, Err(AskError::NoSuchActor));
}

#[webmesh::test]
async fn an_actor_of_another_mesh_cannot_be_published() {
    let network = webmesh::MemoryNetwork::new(1);
    let (_mesh, probe, _) = probe_in_place().await;
    let builder = Mesh::builder().in_place().memory_network(&network);
    let other = builder.listen("10.0.0.2:4000".parse().unwrap()).start().await.unwrap();
    let outcome = other.publish("test/probe", &probe).allow(Anyone).await;
    assert!(matches!(outcome, Err(PublishError::NotHere)), "{outcome:?}");
    let _ = mesh_in_place().await;
}

#[webmesh::test]
async fn a_name_is_taken_back_by_version_or_as_a_whole() {
    let (mesh, probe, _) = probe_in_place().await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        mesh.publish("test/probe", &probe).version(version).allow(Anyone).await.unwrap();
    }
    let (one, two) = (resolve(&mesh, "=1.0.0").await.unwrap(), resolve(&mesh, "^2").await.unwrap());
    mesh.unpublish("test/probe").version("2.0.0").await.unwrap();
    assert_eq!(two.ask(Plain { n: 1 }).await, Err(AskError::NoSuchActor));
    let published = vec!["1.1.0".to_string(), "1.0.0".to_string()];
    assert_eq!(resolve(&mesh, "^2").await, Err(ResolveError::NoMatchingVersion { published }));
    // A compatible version is left for those of the first.
    mesh.unpublish("test/probe").version("1.0.0").await.unwrap();
    assert_eq!(one.ask(Plain { n: 2 }).await, Ok(2));
    mesh.unpublish("test/probe").await.unwrap();
    assert_eq!(one.ask(Plain { n: 3 }).await, Err(AskError::NoSuchActor));
    assert_eq!(resolve(&mesh, "*").await, Err(ResolveError::Unknown));
    for version in [None, Some("1.0.0")] {
        let unpublish = mesh.unpublish("test/probe");
        let again = match version {
            Some(version) => unpublish.version(version),
            None => unpublish,
        };
        let outcome = again.await;
        assert!(matches!(outcome, Err(UnpublishError::NotPublished { .. })), "{outcome:?}");
    }
    assert!(matches!(mesh.unpublish("No Name!").await, Err(UnpublishError::Name(_))));
    let outcome = mesh.unpublish("test/probe").version("one").await;
    assert!(matches!(outcome, Err(UnpublishError::Version(_))));
    let outcome = mesh.recheck().name("test/probe").await;
    assert!(matches!(outcome, Err(UnpublishError::NotPublished { .. })));
    // The actor is as it was, and may be published again: refs from before lead to it.
    assert_eq!(probe.ask(Plain { n: 4 }).await, Ok(4));
    mesh.publish("test/probe", &probe).version("1.7.0").allow(Anyone).await.unwrap();
    assert_eq!(one.ask(Plain { n: 5 }).await, Ok(5));
}

/// Answers as a probe does to a plain message, by another protocol.
#[derive(Protocol)]
#[protocol(id = "test.other/1", accepts(Plain))]
struct Other;

#[derive(RemoteActor)]
#[remote(serves(Other))]
struct OtherActor;

impl Actor for OtherActor {
    type Context = Context<Self>;
}

impl Handler<Plain> for OtherActor {
    type Result = u64;
    fn handle(&mut self, plain: Plain, _: &mut Context<Self>) -> u64 {
        plain.n
    }
}

#[webmesh::test]
async fn no_two_names_versions_protocols_or_rules_are_ever_one() {
    let (mesh, probe, _) = probe_in_place().await;
    let other = mesh.spawn(|| OtherActor);
    let names = ["a", "a/b", "b"];
    let versions = ["0.1.0", "0.1.1", "1.0.0-a", "1.0.0", "1.0.0+b", "1.2.3", "2.0.0"];
    // Of the second protocol, compatible ones that lie between those of the first.
    let others = ["0.1.2", "1.1.0", "2.0.0-a"];
    let all: Vec<_> = names
        .iter()
        .flat_map(|name| {
            let mine = versions.iter().map(move |version| (*name, *version, true));
            mine.chain(others.iter().map(move |version| (*name, *version, false)))
        })
        .collect();
    let publish = async |(name, version, is_probe): (&str, &str, bool), rule: Access| {
        if is_probe {
            mesh.publish(name, &probe).version(version).allow(rule).await.unwrap();
        } else {
            mesh.publish(name, &other).version(version).allow(rule).await.unwrap();
        }
    };
    let mut refs = Vec::new();
    for &one in &all {
        // For now it is the only one of its name that lets anybody in.
        publish(one, Anyone.into()).await;
        let (name, version, is_probe) = one;
        let exact = format!("={}", version.split('+').next().unwrap());
        refs.push(if is_probe {
            Ok(mesh.resolve::<Probe>(name).version(&exact).await.unwrap())
        } else {
            Err(mesh.resolve::<Other>(name).version(&exact).await.unwrap())
        });
        publish(one, Only::default().into()).await;
    }
    let open = async || {
        let mut open = Vec::new();
        for (at, one) in refs.iter().enumerate() {
            let answer = match one {
                Ok(probe) => probe.ask(Plain { n: 1 }).await,
                Err(other) => other.ask(Plain { n: 1 }).await,
            };
            if answer.is_ok() {
                open.push(at);
            }
        }
        open
    };
    assert_eq!(open().await, Vec::<usize>::new());
    for (at, &one) in all.iter().enumerate() {
        publish(one, Anyone.into()).await;
        assert_eq!(open().await, [at], "{one:?}");
        publish(one, Only::default().into()).await;
    }
}

#[webmesh::test]
async fn a_name_that_was_taken_back_is_free_for_another_actor_and_its_end_leaves_that_alone() {
    let (mesh, one, log) = probe_in_place().await;
    let other_log = Log::default();
    let two = mesh.spawn(ProbeActor::factory(&other_log));
    mesh.publish("test/probe", &one).allow(Anyone).await.unwrap();
    let resolved = resolve(&mesh, "*").await.unwrap();
    mesh.unpublish("test/probe").await.unwrap();
    mesh.publish("test/probe", &two).allow(Anyone).await.unwrap();
    assert_eq!(resolved.ask(Plain { n: 1 }).await, Ok(1));
    one.tell(Stop).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(resolve(&mesh, "*").await.unwrap().ask(Plain { n: 2 }).await, Ok(2));
    assert_eq!(resolved.ask(Plain { n: 3 }).await, Ok(3));
    assert_eq!((log.take(), other_log.take().len()), (vec![], 3));
}

#[webmesh::test]
async fn the_rule_holds_for_refs_that_the_mesh_itself_resolved_and_for_no_others() {
    let (mesh, probe, _) = probe_in_place().await;
    let own = mesh.peer_id();
    mesh.publish("test/probe", &probe).allow(Only::these([own])).await.unwrap();
    let resolved = resolve(&mesh, "*").await.unwrap();
    assert_eq!(resolved.ask(Plain { n: 1 }).await, Ok(1));
    mesh.publish("test/probe", &probe).allow(Only::these([])).await.unwrap();
    assert_eq!(resolved.ask(Plain { n: 2 }).await, Err(AskError::NoSuchActor));
    assert_eq!(resolved.tell(Note { n: 2 }).await, Err(TellError::NoSuchActor));
    assert_eq!(resolved.flush().await, Err(TellError::NoSuchActor));
    assert!(resolved.try_tell(Note { n: 2 }).is_err());
    assert_eq!(probe.ask(Plain { n: 3 }).await, Ok(3));
    // Also one that was decoded, from before anything was published.
    let text = serde_json::to_string(&resolved).unwrap();
    let bound: ActorRef<Probe> = mesh.bind(serde_json::from_str(&text).unwrap());
    assert_eq!(bound, resolved);
    assert_eq!(bound.ask(Plain { n: 4 }).await, Err(AskError::NoSuchActor));
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let rule = open.clone();
    let rule = Access::by(move |_| rule.load(std::sync::atomic::Ordering::Relaxed));
    mesh.publish("test/probe", &probe).allow(rule).await.unwrap();
    for is_open in [true, false, true] {
        open.store(is_open, std::sync::atomic::Ordering::Relaxed);
        mesh.recheck().await.unwrap();
        let expected = if is_open { Ok(5) } else { Err(AskError::NoSuchActor) };
        assert_eq!(resolved.ask(Plain { n: 5 }).await, expected);
        assert_eq!(bound.ask(Plain { n: 5 }).await, expected);
    }
}
