//! The macros, each with its example. What their keys mean is written beside them, in the crate `webmesh-macros`.

/// Makes a struct or an enum a message.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use webmesh::{Bytes, Message};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(id = "album.add", reply = Result<u64, String>)]
/// pub struct Add {
///     pub title: String,
///     pub picture: Bytes, // Not `Vec<u8>`: that would be encoded byte by byte, and is refused.
/// }
/// # assert_eq!(Add::ID, "album.add");
/// ```
pub use webmesh_macros::Message;

/// Makes a type the token of a protocol: what clients hold an [`ActorRef`](crate::ActorRef) of.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use webmesh::{Message, Protocol};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(id = "chat.join")]
/// pub struct Join;
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(id = "chat.post", reply = u64)]
/// pub struct Post { pub text: String }
///
/// #[derive(Protocol)]
/// #[protocol(id = "example.chat.room/1", accepts(Join, Post))]
/// pub struct Room;
/// # assert_eq!(Room::MESSAGES, ["chat.join", "chat.post"]);
/// ```
pub use webmesh_macros::Protocol;

/// Lets an actix actor be reached through [`ActorRef`](crate::ActorRef)s.
///
/// ```
/// use webmesh::prelude::*;
/// use webmesh::{Message, Protocol, RemoteActor};
/// # #[derive(Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "chat.post", reply = u64)]
/// # pub struct Post { pub text: String }
/// # #[derive(Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "chat.clear")]
/// # pub struct Clear;
/// # #[derive(Protocol)]
/// # #[protocol(id = "example.chat.room/1", accepts(Post))]
/// # pub struct Room;
/// # #[derive(Protocol)]
/// # #[protocol(id = "example.chat.admin/1", accepts(Clear))]
/// # pub struct Admin;
///
/// #[derive(Default, RemoteActor)]
/// #[remote(serves(Room, Admin))] // `Mesh::spawn` returns an `ActorRef<Room>`.
/// struct RoomActor { log: Vec<String> }
///
/// impl Actor for RoomActor {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Post> for RoomActor {
///     type Result = u64;
///     fn handle(&mut self, post: Post, _: &mut Context<Self>) -> u64 {
///         self.log.push(post.text);
///         self.log.len() as u64
///     }
/// }
///
/// impl Handler<Clear> for RoomActor {
///     type Result = ();
///     fn handle(&mut self, _: Clear, _: &mut Context<Self>) {
///         self.log.clear();
///     }
/// }
/// ```
pub use webmesh_macros::RemoteActor;

/// Lets handlers return a type of your own as it is.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use webmesh::prelude::*;
/// use webmesh::{Message, Reply};
///
/// #[derive(Reply, Serialize, Deserialize)]
/// pub struct Lines { pub lines: Vec<String>, pub more: bool }
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(id = "chat.history", reply = Lines)]
/// pub struct History { pub after: u64 }
///
/// # struct RoomActor { log: Vec<String> }
/// # impl Actor for RoomActor { type Context = Context<Self>; }
/// impl Handler<History> for RoomActor {
///     type Result = Lines;
///     fn handle(&mut self, history: History, _: &mut Context<Self>) -> Lines {
///         let lines = self.log.iter().skip(history.after as usize).take(100).cloned().collect();
///         Lines { lines, more: self.log.len() as u64 > history.after + 100 }
///     }
/// }
/// ```
pub use webmesh_macros::Reply;

/// Runs an `async fn main()` to its end, and then waits until the meshes that were started in it have left: what they accepted is where it
/// goes and peers were told goodbye, or their [`linger`](crate::MeshBuilder::linger) is over. That holds for meshes that were dropped, and for those that a
/// task or a static still holds. A panic is passed on at once, and [`std::process::exit`] waits for nothing: [`linger`](crate::linger) before it.
///
/// ```no_run
/// use webmesh::Mesh;
///
/// #[webmesh::main]
/// async fn main() -> webmesh::Result<()> {
///     let mesh = Mesh::builder().identity_file("room.key").start().await?;
///     println!("{} is up", mesh.peer_id());
///     mesh.until_ctrl_c().await?;
///     Ok(())
/// }
/// ```
pub use webmesh_macros::main;

/// Runs an `async fn` as a test on one thread, under a clock that is paused.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use webmesh::prelude::*;
/// use webmesh::{Mesh, Message, Protocol, RemoteActor};
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[message(id = "test.add", reply = u64)]
/// # struct Add { n: u64 }
/// # #[derive(Protocol)]
/// # #[protocol(id = "test.sum/1", accepts(Add))]
/// # struct Sum;
/// # #[derive(Default, RemoteActor)]
/// # #[remote(serves(Sum))]
/// # struct SumActor { sum: u64 }
/// # impl Actor for SumActor { type Context = Context<Self>; }
/// # impl Handler<Add> for SumActor {
/// #     type Result = u64;
/// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
/// #         self.sum += add.n;
/// #         self.sum
/// #     }
/// # }
///
/// #[webmesh::test]
/// async fn an_actor_sums_up() -> webmesh::Result<()> {
///     let mesh = Mesh::builder().in_place().start().await?;
///     let sum = mesh.spawn(SumActor::default);
///     assert_eq!(sum.ask(Add { n: 3 }).await?, 3);
///     Ok(())
/// }
/// ```
pub use webmesh_macros::test;
