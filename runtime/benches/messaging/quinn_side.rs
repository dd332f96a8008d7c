//! The reference: raw quinn with the best settings found, moving the same bytes.
//!
//! `quinn` drives endpoint and streams on one current-thread runtime, `quinn-multi-thread` on tokio's default; both with
//! 4 MiB socket buffers, and the windows and the frequency of acknowledgements of a Webmesh connection.

use crate::process::{Role, Task, resident_bytes, wait_for_parent};
use quinn::rustls;
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// Bytes of one tell of 100 B on Webmesh's wire: what the reference moves for each of its messages.
pub(crate) const TELL_WIRE_BYTES: usize = crate::mesh_side::TELL_WIRE_BYTES;
pub(crate) const PING_BYTES: usize = 64;
pub(crate) const PINGS: usize = 10_000;
pub(crate) const TELLS: usize = 2_000_000;
pub(crate) const PIPELINED: usize = 300_000;
pub(crate) const IN_FLIGHT: usize = 64;
pub(crate) const BULK_MIB: usize = 1_000;
const IDLE_CONNECTIONS: usize = 1_000;

/// Idle connections whose memory is measured; the environment variable `IDLE` says another number.
pub(crate) fn idle_connections() -> usize {
    let asked = std::env::var("IDLE").ok().and_then(|idle| idle.parse().ok());
    asked.unwrap_or(IDLE_CONNECTIONS)
}

pub(crate) fn run(task: &Task) {
    let mut builder = match task.system.as_str() {
        "quinn-multi-thread" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().unwrap();
    match task.role {
        // Reads its standard input itself.
        Role::Server if task.workload == "idle" => runtime.block_on(serve(task.workload.clone())),
        Role::Server => {
            let workload = task.workload.clone();
            std::thread::spawn(move || runtime.block_on(serve(workload)));
            wait_for_parent();
        }
        _ => {
            let address = task.address.as_ref().unwrap().parse().unwrap();
            runtime.block_on(async {
                let endpoint = endpoint(None);
                println!("{}", client(&endpoint, address, &task.workload).await);
                if task.workload == "idle" {
                    tokio::task::spawn_blocking(wait_for_parent).await.unwrap();
                }
            });
        }
    }
    std::process::exit(0);
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut config = quinn::TransportConfig::default();
    // As Webmesh's: 3 to 12% more requests.
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(8u32.into())
        .max_ack_delay(Some(std::time::Duration::from_millis(5)));
    config
        .ack_frequency_config(Some(acks))
        .stream_receive_window((16u32 << 20).into())
        .receive_window((64u32 << 20).into())
        .send_window(64 << 20)
        .max_idle_timeout(None);
    Arc::new(config)
}

fn socket() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(4 << 20).unwrap();
    options.set_send_buffer_size(4 << 20).unwrap();
    socket
}

fn endpoint(server: Option<quinn::ServerConfig>) -> quinn::Endpoint {
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), server, socket(), runtime).unwrap()
}

fn server_config() -> quinn::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(KEY.to_vec());
    let key = rustls::crypto::ring::sign::any_eddsa_type(&der).unwrap();
    let spki = key.public_key().unwrap().to_vec();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(vec![spki.into()], key));
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(
            certified,
        )));
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    config
}

fn client_config() -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey))
        .with_no_client_auth();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    config
}

async fn serve(workload: String) {
    let endpoint = endpoint(Some(server_config()));
    println!("{}", endpoint.local_addr().unwrap());
    if workload == "idle" {
        return serve_idle(endpoint).await;
    }
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    serve_connection(connection, &workload).await;
}

/// Serves one workload on the first stream of a connection.
pub(crate) async fn serve_connection(connection: quinn::Connection, workload: &str) {
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    match workload {
        // Echo: each request is answered as soon as it is whole; requests that came together go back together.
        "ping" | "pipeline" => {
            let mut pending = Vec::new();
            while let Ok(Some(chunk)) = receive.read_chunk(1 << 20, true).await {
                pending.extend_from_slice(&chunk.bytes);
                let whole = pending.len() / PING_BYTES * PING_BYTES;
                send.write_all(&pending[..whole]).await.unwrap();
                pending.drain(..whole);
            }
        }
        "stream" | "bulk" => {
            let total = if workload == "bulk" { BULK_MIB << 20 } else { TELLS * TELL_WIRE_BYTES };
            let mut got = 0;
            while got < total {
                got += receive.read_chunk(1 << 20, true).await.unwrap().unwrap().bytes.len();
            }
            send.write_all(&[1]).await.unwrap();
        }
        other => panic!("no workload {other}"),
    }
    connection.closed().await;
}

async fn serve_idle(endpoint: quinn::Endpoint) {
    let before = resident_bytes();
    let (tx, mut held) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let tx = tx.clone();
            tokio::spawn(async move {
                let _ = tx.send(incoming.await.unwrap());
            });
        }
    });
    let mut connections = Vec::new();
    while connections.len() < idle_connections() {
        connections.push(held.recv().await.unwrap());
    }
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
        .await
        .unwrap()
        .unwrap();
    println!("{}", (resident_bytes() - before) / idle_connections() as f64 / 1024.0);
    wait_for_parent();
}

async fn client(endpoint: &quinn::Endpoint, address: SocketAddr, workload: &str) -> f64 {
    let config = client_config();
    let connect = || endpoint.connect_with(config.clone(), address, "reference.invalid").unwrap();
    if workload == "idle" {
        let mut connections = Vec::new();
        for _ in 0..idle_connections() {
            connections.push(connect().await.unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        std::mem::forget(connections); // they stand until the process ends
        return idle_connections() as f64;
    }
    let connection = connect().await.unwrap();
    measure(&connection, workload).await
}

/// Measures one workload on a stream of a connection.
pub(crate) async fn measure(connection: &quinn::Connection, workload: &str) -> f64 {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    match workload {
        "ping" => {
            let mut buffer = [7; PING_BYTES];
            let mut times = Vec::with_capacity(PINGS);
            for _ in 0..PINGS {
                let start = Instant::now();
                send.write_all(&buffer).await.unwrap();
                receive.read_exact(&mut buffer).await.unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            p50(times)
        }
        "pipeline" => {
            let start = Instant::now();
            let (mut sent, mut answered, mut partial) = (0, 0, 0);
            let batch = vec![7; PING_BYTES * IN_FLIGHT];
            while answered < PIPELINED {
                let room = (IN_FLIGHT - (sent - answered)).min(PIPELINED - sent);
                if room > 0 {
                    send.write_all(&batch[..room * PING_BYTES]).await.unwrap();
                    sent += room;
                }
                partial += receive.read_chunk(1 << 20, true).await.unwrap().unwrap().bytes.len();
                answered += partial / PING_BYTES;
                partial %= PING_BYTES;
            }
            PIPELINED as f64 / start.elapsed().as_secs_f64()
        }
        "stream" => {
            let batch = vec![7; 32 * 1024 / TELL_WIRE_BYTES * TELL_WIRE_BYTES];
            let mut left = TELLS * TELL_WIRE_BYTES;
            let start = Instant::now();
            while left > 0 {
                let now = left.min(batch.len());
                send.write_all(&batch[..now]).await.unwrap();
                left -= now;
            }
            receive.read_exact(&mut [0]).await.unwrap();
            TELLS as f64 / start.elapsed().as_secs_f64()
        }
        "bulk" => {
            let body = bytes::Bytes::from(vec![7; 1 << 20]);
            let start = Instant::now();
            for _ in 0..BULK_MIB {
                send.write_chunk(body.clone()).await.unwrap();
            }
            receive.read_exact(&mut [0]).await.unwrap();
            BULK_MIB as f64 / start.elapsed().as_secs_f64()
        }
        other => panic!("no workload {other}"),
    }
}

pub(crate) fn p50(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A key of the reference server, PKCS #8; it protects nothing.
const KEY: [u8; 48] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
];

/// The reference's client accepts any key: the handshake isn't part of what is measured.
#[derive(Debug)]
struct AnyKey;

impl rustls::client::danger::ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
