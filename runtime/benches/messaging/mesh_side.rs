//! The Webmesh side: one published actor in the server process, one Mesh in the client's.
//!
//! `webmesh` is the default placement (a network thread and arbiters apart from the user's thread), `webmesh-in-place`
//! runs everything of a process on one current-thread runtime, as the reference at its best does.

use crate::{
    flood,
    process::{Role, Task, resident_bytes, wait_for_parent},
    quinn_side::{BULK_MIB, IN_FLIGHT, PING_BYTES, PINGS, PIPELINED, TELLS, idle_connections, p50},
};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, time::Instant};
use webmesh::{ActorRef, Anyone, Bytes, Mesh, Message, PeerRef, Protocol, RemoteActor, prelude::*};

/// A tell of 100 B on the wire: frame header 3, map 1, field name 5, length 2, body 100.
pub(crate) const TELL_WIRE_BYTES: usize = 111;
const TELL_BYTES: usize = 100;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "bench.echo", reply = Bytes)]
struct Echo {
    body: Bytes,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "bench.take")]
struct Take {
    body: Bytes,
}

#[derive(Protocol)]
#[protocol(id = "webmesh.bench/1", accepts(Echo, Take))]
struct Bench;

#[derive(Default, RemoteActor)]
#[remote(serves(Bench))]
struct BenchActor {
    taken: usize,
}

impl Actor for BenchActor {
    type Context = Context<Self>;
}

impl Handler<Echo> for BenchActor {
    type Result = Bytes;
    fn handle(&mut self, echo: Echo, _: &mut Context<Self>) -> Bytes {
        echo.body
    }
}

impl Handler<Take> for BenchActor {
    type Result = ();
    fn handle(&mut self, take: Take, _: &mut Context<Self>) {
        self.taken += take.body.len();
    }
}

pub(crate) fn run(task: &Task) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let in_place = task.system == "webmesh-in-place";
    local.block_on(&runtime, async {
        match task.role {
            Role::Server => serve(&task.workload, in_place).await,
            _ => {
                println!("{}", client(task, in_place).await);
                if task.workload == "idle" {
                    tokio::task::spawn_blocking(wait_for_parent).await.unwrap();
                }
            }
        }
    });
    std::process::exit(0);
}

async fn mesh(in_place: bool) -> Mesh {
    let builder = Mesh::builder().listen("127.0.0.1:0".parse().unwrap());
    let sessions_max = idle_connections() * 2;
    let builder = builder.service(webmesh::Service { sessions_max, ..Default::default() });
    let builder = if in_place { builder.in_place() } else { builder };
    builder.start().await.unwrap()
}

async fn serve(workload: &str, in_place: bool) {
    let mesh = mesh(in_place).await;
    let actor = mesh.spawn(BenchActor::default);
    mesh.publish("bench", &actor).allow(Anyone).await.unwrap();
    let before = resident_bytes();
    println!("{}", mesh.peer_ref());
    if workload == "idle" {
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
            .await
            .unwrap()
            .unwrap();
        println!("{}", (resident_bytes() - before) / idle_connections() as f64 / 1024.0);
    }
    tokio::task::spawn_blocking(wait_for_parent).await.unwrap();
}

async fn client(task: &Task, in_place: bool) -> f64 {
    let host: PeerRef = task.address.as_ref().unwrap().parse().unwrap();
    if task.workload == "idle" {
        let mut held = Vec::new();
        for _ in 0..idle_connections() {
            let builder =
                Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).in_place().serve(false);
            let builder = match task.system.as_str() {
                "webmesh-session" => builder.join(host.clone()),
                _ => builder,
            };
            let mesh = builder.start().await.unwrap();
            mesh.attached().await;
            mesh.connect(&host).await.unwrap();
            held.push(mesh);
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        std::mem::forget(held); // they stand until the process ends
        return idle_connections() as f64;
    }
    let mesh = mesh(in_place).await;
    let actor: ActorRef<Bench> = mesh.resolve("bench").at(&host).await.unwrap();
    match task.workload.as_str() {
        "flood" => {
            // Beside the flood of a socket that nobody reads, the same CPU time goes to the sender and to the kernel.
            let node = host.addresses()[0].to_string();
            let _flood = flood::start(if task.system == "webmesh" { &node } else { "sink" });
            pipeline(&actor).await
        }
        "pipeline" => pipeline(&actor).await,
        "ping" => {
            let body = Bytes::from(vec![7; PING_BYTES]);
            let mut times = Vec::with_capacity(PINGS);
            for _ in 0..PINGS {
                let start = Instant::now();
                actor.ask(Echo { body: body.clone() }).await.unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            p50(times)
        }
        "stream" => {
            let body = Bytes::from(vec![7; TELL_BYTES]);
            let start = Instant::now();
            for _ in 0..TELLS {
                actor.tell(Take { body: body.clone() }).await.unwrap();
            }
            actor.flush().await.unwrap();
            TELLS as f64 / start.elapsed().as_secs_f64()
        }
        "bulk" => {
            let body = Bytes::from(vec![7; 1 << 20]);
            let start = Instant::now();
            for _ in 0..BULK_MIB {
                actor.tell(Take { body: body.clone() }).await.unwrap();
            }
            actor.flush().await.unwrap();
            BULK_MIB as f64 / start.elapsed().as_secs_f64()
        }
        other => panic!("no workload {other}"),
    }
}

/// Asks a second with 64 of them in flight.
async fn pipeline(actor: &ActorRef<Bench>) -> f64 {
    let body = Bytes::from(vec![7; PING_BYTES]);
    let ask = || actor.ask(Echo { body: body.clone() });
    let start = Instant::now();
    let mut window: VecDeque<_> = (0..IN_FLIGHT).map(|_| ask()).collect();
    for answered in 0..PIPELINED {
        window.pop_front().unwrap().await.unwrap();
        if answered + IN_FLIGHT < PIPELINED {
            window.push_back(ask());
        }
    }
    PIPELINED as f64 / start.elapsed().as_secs_f64()
}
