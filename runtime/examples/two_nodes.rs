//! Two nodes in two processes: an actor of the one is asked and told by the other, over mutually authenticated QUIC.
//!
//! `cargo run --example two_nodes` starts the host, which starts this same program again as its guest. Within the host runs
//! a third node, through which the guest would reach the host if there were a NAT between them: any public node can be one.

use serde::{Deserialize, Serialize};
use webmesh::{
    ActorRef, Anyone, Mesh, Message, PeerRef, Protocol, RemoteActor, caller, prelude::*,
};

#[derive(Message, Serialize, Deserialize)]
#[message(id = "example.greet", reply = String)]
struct Greet {
    name: String,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "example.note")]
struct Note {
    text: String,
}

#[derive(Protocol)]
#[protocol(id = "example.greeter/1", accepts(Greet, Note))]
struct Greeter;

#[derive(Default, RemoteActor)]
#[remote(serves(Greeter))]
struct GreeterActor {
    greeted: u64,
}

impl Actor for GreeterActor {
    type Context = Context<Self>;
}

impl Handler<Greet> for GreeterActor {
    type Result = String;
    fn handle(&mut self, greet: Greet, _: &mut Context<Self>) -> String {
        self.greeted += 1;
        format!("hello {}, you are number {}", greet.name, self.greeted)
    }
}

impl Handler<Note> for GreeterActor {
    type Result = ();
    fn handle(&mut self, note: Note, ctx: &mut Context<Self>) {
        let from = caller(ctx).map(|caller| caller.peer().to_string()).unwrap_or_default();
        println!("[host]  {from} leaves a note: {}", note.text);
    }
}

#[webmesh::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        None => host().await,
        Some(invite) => guest(invite.parse()?).await,
    }
}

async fn host() -> Result<(), Box<dyn std::error::Error>> {
    let rendezvous = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    let mesh =
        Mesh::builder().listen("127.0.0.1:0".parse()?).join(rendezvous.peer_ref()).start().await?;
    mesh.attached().await;
    let greeter = mesh.spawn(GreeterActor::default);
    mesh.publish("greeter", &greeter).version("1.0.0").allow(Anyone).await?;
    let invite = mesh.peer_ref();
    println!("[host]  {} listens; its PeerRef is\n[host]  {invite}", mesh.peer_id());

    let guest =
        std::process::Command::new(std::env::current_exe()?).arg(invite.to_string()).spawn()?;
    let guest = tokio::task::spawn_blocking(move || guest.wait_with_output()).await??;
    mesh.shutdown().await;
    rendezvous.shutdown().await;
    if guest.status.success() { Ok(()) } else { Err("the guest failed".into()) }
}

async fn guest(host: PeerRef) -> Result<(), Box<dyn std::error::Error>> {
    let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    println!("[guest] {} starts", mesh.peer_id());
    let greeter: ActorRef<Greeter> = mesh.resolve("greeter").at(&host).version("^1").await?;
    for name in ["ann", "bob"] {
        println!("[guest] is answered: {}", greeter.ask(Greet { name: name.into() }).await?);
    }
    greeter.tell(Note { text: "it was nice here".into() }).await?;
    greeter.flush().await?;
    mesh.shutdown().await;
    Ok(())
}
