//! What goes over the network has to be encodable, both ways.
use serde::{Deserialize, Serialize};
use webmesh::Message;

#[derive(Message)]
#[message(id = "test.plain")]
struct NotEncodable;

struct Opaque;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.reply", reply = Opaque)]
struct ReplyNotEncodable;

fn main() {}
