use webmesh::{Protocol, RemoteActor};

#[derive(Protocol)]
#[protocol(id = "test/1", accepts())]
struct Room;

#[derive(RemoteActor)]
struct Bare;

#[derive(RemoteActor)]
#[remote()]
struct NoKeys;

#[derive(RemoteActor)]
#[remote(serves())]
struct ServesNothing;

#[derive(RemoteActor)]
#[remote(serves(Room, Room))]
struct ServesTwice;

#[derive(RemoteActor)]
#[remote(serves(Room), serves(Room))]
struct TwoLists;

#[derive(RemoteActor)]
#[remote(serve(Room))]
struct UnknownKey;

#[derive(RemoteActor)]
#[remote(serves = Room)]
struct NotAList;

#[derive(RemoteActor)]
#[remote(serves("room"))]
struct AString;

#[derive(RemoteActor)]
#[remote(serves(Room))]
union Bits {
    number: u32,
    float: f32,
}

impl webmesh::actix::Actor for ServesTwice {
    type Context = webmesh::actix::Context<Self>;
}

impl webmesh::actix::Actor for TwoLists {
    type Context = webmesh::actix::Context<Self>;
}

fn main() {}
