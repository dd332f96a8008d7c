use serde::{Deserialize, Serialize};
use webmesh::actix::{Actor, Context, Handler};
use webmesh::{Message, Protocol, RemoteActor};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.join")]
struct Join;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.post")]
struct Post;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.close")]
struct Close;

#[derive(Protocol)]
#[protocol(id = "test.room/1", accepts(Join, Post))]
struct Room;

#[derive(Protocol)]
#[protocol(id = "test.admin/1", accepts(Close))]
struct Admin;

#[derive(RemoteActor)]
#[remote(serves(Room, Admin))]
struct RoomActor;

impl Actor for RoomActor {
    type Context = Context<Self>;
}

impl Handler<Join> for RoomActor {
    type Result = ();
    fn handle(&mut self, _: Join, _: &mut Context<Self>) {}
}

fn main() {}
