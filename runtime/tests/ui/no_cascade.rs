// Each mistake in a derive is told once, though its type is used all over.
use serde::{Deserialize, Serialize};
use webmesh::{ActorRef, Anyone, Mesh, Message, Protocol, RemoteActor, Reply, prelude::*};

#[derive(Message, Serialize, Deserialize)]
#[message(reply = Shown)]
struct WithoutId;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.file", reply = u64)]
struct File {
    content: Vec<u8>,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.typo", replies = u64)]
struct Typo;

#[derive(Reply, Serialize, Deserialize)]
struct Shown {
    content: Vec<u8>,
}

#[derive(Protocol)]
#[protocol(accepts(WithoutId, File, Typo, File))]
struct Store;

#[derive(RemoteActor)]
#[remote(serves(Store, Store))]
struct StoreActor;

impl Actor for StoreActor {
    type Context = Context<Self>;
}

impl Handler<WithoutId> for StoreActor {
    type Result = Shown;
    fn handle(&mut self, _: WithoutId, _: &mut Context<Self>) -> Shown {
        Shown { content: Vec::new() }
    }
}

impl Handler<File> for StoreActor {
    type Result = u64;
    fn handle(&mut self, _: File, _: &mut Context<Self>) -> u64 {
        0
    }
}

impl Handler<Typo> for StoreActor {
    type Result = ();
    fn handle(&mut self, _: Typo, _: &mut Context<Self>) {}
}

async fn used(mesh: &Mesh) -> webmesh::Result<()> {
    let store: ActorRef<Store> = mesh.spawn(|| StoreActor);
    mesh.publish("store", &store).allow(Anyone).await?;
    store.tell(Typo).await?;
    store.ask(WithoutId).await?;
    store.ask(File { content: Vec::new() }).await?;
    Ok(())
}

fn main() {}
