#[webmesh::test(clock = "stopped")]
async fn an_unknown_clock() {}

#[webmesh::test(paused)]
async fn an_unknown_key() {}

#[webmesh::test(clock)]
async fn no_clock() {}

#[webmesh::test(clock = "real", clock = "paused")]
async fn two_clocks() {}

#[webmesh::test]
#[test]
async fn two_tests() {}

#[webmesh::test]
fn not_async() {}

#[webmesh::test]
async fn with_arguments(number: u8) {}

#[webmesh::test]
const NOT_A_FUNCTION: u8 = 1;

fn main() {}
