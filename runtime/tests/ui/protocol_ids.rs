use serde::{Deserialize, Serialize};
use webmesh::{Message, Protocol};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.join")]
struct Join;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.post")]
struct Post;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.join")]
struct Enter;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join, Post, Enter))]
struct Room;

#[derive(Protocol)]
#[protocol(id = "test/2", accepts(Join, Post, stream(self::Enter)))]
struct Streaming;

fn main() {}
