//! How large things may be.

use crate::actors::{Plain, Probe, ProbeActor};
use crate::world::{Fetch, Introduce, Speak, Text, far_desk, host_builder, item};
use webmesh::{ActorRef, AskError, Bytes, MemoryNetwork, Mesh, TellError, prelude::*};

const LIMIT: usize = 64 << 20;

#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "s", reply = Bytes)]
struct Short {
    a_name_that_takes_some_bytes_of_the_envelope: Bytes,
    grow: usize,
}

#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(
    id = "test.a.message.whose.id.is.as.long.as.ids.may.be.which.is.one.hundred.and.twenty.eight.bytes.and.so.it.goes.on.and.on.and.on.on",
    reply = Bytes
)]
struct Long {
    body: Bytes,
    grow: usize,
}

/// Says so much, in words and in numbers.
#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "test.words", reply = String)]
struct Words {
    words: String,
    /// One by one. (As a `Vec` they would be refused when this is compiled.)
    octets: std::collections::VecDeque<u8>,
    grow: usize,
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.sizes/1", accepts(Short, Long, Words))]
struct Sizes;

#[derive(Default, webmesh::RemoteActor)]
#[remote(serves(Sizes))]
struct SizesActor;

impl Actor for SizesActor {
    type Context = Context<Self>;
}

/// A body of the same size or, if it came empty, of the size that is asked for.
fn back(body: &Bytes, grow: usize) -> Bytes {
    if body.is_empty() { vec![2; grow].into() } else { body.clone() }
}

impl Handler<Short> for SizesActor {
    type Result = Bytes;
    fn handle(&mut self, short: Short, _: &mut Context<Self>) -> Bytes {
        back(&short.a_name_that_takes_some_bytes_of_the_envelope, short.grow)
    }
}

impl Handler<Long> for SizesActor {
    type Result = Bytes;
    fn handle(&mut self, long: Long, _: &mut Context<Self>) -> Bytes {
        back(&long.body, long.grow)
    }
}

impl Handler<Words> for SizesActor {
    type Result = String;
    fn handle(&mut self, words: Words, _: &mut Context<Self>) -> String {
        "y".repeat(words.words.len() + words.octets.len() + words.grow)
    }
}

async fn asked(
    sizes: &ActorRef<Sizes>,
    long: bool,
    body: usize,
    grow: usize,
) -> Result<usize, AskError> {
    let body = Bytes::from(vec![1; body]);
    let name = "a_name_that_takes_some_bytes_of_the_envelope";
    assert!(name.len() > 40);
    let answer = if long {
        sizes.ask(Long { body, grow }).await
    } else {
        sizes.ask(Short { a_name_that_takes_some_bytes_of_the_envelope: body, grow }).await
    };
    answer.map(|body| body.len())
}

#[webmesh::test]
async fn exactly_the_limit_passes_and_one_byte_more_does_not() {
    let network = MemoryNetwork::new(1);
    let guest = host_builder(&network, 1).start().await.unwrap();
    let host = host_builder(&network, 2).start().await.unwrap();
    let near = host.spawn(SizesActor::default);
    host.publish("sizes", &near).allow(webmesh::Anyone).await.unwrap();
    let far: ActorRef<Sizes> = guest.resolve("sizes").at(&host.peer_ref()).await.unwrap();
    let too_large = || Err(AskError::TooLarge { limit: LIMIT as u64 });
    for long in [false, true] {
        assert_eq!(asked(&far, long, LIMIT, 0).await, Ok(LIMIT));
        assert_eq!(asked(&far, long, LIMIT + 1, 0).await, too_large());
        assert_eq!(asked(&far, long, 0, LIMIT).await, Ok(LIMIT));
        assert_eq!(asked(&far, long, 0, LIMIT + 1).await, too_large());
    }
    // The same for texts, there and back.
    assert_eq!(said(&far, LIMIT, 0, 0).await, Ok(LIMIT));
    assert_eq!(said(&far, LIMIT + 1, 0, 0).await, too_large());
    assert_eq!(said(&far, 0, 0, LIMIT).await, Ok(LIMIT));
    assert_eq!(said(&far, 0, 0, LIMIT + 1).await, too_large());
    // Nearby nothing is encoded.
    assert_eq!(asked(&near, false, LIMIT + 1, 0).await, Ok(LIMIT + 1));
}

async fn said(
    sizes: &ActorRef<Sizes>,
    words: usize,
    octets: usize,
    grow: usize,
) -> Result<usize, AskError> {
    let (words, octets) = ("x".repeat(words), vec![7; octets].into());
    sizes.ask(Words { words, octets, grow }).await.map(|text| text.len())
}

#[webmesh::test]
async fn numbers_one_by_one_pass_up_to_the_limit_and_an_envelope_to_the_byte() {
    const LIMIT: usize = 1 << 20;
    let network = MemoryNetwork::new(1);
    let start = |n| host_builder(&network, n).body_max(LIMIT).start();
    let (guest, host) = (start(1).await.unwrap(), start(2).await.unwrap());
    host.publish("sizes", &host.spawn(SizesActor::default)).allow(webmesh::Anyone).await.unwrap();
    let far: ActorRef<Sizes> = guest.resolve("sizes").at(&host.peer_ref()).await.unwrap();
    let too_large = || Err(AskError::TooLarge { limit: LIMIT as u64 });
    assert_eq!(said(&far, 0, LIMIT, 0).await, Ok(LIMIT));
    // The rest of the envelope: three names, the length of an empty text and of the numbers, and one number.
    let most = LIMIT + (64 << 10) - (1 + (1 + 5) + 1 + (1 + 6) + 5 + (1 + 4) + 1);
    assert_eq!(said(&far, 0, most + 1, 0).await, too_large());
    // This one is taken, and its answer, a text as long, is too large.
    assert_eq!(said(&far, 0, most, 0).await, too_large());
    assert_eq!(asked(&far, false, 1, 0).await, Ok(1));
    let near: ActorRef<Sizes> = host.resolve("sizes").await.unwrap();
    assert_eq!(said(&near, 0, most + 1, 0).await, Ok(most + 1));
}

/// One mesh, whose near calls are encoded.
async fn encoding(limit: usize) -> Mesh {
    let network = MemoryNetwork::new(1);
    host_builder(&network, 1).body_max(limit).encode_near(true).start().await.unwrap()
}

#[webmesh::test]
async fn near_calls_fail_as_far_ones_would_if_that_is_asked_for() {
    const LIMIT: usize = 1 << 20;
    let mesh = encoding(LIMIT).await;
    let (desk, log) = far_desk(&mesh, &mesh).await;
    let too_large = || AskError::TooLarge { limit: LIMIT as u64 };
    assert_eq!(desk.tell(item(1, LIMIT)).await, Ok(()));
    assert_eq!(
        desk.tell(item(1, LIMIT + 1)).await,
        Err(TellError::TooLarge { limit: LIMIT as u64 })
    );
    assert_eq!(desk.ask(Fetch { len: LIMIT }).await.map(|body| body.len()), Ok(LIMIT));
    assert_eq!(desk.ask(Fetch { len: LIMIT + 1 }).await, Err(too_large()));
    assert_eq!(desk.ask(Text { len: LIMIT + 1 }).await, Err(too_large()));
    assert!(matches!(desk.ask(Speak).await, Err(AskError::BadReply(_))));
    assert_eq!(log.take(), [format!("item 1 {LIMIT}")]);
}

/// Decodes as something else than it was.
#[derive(Debug, webmesh::Message, serde::Deserialize)]
#[message(id = "test.lopsided", reply = u64)]
struct Lopsided {
    #[allow(dead_code)]
    number: u64,
}

impl serde::Serialize for Lopsided {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Lopsided", 1)?;
        fields.serialize_field("nombre", &self.number)?;
        fields.end()
    }
}

/// Can't be encoded.
#[derive(Debug, webmesh::Message, serde::Deserialize)]
#[message(id = "test.mute", reply = u64)]
struct Mute;

impl serde::Serialize for Mute {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("mute"))
    }
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.odd/1", accepts(Lopsided, Mute))]
struct Odd;

#[derive(Default, webmesh::RemoteActor)]
#[remote(serves(Odd))]
struct OddActor;

impl Actor for OddActor {
    type Context = Context<Self>;
}

impl Handler<Lopsided> for OddActor {
    type Result = u64;
    fn handle(&mut self, _: Lopsided, _: &mut Context<Self>) -> u64 {
        7
    }
}

impl Handler<Mute> for OddActor {
    type Result = u64;
    fn handle(&mut self, _: Mute, _: &mut Context<Self>) -> u64 {
        7
    }
}

#[webmesh::test]
async fn near_messages_that_no_other_mesh_could_read_are_found_out() {
    let plain = host_builder(&MemoryNetwork::new(1), 1).start().await.unwrap();
    assert_eq!(plain.spawn(OddActor::default).ask(Lopsided { number: 1 }).await, Ok(7));
    assert_eq!(plain.spawn(OddActor::default).ask(Mute).await, Ok(7));
    let mesh = encoding(1 << 20).await;
    let odd = mesh.spawn(OddActor::default);
    let refused = odd.ask(Lopsided { number: 1 }).await;
    assert!(matches!(refused, Err(AskError::BadPayload(_))), "{refused:?}");
    let refused = odd.tell(Lopsided { number: 1 }).await;
    assert!(matches!(refused, Err(TellError::BadPayload(_))), "{refused:?}");
    let refused = odd.ask(Mute).await;
    assert!(matches!(refused, Err(AskError::Unencodable(_))), "{refused:?}");
    assert!(odd.try_tell(Mute).is_err());
}

#[webmesh::test]
async fn refs_in_near_messages_are_bound_anew() {
    let mesh = encoding(1 << 20).await;
    let (desk, _) = far_desk(&mesh, &mesh).await;
    let probe: ActorRef<Probe> = mesh.spawn(ProbeActor::factory(&Default::default()));
    // A ref that was never bound can't be used by itself; as part of a message it is bound.
    let unbound: ActorRef<Probe> =
        serde_json::from_str(&serde_json::to_string(&probe).unwrap()).unwrap();
    assert_eq!(unbound.ask(Plain { n: 1 }).await, Err(AskError::Unbound));
    let (answer, back) = desk.ask(Introduce { to: unbound, n: 2 }).await.unwrap().unwrap();
    assert_eq!((answer, &back), (2, &probe));
    assert_eq!(back.ask(Plain { n: 3 }).await, Ok(3));
}
