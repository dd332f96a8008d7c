//! What keeping sessions costs in bytes, and what relaying costs: CPU time per GiB forwarded, against a bare forwarder and an endpoint that receives as much.
//!
//! `cargo bench -p webmesh-transport --bench relay` prints a table, `-- --json` one JSON object a line. Each figure is the
//! median of three interleaved rounds, in each of which a fresh process forwards (or receives) for two seconds what this
//! one sends over loopback, in batches of so many datagrams of 1,216 bytes. The bare forwarder reads with GRO and writes with
//! GSO through the same library and looks at nothing. The receiving endpoints are plain quinn, with its own socket, on one
//! thread, with the buffers and windows that suit it best, and one of ours; they get batches of up to ten, from a sender
//! whose CPU time isn't counted.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails should say so and end")]

#[path = "../../tests/hostile/attacker.rs"]
#[allow(dead_code, unreachable_pub)]
mod attacker;
mod guest;
mod keeping;
mod serve;

use quinn::udp::{Transmit, UdpSocketState};
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Length of a datagram: a header of the relay's, and a packet of QUIC's.
pub(crate) const DATAGRAM: usize = 1216;

/// How long is sent in each round.
const SENDING: Duration = Duration::from_secs(2);

const ROUNDS: usize = 3;

const PER_GIB: &str = "CPU s/GiB";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "as-server") {
        return serve::run(&args[1]);
    }
    let json = args.iter().any(|arg| arg == "--json");
    let (_, one) = keeping::hour(1);
    for sessions in [1, 2, 4] {
        let (datagrams, bytes) = keeping::hour(sessions);
        let case =
            format!("keeping sessions, r = {sessions}, {datagrams} datagrams, against r = 1");
        print(json, &case, "bytes/hour", bytes as f64, one as f64);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    let mut figures: Vec<(usize, Vec<f64>, Vec<f64>)> =
        [10, 4, 1].map(|segments| (segments, Vec::new(), Vec::new())).to_vec();
    for _ in 0..ROUNDS {
        plain.push(runtime.block_on(receiving("quinn")));
        ours.push(runtime.block_on(receiving("receiver")));
        for (segments, relay, bare) in &mut figures {
            relay.push(runtime.block_on(relaying(*segments)));
            bare.push(forwarding(*segments));
        }
    }
    for (segments, relay, bare) in figures {
        let against = |whom: &str, reference: &[f64]| {
            let case = format!("relay, {segments} segments, against {whom}");
            print(json, &case, PER_GIB, median(&relay), median(reference));
        };
        against("a bare forwarder", &bare);
        if segments == 10 {
            against("quinn receiving", &plain);
            against("an endpoint of ours receiving", &ours);
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(json: bool, case: &str, unit: &str, webmesh: f64, reference: f64) {
    let ratio = webmesh / reference;
    if json {
        println!(
            "{}",
            serde_json::json!({
                "case": case, "webmesh": webmesh,
                "reference": case.rsplit("against ").next(), "reference_value": reference,
                "unit": unit, "ratio": ratio,
            })
        );
    } else {
        println!("{case:60} {webmesh:6.2} / {reference:6.2} {unit} = {ratio:.2}");
    }
}

/// A process that serves.
struct Server {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    address: SocketAddr,
}

impl Server {
    fn start(kind: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["as-server", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.next().unwrap().unwrap().parse().unwrap();
        Self { process, lines, address }
    }

    /// Its CPU time so far in seconds, and the bytes it has forwarded or received.
    fn usage(&mut self) -> (f64, f64) {
        writeln!(self.process.stdin.as_mut().unwrap()).unwrap();
        let line = self.lines.next().unwrap().unwrap();
        let (cpu, bytes) = line.split_once(' ').unwrap();
        (cpu.parse().unwrap(), bytes.parse().unwrap())
    }

    /// CPU seconds per GiB while `work` is done.
    fn cost(mut self, work: impl FnOnce()) -> f64 {
        let before = self.usage();
        work();
        let after = self.usage();
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        (after.0 - before.0) / ((after.1 - before.1) / f64::from(1 << 30))
    }
}

/// Sends batches to `to` from `socket`, as fast as it goes.
fn send(socket: &UdpSocket, to: SocketAddr, token: &[u8], segments: usize) {
    let state = UdpSocketState::new(socket.into()).unwrap();
    let mut datagram = [&[8, 0, 0, 0, 0, 0, 0, 0], token].concat();
    datagram.resize(DATAGRAM, 0x41);
    let batch = datagram.repeat(segments);
    let transmit = Transmit {
        destination: to,
        ecn: None,
        contents: &batch,
        segment_size: (segments > 1).then_some(DATAGRAM),
        src_ip: None,
    };
    let start = Instant::now();
    while start.elapsed() < SENDING {
        if state.try_send(socket.into(), &transmit).is_err() {
            std::thread::yield_now();
        }
    }
}

/// What our relay costs.
async fn relaying(segments: usize) -> f64 {
    let server = Server::start("relay");
    let mut served = guest::Guest::of(8, server.address).await;
    let mut caller = guest::Guest::of(9, server.address).await;
    let token = caller.flow_to(&mut served, 8).await;
    let address = server.address;
    let socket = caller.socket.try_clone().unwrap();
    tokio::task::spawn_blocking(move || server.cost(|| send(&socket, address, &token, segments)))
        .await
        .unwrap()
}

/// What forwarding costs that looks at nothing.
fn forwarding(segments: usize) -> f64 {
    let mut server = Server::start("bare");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    UdpSocketState::new((&sink).into()).unwrap();
    sink.set_nonblocking(false).unwrap();
    writeln!(server.process.stdin.as_mut().unwrap(), "{}", sink.local_addr().unwrap()).unwrap();
    let drain = std::thread::spawn(move || {
        let mut room = vec![0; 65_536];
        while sink.recv(&mut room).is_ok() {}
    });
    let address = server.address;
    let cost = server.cost(|| send(&socket, address, &[7; 8], segments));
    drain.join().unwrap();
    cost
}

/// What receiving costs a process of this kind.
async fn receiving(kind: &str) -> f64 {
    let server = Server::start(kind);
    // Whoever isn't quinn alone wants to be greeted.
    let greeted = match kind {
        "quinn" => None,
        _ => Some(guest::Guest::of(9, server.address).await),
    };
    let attacker = attacker::Attacker::with_key(9);
    let connection = match &greeted {
        Some(guest) => guest.connection.clone(),
        None => attacker.dial(server.address).await.unwrap(),
    };
    let sending = tokio::spawn(async move {
        let mut stream = connection.open_uni().await.unwrap();
        let chunk = vec![0x41; 1 << 16];
        let start = Instant::now();
        while start.elapsed() < SENDING {
            stream.write_all(&chunk).await.unwrap();
        }
    });
    let wait = move || {
        while !sending.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let figure = tokio::task::spawn_blocking(move || server.cost(wait)).await.unwrap();
    drop((greeted, attacker));
    figure
}
