use webmesh::actix::{Actor, SyncContext};
use webmesh::{Protocol, RemoteActor};

#[derive(Protocol)]
#[protocol(id = "test.room/1", accepts())]
struct Room;

struct NotAProtocol;

#[derive(RemoteActor)]
#[remote(serves(Room))]
struct OnAThread;

impl Actor for OnAThread {
    type Context = SyncContext<Self>;
}

#[derive(RemoteActor)]
#[remote(serves(NotAProtocol))]
struct ServesAnything;

impl Actor for ServesAnything {
    type Context = webmesh::actix::Context<Self>;
}

fn main() {}
