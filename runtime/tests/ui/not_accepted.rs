use serde::{Deserialize, Serialize};
use webmesh::{Accepts, Message, Protocol};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.join")]
struct Join;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.post")]
struct Post;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.leave")]
struct Leave;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join, Leave))]
struct Room;

fn ask<P: Accepts<M>, M: Message>(_: M) {}

fn main() {
    ask::<Room, _>(Join);
    ask::<Room, _>(Post);
}
