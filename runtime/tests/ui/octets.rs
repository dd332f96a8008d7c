use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use webmesh::{Message, Reply};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.fields")]
struct Fields {
    plain: Vec<u8>,
    optional: Option<Vec<u8>>,
    full_path: std::vec::Vec<u8>,
    map: HashMap<String, Vec<u8>>,
    tuple: (u8, Vec<u8>),
    array: [Vec<u8>; 2],
    slice: Box<[u8]>,
    borrowed: Cow<'static, [u8]>,
    inner: Option<Result<Vec<Vec<u8>>, String>>,
    fine: Vec<u16>,
    key: [u8; 32],
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.enum")]
enum Variants {
    Tuple(u8, Vec<u8>),
    Struct { bytes: Vec<u8> },
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.reply", reply = Vec<u8>)]
struct Plain;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.reply", reply = Result<Option<Vec<u8>>, String>)]
struct Nested;

#[derive(Reply, Serialize, Deserialize)]
struct Page {
    bytes: Vec<u8>,
}

// The type of a field may come from a macro.
macro_rules! message {
    ($ty:ty) => {
        #[derive(Message, Serialize, Deserialize)]
        #[message(id = "test.from_macro")]
        struct FromMacro($ty);
    };
}
message!(Vec<u8>);

fn main() {}
