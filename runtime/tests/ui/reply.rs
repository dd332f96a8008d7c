use webmesh::Reply;

#[derive(Reply)]
#[reply(id = "test.reply")]
struct UnknownKey;

#[derive(Reply)]
#[reply(crate = "webmesh")]
struct StringPath;

#[derive(Reply)]
struct OnField {
    #[reply(crate = webmesh)]
    text: String,
}

#[derive(Reply)]
union Bits {
    number: u32,
    float: f32,
}

fn main() {}
