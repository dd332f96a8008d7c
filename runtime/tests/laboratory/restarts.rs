//! A peer that is killed and started anew elsewhere, and one that knew it before. This binary plays both: the *keeper* publishes
//! an actor under a key of its own, the *caller* looks for it at each PeerRef that it reads.

use crate::{internet::Internet, kind::Kind, namespace::Namespace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};
use webmesh::{ActorRef, Anyone, Mesh, Message, PeerRef, Protocol, RemoteActor, prelude::*};

/// The first arguments of a process that shall play a part.
pub(crate) const KEEPER: &str = "keeper";
pub(crate) const CALLER: &str = "caller";

/// From the call of `resolve` to the answer of the actor. The end of the dead connection is a minute off. What it takes is printed;
/// on an idle machine it is a few round trips.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

#[derive(Message, Serialize, Deserialize)]
#[message(id = "lab.who", reply = u64)]
struct Who;

#[derive(Protocol)]
#[protocol(id = "lab.kept/1", accepts(Who))]
struct Kept;

#[derive(RemoteActor)]
#[remote(serves(Kept))]
struct KeptActor(u64);

impl Actor for KeptActor {
    type Context = Context<Self>;
}

impl Handler<Who> for KeptActor {
    type Result = u64;

    fn handle(&mut self, _: Who, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

/// Plays a part until standard input ends.
pub(crate) fn play(part: &str, args: &[String]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match part {
            KEEPER => keeper(&args[0], &args[1]).await,
            _ => caller().await,
        }
        .map_err(|error| error.to_string())
    })
}

/// Its actor answers with the port that it listens at.
async fn keeper(data: &str, listen: &str) -> webmesh::Result<()> {
    let listen: std::net::SocketAddr = listen.parse()?;
    let mesh = Mesh::builder().serve(false).data_dir(data).listen(listen).start().await?;
    let kept = mesh.spawn(move || KeptActor(listen.port().into()));
    mesh.publish("kept", &kept).allow(Anyone).await?;
    println!("{}", json!({ "peer_ref": mesh.peer_ref().to_string() }));
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    Ok(())
}

async fn caller() -> webmesh::Result<()> {
    let mesh = Mesh::builder().serve(false).start().await?;
    let (read, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| read.send(line))
    });
    while let Some(line) = lines.recv().await {
        let (begun, at) = (Instant::now(), line.parse::<PeerRef>()?);
        let kept: ActorRef<Kept> = mesh.resolve("kept").at(&at).await?;
        let port = kept.ask(Who).await?;
        println!("{}", json!({ "port": port, "took_ms": begun.elapsed().as_millis() as u64 }));
    }
    Ok(())
}

/// A process that plays a part; killed when dropped.
struct Player {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Player {
    fn start(host: &Namespace, part: &str, args: &[&str]) -> Player {
        let this = std::env::current_exe().unwrap();
        let mut command = host.command(this.to_str().unwrap());
        command.arg(part).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Player { input: process.stdin.take().unwrap(), output, process }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the process ended: {line:?}"))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// It is killed, and its caller's connection with it, which the caller can't know; it starts again under its key at another port.
pub(crate) fn a_peer_killed_and_started_anew_elsewhere_is_reached_by_its_new_reference(
    internet: &Internet,
) {
    for kind in [Kind::Public, Kind::PortRestricted] {
        let (here, there) = (internet.site(kind), internet.site(Kind::Public));
        let data = tempfile::tempdir().unwrap();
        let data = data.path().to_str().unwrap();
        let keeper = |port: u16| {
            let listen = format!("{}:{port}", there.outside[0]);
            let mut keeper = Player::start(there.host(), KEEPER, &[data, &listen]);
            let peer_ref = keeper.line()["peer_ref"].as_str().unwrap().to_owned();
            (keeper, peer_ref)
        };
        let mut caller = Player::start(here.host(), CALLER, &[]);
        let mut former = None;
        for port in [4433, 5544, 6655] {
            // SIGKILL, and nothing says that the port is closed: a firewall drops what comes there.
            drop(former.take());
            there.host().nft("add table inet dead\nadd chain inet dead out { type filter hook output priority 0; }\nadd rule inet dead out icmp type destination-unreachable drop");
            let (running, peer_ref) = keeper(port);
            former = Some(running);
            writeln!(caller.input, "{peer_ref}").unwrap();
            let found = caller.line();
            println!("{kind}, at port {port}: {found}");
            assert_eq!(found["port"], port, "{kind}");
            let took = Duration::from_millis(found["took_ms"].as_u64().unwrap());
            assert!(took < FOUND_WITHIN, "{kind}: {found}");
        }
    }
}
