//! The processes that are measured.

use crate::DATAGRAM;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use std::{
    io::{BufRead, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use webmesh_transport::{
    Endpoint, EndpointConfig, Link, LinkDown, Observer, PeerId, Relaying, SecretKey, Service,
    Threads,
};

/// More than any machine forwards.
const UNLIMITED: u64 = 1 << 40;

#[derive(Default)]
struct Reader {
    received: Arc<AtomicU64>,
}

impl Observer for Reader {
    /// Reads whatever comes.
    fn link_up(&self, link: Link) {
        let received = self.received.clone();
        tokio::spawn(async move {
            while let Ok(mut stream) = link.quic().accept_uni().await {
                while let Ok(Some(chunk)) = stream.read_chunk(1 << 20, true).await {
                    received.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
                }
            }
        });
    }
    fn link_draining(&self, _: Link) {}
    fn link_down(&self, _: Link, _: LinkDown) {}
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

pub(crate) fn run(kind: &str) {
    match kind {
        "bare" => return bare(),
        "quinn" => return plain(),
        _ => {}
    }
    let reader = Reader::default();
    let received = reader.received.clone();
    let relaying = Relaying {
        bytes_per_second: UNLIMITED,
        bytes_per_second_per_host: UNLIMITED,
        bytes_per_second_per_flow: UNLIMITED,
        ..Relaying::default()
    };
    let mut config = EndpointConfig::new(SecretKey::from_bytes([1; 32]));
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.service = Some(Service { relaying: Some(relaying), ..Service::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let threads = Arc::new(Threads::start().unwrap());
    let endpoint = runtime.block_on(Endpoint::bind(config, threads, Arc::new(reader))).unwrap();
    println!("{}", endpoint.local_addrs()[0]);
    for _ in std::io::stdin().lines() {
        println!("{} {}", cpu(), endpoint.relayed() + received.load(Ordering::Relaxed));
    }
}

/// CPU seconds of this process so far: fields 14 and 15 of /proc/self/stat, in ticks of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Socket buffers and windows with which quinn receives fastest on loopback (docs/measurements.md).
const BUFFER: usize = 4 << 20;
const WINDOW: u32 = 16 << 20;

/// quinn by itself: its own socket, one thread, nothing of ours.
fn plain() {
    let received = Arc::new(AtomicU64::new(0));
    let count = received.clone();
    let (ready, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let buffers = socket2::SockRef::from(&socket);
            buffers.set_recv_buffer_size(BUFFER).unwrap();
            buffers.set_send_buffer_size(BUFFER).unwrap();
            let mut transport = quinn::TransportConfig::default();
            transport.receive_window(WINDOW.into()).stream_receive_window(WINDOW.into());
            let endpoint = crate::attacker::server_with(1, socket, transport);
            ready.send(endpoint.local_addr().unwrap()).unwrap();
            while let Some(incoming) = endpoint.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let connection = incoming.await.unwrap();
                    while let Ok(mut stream) = connection.accept_uni().await {
                        while let Ok(Some(chunk)) = stream.read_chunk(1 << 20, true).await {
                            count.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    });
    println!("{}", address.recv().unwrap());
    for _ in std::io::stdin().lines() {
        println!("{} {}", cpu(), received.load(Ordering::Relaxed));
    }
}

/// Forwards all that comes to the address on the first line of standard input.
fn bare() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let state = UdpSocketState::new((&socket).into()).unwrap();
    println!("{}", socket.local_addr().unwrap());
    let mut lines = std::io::stdin().lock().lines();
    let to: SocketAddr = lines.next().unwrap().unwrap().parse().unwrap();
    socket.set_nonblocking(false).unwrap();
    let forwarded = Arc::new(AtomicU64::new(0));
    let count = forwarded.clone();
    std::thread::spawn(move || {
        let mut rooms = vec![vec![0; 65_536]; 8];
        loop {
            let mut bufs: Vec<_> = rooms.iter_mut().map(|room| IoSliceMut::new(room)).collect();
            let mut metas = vec![RecvMeta::default(); bufs.len()];
            let Ok(batches) = state.recv((&socket).into(), &mut bufs, &mut metas) else { continue };
            for (room, meta) in rooms.iter().zip(&metas[..batches]) {
                let transmit = Transmit {
                    destination: to,
                    ecn: None,
                    contents: &room[..meta.len],
                    segment_size: (meta.len > DATAGRAM).then_some(meta.stride),
                    src_ip: None,
                };
                if state.try_send((&socket).into(), &transmit).is_ok() {
                    count.fetch_add(meta.len as u64, Ordering::Relaxed);
                }
            }
        }
    });
    for _ in lines {
        println!("{} {}", cpu(), forwarded.load(Ordering::Relaxed));
    }
}
