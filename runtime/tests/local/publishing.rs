//! Names: published here, resolved here. (Resolving elsewhere has its own tests.)

use crate::actors::{Log, Plain, Probe, ProbeActor, Stop, mesh_in_place, probe_in_place};
use webmesh::{
    Access, ActorRef, Anyone, AskError, Mesh, Only, Protocol, PublishError, ResolveError, SecretKey,
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
    assert_eq!(resolve(&mesh, "*").await.unwrap(), two);
    assert_eq!(resolve(&mesh, "^1").await.unwrap(), one);
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
async fn the_ref_of_a_published_actor_lives_on_when_the_program_is_started_anew() {
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
    let (published, private) = (
        first.spawn(ProbeActor::factory(&Log::default())),
        first.spawn(ProbeActor::factory(&Log::default())),
    );
    first.publish("test/probe", &published).version("1.0.0").allow(Anyone).await.unwrap();
    let (published, private) =
        (serde_json::to_string(&published).unwrap(), serde_json::to_string(&private).unwrap());
    first.shutdown().await;

    let second = start(4001).await;
    let successor = second.spawn(ProbeActor::factory(&Log::default()));
    second.publish("test/probe", &successor).version("1.4.0").allow(Anyone).await.unwrap();
    let bind = |text: &str| second.bind(serde_json::from_str::<ActorRef<Probe>>(text).unwrap());
    assert_eq!(bind(&published).ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(bind(&private).ask(Plain { n: 2 }).await, Err(AskError::NoSuchActor));
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
