//! What the derives and attributes expand to: at run time here, and which mistakes they refuse in `ui/`.

/// Each file in `ui/` fails to compile, with the errors that stand beside it. They are worded by this toolchain's compiler;
/// `TRYBUILD=overwrite` writes them anew.
#[test]
fn mistakes_are_told_by_sentences_at_their_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

// Names only what an application has: `webmesh` and serde. What it takes from actix comes through `webmesh`.
mod expansion {
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;
    use webmesh::actix::dev::MessageResponse;
    use webmesh::actix::{Actor, Context, Handler};
    use webmesh::{Accepts, Bytes, Message, Protocol, RemoteActor, Reply, ServedBy, Streams};

    #[derive(Message, Serialize, Deserialize)]
    #[message(id = "test.join", reply = Result<Welcome, String>)]
    struct Join {
        name: String,
        picture: Option<Bytes>,
    }

    #[derive(Message, Serialize, Deserialize)]
    #[message(id = "test.post")]
    #[message(reply = BTreeMap<String, (u64, u64)>)]
    enum Post {
        Text(String),
        Key([u8; 32]),
        Nothing,
    }

    #[derive(Message, Serialize, Deserialize)]
    #[message(id = "test.leave")]
    struct Leave;

    #[derive(Message, Serialize, Deserialize)]
    #[message(id = "test.history", reply = Page<Line>)]
    struct History {
        #[serde(skip)]
        _cache: Vec<u8>,
    }

    #[derive(Reply, Serialize, Deserialize, Debug, PartialEq)]
    struct Welcome {
        members: Vec<String>,
    }

    #[derive(Reply, Serialize, Deserialize)]
    struct Page<T = u8>
    where
        T: Clone,
    {
        items: Vec<T>,
    }

    #[derive(Clone, Serialize, Deserialize)]
    struct Line(String);

    #[derive(Protocol)]
    #[protocol(id = "test.room/1", accepts(Join, Post, stream(History), self::Leave))]
    struct Room;

    #[derive(Protocol)]
    #[protocol(id = "test.admin/1", accepts(History,))]
    enum Admin {}

    #[derive(Protocol)]
    #[protocol(id = "test.alive/1", accepts())]
    struct Alive;

    #[derive(RemoteActor)]
    #[remote(serves(Room, Admin, Alive))]
    struct RoomActor;

    impl Actor for RoomActor {
        type Context = Context<Self>;
    }
    impl Handler<Join> for RoomActor {
        type Result = Result<Welcome, String>;
        fn handle(&mut self, join: Join, _: &mut Context<Self>) -> Self::Result {
            Ok(Welcome { members: vec![join.name] })
        }
    }
    impl Handler<Post> for RoomActor {
        type Result = webmesh::actix::MessageResult<Post>;
        fn handle(&mut self, _: Post, _: &mut Context<Self>) -> Self::Result {
            webmesh::actix::MessageResult(BTreeMap::new())
        }
    }
    impl Handler<Leave> for RoomActor {
        type Result = ();
        fn handle(&mut self, _: Leave, _: &mut Context<Self>) {}
    }
    impl Handler<History> for RoomActor {
        type Result = Page<Line>;
        fn handle(&mut self, _: History, _: &mut Context<Self>) -> Self::Result {
            Page { items: Vec::new() }
        }
    }

    /// A generic actor: its parameters and their bounds are carried over.
    #[derive(RemoteActor)]
    #[remote(serves(Alive, Admin))]
    struct Storage<T>
    where
        T: Clone + Unpin + Send + 'static,
    {
        _kept: T,
    }
    impl<T: Clone + Unpin + Send + 'static> Actor for Storage<T> {
        type Context = Context<Self>;
    }
    impl<T: Clone + Unpin + Send + 'static> Handler<History> for Storage<T> {
        type Result = Page<Line>;
        fn handle(&mut self, _: History, _: &mut Context<Self>) -> Self::Result {
            Page { items: Vec::new() }
        }
    }

    #[test]
    fn ids_are_those_of_the_attributes() {
        assert_eq!([Join::ID, Post::ID, Leave::ID], ["test.join", "test.post", "test.leave"]);
        assert_eq!(
            [Room::ID, Admin::ID, Alive::ID],
            ["test.room/1", "test.admin/1", "test.alive/1"]
        );
    }

    #[test]
    fn a_protocol_keeps_the_order_of_its_attribute() {
        assert_eq!(Room::MESSAGES, ["test.join", "test.post", "test.leave"]);
        assert_eq!(Room::STREAMS, ["test.history"]);
        assert_eq!(<Room as Accepts<Join>>::INDEX, 0);
        assert_eq!(<Room as Accepts<Post>>::INDEX, 1);
        assert_eq!(<Room as Accepts<Leave>>::INDEX, 2);
        assert_eq!(<Admin as Accepts<History>>::INDEX, 0);
        fn streams<P: Streams<M>, M: Message>() {}
        streams::<Room, History>();
    }

    #[test]
    fn an_actor_has_a_table_entry_for_each_message_and_none_for_streams() {
        assert_eq!(<Room as ServedBy<RoomActor>>::TABLE.len(), 3);
        assert_eq!(<Admin as ServedBy<RoomActor>>::TABLE.len(), 1);
        assert_eq!(<Alive as ServedBy<RoomActor>>::TABLE.len(), 0);
        assert_eq!(<Admin as ServedBy<Storage<String>>>::TABLE.len(), 1);
    }

    #[test]
    fn the_first_protocol_is_the_main_one() {
        fn main<A: RemoteActor>() -> &'static str {
            A::Main::ID
        }
        assert_eq!(main::<RoomActor>(), "test.room/1");
        assert_eq!(main::<Storage<u8>>(), "test.alive/1");
    }

    #[webmesh::test]
    async fn a_derived_reply_reaches_who_asked() {
        let room = RoomActor.start();
        let join = Join { name: "Ada".into(), picture: None };
        let welcome = room.send(join).await.expect("the actor runs");
        assert_eq!(welcome, Ok(Welcome { members: vec!["Ada".into()] }));
        let page = room.send(History { _cache: Vec::new() }).await.expect("the actor runs");
        assert!(page.items.is_empty());
    }

    #[test]
    fn a_generic_reply_answers_for_any_parameter() {
        fn reply<A: Actor, M: webmesh::actix::Message<Result = R>, R: MessageResponse<A, M>>() {}
        reply::<RoomActor, History, Page<Line>>();
    }
}

/// The crate under another name, and other things under the usual names.
mod renamed {
    mod prelude_of_mine {
        pub(crate) use webmesh as mesh;
    }
    use prelude_of_mine::mesh;

    #[allow(dead_code)]
    mod other {
        pub(super) enum Option {
            Some,
        }
        pub(super) struct Result;
        pub(super) struct Context;
        pub(super) trait Actor {}
        pub(super) trait Handler {}
        pub(super) trait Message {}
        pub(super) trait Protocol {}
    }
    #[allow(unused_imports)]
    use other::*;

    #[derive(mesh::Message, mesh::Reply, serde::Serialize, serde::Deserialize)]
    #[message(id = "renamed.echo", reply = Echo, crate = mesh)]
    #[reply(crate = mesh)]
    struct Echo;

    #[derive(mesh::Message, serde::Serialize, serde::Deserialize)]
    #[message(id = "renamed.stop", crate = super::renamed::mesh)]
    struct Stop;

    #[derive(mesh::Protocol)]
    #[protocol(id = "renamed.echo/1", accepts(Echo, stream(Stop)), crate = self::mesh)]
    struct Echoes;

    #[derive(mesh::Protocol)]
    #[protocol(id = "renamed.stop/1", accepts(self::Echo), crate = crate::renamed::mesh)]
    struct Stops;

    #[derive(mesh::RemoteActor)]
    #[remote(serves(Echoes, self::Stops), crate = self::mesh)]
    struct EchoActor;

    impl mesh::actix::Actor for EchoActor {
        type Context = mesh::actix::Context<Self>;
    }
    impl mesh::actix::Handler<Echo> for EchoActor {
        type Result = Echo;
        fn handle(&mut self, echo: Echo, _: &mut Self::Context) -> Echo {
            echo
        }
    }

    #[mesh::test(crate = mesh)]
    async fn the_crate_may_go_by_another_name() {
        use mesh::actix::Actor;
        EchoActor.start().send(Echo).await.expect("the actor runs");
    }
}

/// An id may have 128 bytes; `ui/message_id.rs` has one more.
mod longest_id {
    #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    #[message(
        id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    )]
    struct Long;

    #[test]
    fn an_id_may_have_128_bytes() {
        assert_eq!(<Long as webmesh::Message>::ID.len(), webmesh::message::MAX_ID_BYTES);
    }
}

mod entry {
    use std::time::Duration;

    #[webmesh::test]
    async fn a_test_runs_under_a_paused_clock() {
        let (real, paused) = (std::time::Instant::now(), tokio::time::Instant::now());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(paused.elapsed() >= Duration::from_secs(3600));
        assert!(real.elapsed() < Duration::from_secs(60));
    }

    #[webmesh::test(clock = "real")]
    async fn the_clock_of_a_test_may_be_the_real_one() {
        let real = std::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(real.elapsed() >= Duration::from_millis(20));
    }

    #[webmesh::test]
    #[should_panic(expected = "as it should")]
    async fn a_test_may_have_to_panic() {
        tokio::task::yield_now().await;
        panic!("as it should");
    }

    #[webmesh::test]
    async fn a_test_may_return_a_result() -> Result<(), std::num::ParseIntError> {
        let number: u8 = "17".parse()?;
        assert_eq!(number, 17);
        Ok(())
    }

    #[webmesh::test]
    async fn local_tasks_can_be_spawned_in_a_test() {
        let shared = std::rc::Rc::new(1);
        let other = shared.clone();
        let sum =
            tokio::task::spawn_local(async move { *other + 1 }).await.expect("it doesn't panic");
        assert_eq!((*shared, sum), (1, 2));
    }

    mod as_main {
        #[webmesh::main]
        pub(super) async fn main() -> Result<u8, std::num::ParseIntError> {
            let shared = std::rc::Rc::new("7");
            tokio::task::yield_now().await;
            shared.parse()
        }

        #[webmesh::main(flavor = "multi_thread", worker_threads = 2)]
        pub(super) async fn many() -> Result<std::thread::ThreadId, tokio::task::JoinError> {
            tokio::spawn(async { std::thread::current().id() }).await
        }
    }

    #[test]
    fn main_runs_on_its_own_thread_or_on_many() {
        assert_eq!(as_main::main(), Ok(7));
        let worker = as_main::many().expect("it doesn't panic");
        assert_ne!(worker, std::thread::current().id());
    }

    #[test]
    fn what_is_left_at_the_end_of_main_may_still_spawn_when_it_is_dropped() {
        struct Spawns;
        impl Drop for Spawns {
            fn drop(&mut self) {
                drop(tokio::spawn(async {}));
            }
        }
        #[webmesh::main]
        async fn main() {
            let spawns = Spawns;
            drop(tokio::task::spawn_local(async move {
                let _spawns = spawns;
                std::future::pending::<()>().await;
            }));
            tokio::task::yield_now().await;
        }
        main();
    }
}
