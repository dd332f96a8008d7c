//! Actors and refs within one mesh.

use serde::{Deserialize, Serialize};
use webmesh::prelude::*;
use webmesh::{Mesh, Message, Protocol, RemoteActor};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.add", reply = u64)]
struct Add {
    n: u64,
}

#[derive(Protocol)]
#[protocol(id = "test.sum/1", accepts(Add))]
struct Sum;

#[derive(Default, RemoteActor)]
#[remote(serves(Sum))]
struct SumActor {
    sum: u64,
}

impl Actor for SumActor {
    type Context = Context<Self>;
}

impl Handler<Add> for SumActor {
    type Result = u64;
    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        self.sum += add.n;
        self.sum
    }
}

#[webmesh::test]
async fn an_actor_in_place_is_told_and_asked() {
    let mesh = Mesh::builder().in_place().start().await.unwrap();
    let sum = mesh.spawn(SumActor::default);
    sum.tell(Add { n: 1 }).await.unwrap();
    assert_eq!(sum.ask(Add { n: 2 }).await, Ok(3));
}

#[test]
fn an_actor_on_another_thread_is_told_and_asked() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mesh = Mesh::builder().start().await.unwrap();
        let sum = mesh.spawn(SumActor::default);
        sum.tell(Add { n: 1 }).await.unwrap();
        assert_eq!(sum.ask(Add { n: 2 }).await, Ok(3));
        mesh.shutdown().await;
    });
}
