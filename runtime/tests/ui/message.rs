use serde::{Deserialize, Serialize};
use webmesh::Message;

#[derive(Message, Serialize, Deserialize)]
struct Bare;

#[derive(Message, Serialize, Deserialize)]
#[message(reply = u64)]
struct WithoutId;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "")]
struct EmptyId;

#[derive(Message, Serialize, Deserialize)]
#[message(
    id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef+"
)]
struct LongId;

#[derive(Message, Serialize, Deserialize)]
#[message(id = 7)]
struct NumberId;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.unknown", answer = u64)]
struct UnknownKey;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.twice", id = "test.thrice")]
struct TwoIds;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.twice", reply = u64)]
#[message(reply = Option<u64>)]
struct TwoReplies;

#[derive(Message, Serialize, Deserialize)]
#[message]
struct NoKeys;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.half", reply =)]
struct HalfReply;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.broken" reply = u64)]
struct NoComma;

#[derive(Message, Serialize, Deserialize)]
#[message("test.post")]
struct NoKey;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.generic")]
struct Generic<T>(T);

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.borrowed")]
struct Borrowed<'a>(&'a str);

#[derive(Message)]
#[message(id = "test.union")]
union Bits {
    number: u32,
    float: f32,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.inner")]
struct OnField {
    #[message(id = "test.field")]
    text: String,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.inner")]
enum OnVariant {
    #[message(id = "test.variant")]
    Text(String),
}

// All its mistakes are reported at once.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "", reply = Vec<u8>, answer = u64)]
struct Many<T>(T, Vec<u8>);

fn main() {}
