use serde::{Deserialize, Serialize};
use webmesh::{Message, Protocol};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.join")]
struct Join;

#[derive(Protocol)]
struct Bare;

#[derive(Protocol)]
#[protocol(id = "test/1")]
struct WithoutMessages;

#[derive(Protocol)]
#[protocol(accepts(Join))]
struct WithoutId;

#[derive(Protocol)]
#[protocol(id = "", accepts(Join))]
struct EmptyId;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join), messages(Join))]
struct UnknownKey;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join), accepts(Join))]
struct TwoLists;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join, Join))]
struct TwiceListed;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join, stream(Join)))]
struct AlsoAStream;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(streams(Join)))]
struct NotAStream;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(stream(Join, Join)))]
struct LongStream;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(stream()))]
struct EmptyStream;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts = Join)]
struct NotAList;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts("join"))]
struct AString;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join Join))]
struct NoComma;

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join))]
struct Generic<T>(T);

#[derive(Protocol)]
#[protocol(id = "test/1", accepts(Join))]
union Bits {
    number: u32,
    float: f32,
}

fn main() {}
