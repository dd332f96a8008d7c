//! The tasks of tunnels: dialling, accepting, and moving the bytes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    frame::Splitter,
    wire::{Place, Tunnels},
};
use crate::{
    ground::{
        sanitize::Excerpt,
        shortage::{RUNTIME_DESCRIPTORS, room_for, with_remedy},
    },
    quic::tls::{self, TunnelTls},
};

/// A tunnel through which nothing came for so long is closed. Twice the pause between probes and more.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// TCP's handshake and that of TLS take at most this each. A guess, as long as a dial over UDP may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Handshakes of others under way at a time. A guess.
pub(crate) const HALF_OPEN_MAX: usize = 128;

/// Tunnels from one address prefix (/24 of IPv4, /48 of IPv6). A guess: an office behind one firewall.
const TUNNELS_PER_NETWORK: usize = 64;

/// Bytes read at a time: a record of TLS.
const READ_BYTES: usize = 16 * 1024;

/// Descriptors that tunnels of others leave to this host, which looks at its interfaces, keeps versions of its PeerRef and starts threads of
/// actors. A guess: a thread's, and as many to look with.
const KEPT: u64 = 2 * RUNTIME_DESCRIPTORS;

/// How long to wait when no connection can be accepted: no file descriptors left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the log says so. A guess: it comes and goes with each stranger.
const SAID_EVERY: Duration = Duration::from_secs(600);

/// What the answer of a proxy may take, and how it begins.
const PROXY_ANSWER_MAX: usize = 4096;
const HTTP: &[u8] = b"HTTP/1.";

/// How long a proxy may take to connect. A guess: half of a dial, so that its silence is told before the dial ends.
const PROXY_WITHIN: Duration = Duration::from_secs(5);

/// Makes a tunnel to `remote`, by way of an HTTP proxy if one is set. Its far end.
pub(crate) async fn dial(
    tunnels: &Arc<Tunnels>,
    tls: &TunnelTls,
    remote: SocketAddr,
    proxy: Option<SocketAddr>,
) -> io::Result<SocketAddr> {
    if let Some(far_end) = tunnels.to(remote) {
        return Ok(far_end);
    }
    let connect = async {
        let stream = match proxy {
            Some(proxy) => by_way_of(proxy, remote).await?,
            None => TcpStream::connect(remote).await?,
        };
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(tls::server_name(None)).map_err(io::Error::other)?;
        TlsConnector::from(tls.client.clone()).connect(name, stream).await
    };
    let stream = timeout(HANDSHAKE_MAX, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let place = tunnels.open(remote, usize::MAX).ok_or(io::ErrorKind::QuotaExceeded)?;
    let far_end = place.far_end;
    tracing::debug!(%remote, "a tunnel stands");
    tokio::spawn(pump(tunnels.clone(), stream, place));
    Ok(far_end)
}

/// A stream to `remote` by way of a proxy; an error says what the proxy did.
async fn by_way_of(proxy: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let said = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it hung up without an answer".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("the proxy {proxy} is of no use: {what}"))
    };
    let asked = async {
        let mut stream = TcpStream::connect(proxy).await?;
        pass_proxy(&mut stream, remote).await?;
        Ok(stream)
    };
    match timeout(PROXY_WITHIN, asked).await {
        Ok(asked) => asked.map_err(said),
        Err(_) => {
            let within = PROXY_WITHIN.as_secs();
            let silence = format!("the proxy {proxy} is of no use: it is silent for {within} s");
            Err(io::Error::new(io::ErrorKind::TimedOut, silence))
        }
    }
}

/// Has a proxy connect the stream to `remote` (RFC 9110, section 9.3.6).
async fn pass_proxy(stream: &mut TcpStream, remote: SocketAddr) -> io::Result<()> {
    let request = format!("CONNECT {remote} HTTP/1.1\r\nHost: {remote}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER_MAX {
            return Err(io::Error::other("its answer is too long"));
        }
        // One by one, lest bytes of TLS be taken.
        answer.push(stream.read_u8().await?);
        if !answer.starts_with(&HTTP[..answer.len().min(HTTP.len())]) {
            return Err(io::Error::other("what it answers isn't HTTP"));
        }
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    match line.split(' ').nth(1) {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        Some("407") => Err(io::Error::other(
            "it wants a login (407), which Webmesh has none for; name a proxy without one",
        )),
        _ => Err(io::Error::other(format!("it refused ({})", Excerpt(&line)))),
    }
}

/// Takes tunnels of others until the endpoint is gone.
pub(crate) async fn accept_all(
    tunnels: std::sync::Weak<Tunnels>,
    tls: Arc<TunnelTls>,
    listener: TcpListener,
) {
    let half_open = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    let mut said: Option<Instant> = None;
    loop {
        let accepted = timeout(IDLE_MAX, listener.accept()).await;
        let Some(tunnels) = tunnels.upgrade() else { return };
        // Strangers don't get the last descriptors.
        let accepted = accepted.map(|accepted| accepted.and_then(|a| room_for(KEPT).map(|()| a)));
        let (stream, remote) = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(e)) => {
                if said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
                    said = Some(Instant::now());
                    tracing::warn!("no tunnel is taken at the moment: {}", with_remedy(&e));
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Err(_) => continue,
        };
        let Ok(slot) = half_open.clone().try_acquire_owned() else { continue };
        let acceptor = TlsAcceptor::from(tls.server.clone());
        tokio::spawn(async move {
            let Some(place) = tunnels.open(remote, TUNNELS_PER_NETWORK) else { return };
            let _ = stream.set_nodelay(true);
            let stream = timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
            drop(slot);
            if let Ok(Ok(stream)) = stream {
                pump(tunnels, stream, place).await;
            }
        });
    }
}

/// Moves datagrams both ways until one side ends.
async fn pump<S>(tunnels: Arc<Tunnels>, stream: S, place: Place)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        let (mut splitter, mut bytes) = (Splitter::default(), vec![0; READ_BYTES]);
        loop {
            let count = timeout(IDLE_MAX, reader.read(&mut bytes)).await;
            let count = count.map_err(|_| io::ErrorKind::TimedOut)??;
            if count == 0 {
                return Ok(());
            }
            let mut datagrams = Vec::new();
            let fed = splitter.feed(&bytes[..count], |datagram| datagrams.push(datagram.to_vec()));
            fed.map_err(io::Error::other)?;
            for datagram in datagrams {
                tunnels.received(place.far_end, datagram).await;
            }
        }
    };
    let write = async {
        while let Some(bytes) = place.queue.next().await {
            writer.write_all(&bytes).await?;
            writer.flush().await?;
        }
        io::Result::Ok(())
    };
    let ended: io::Result<()> = tokio::select! {
        ended = read => ended,
        ended = write => ended,
    };
    tracing::debug!(?ended, "a tunnel has ended");
}

#[cfg(test)]
mod tests {
    use quinn::udp::{RecvMeta, Transmit};
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::identity::SecretKey;

    fn side(n: u8) -> (Arc<Tunnels>, Arc<TunnelTls>) {
        let tls = TunnelTls::new(&SecretKey::from_bytes([n; 32])).unwrap();
        (Tunnels::new(StdRng::seed_from_u64(n.into())), Arc::new(tls))
    }

    async fn server(n: u8) -> (Arc<Tunnels>, SocketAddr) {
        let (tunnels, tls) = side(n);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept_all(Arc::downgrade(&tunnels), tls, listener));
        (tunnels, address)
    }

    fn send(tunnels: &Tunnels, destination: SocketAddr, contents: &[u8], segment: Option<usize>) {
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: segment, src_ip: None };
        tunnels.send(&transmit);
    }

    async fn receive(tunnels: &Tunnels) -> (SocketAddr, Vec<u8>) {
        let (mut room, mut metas) = ([0; 2000], [RecvMeta::default()]);
        let count = std::future::poll_fn(|cx| {
            tunnels.poll_recv(cx, &mut [io::IoSliceMut::new(&mut room)], &mut metas)
        });
        assert_eq!(count.await, 1);
        (metas[0].addr, room[..metas[0].len].to_vec())
    }

    #[tokio::test]
    async fn datagrams_pass_both_ways_and_a_batch_is_cut_up() {
        let (there, address) = server(1).await;
        let (here, tls) = side(2);
        let far_end = dial(&here, &tls, address, None).await.unwrap();
        send(&here, far_end, b"abcde", Some(2));
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(receive(&there).await);
        }
        let texts: Vec<_> = got.iter().map(|(_, text)| text.as_slice()).collect();
        assert_eq!(texts, [&b"ab"[..], b"cd", b"e"]);
        send(&there, got[0].0, b"back", None);
        assert_eq!(receive(&here).await, (far_end, b"back".to_vec()));
        assert_eq!(there.remote(got[0].0).unwrap().ip(), address.ip());
        assert_eq!(dial(&here, &tls, address, None).await.unwrap(), far_end, "one is enough");
    }

    #[tokio::test]
    async fn a_tunnel_that_ends_leaves_nothing_behind() {
        let (there, address) = server(1).await;
        let (here, tls) = side(2);
        let far_end = dial(&here, &tls, address, None).await.unwrap();
        // Too long for a datagram: the other side hangs up.
        let (client, raw) = (tls.client.clone(), TcpStream::connect(address).await.unwrap());
        let name = ServerName::try_from(tls::server_name(None)).unwrap();
        let mut raw = TlsConnector::from(client).connect(name, raw).await.unwrap();
        raw.write_all(&[0xff; 10]).await.unwrap();
        let _ = raw.read(&mut [0; 10]).await;
        // And one that doesn't even speak TLS.
        let mut garbage = TcpStream::connect(address).await.unwrap();
        garbage.write_all(&[0x42; 100]).await.unwrap();
        while garbage.read(&mut [0; 100]).await.is_ok_and(|count| count > 0) {}
        while there.count() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(here.remote(far_end).is_some());
        there.close_all();
        while here.count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(here.remote(far_end), None);
    }

    #[tokio::test]
    async fn a_proxy_is_asked_to_connect_and_may_refuse() {
        let (there, address) = server(1).await;
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = proxy.local_addr().unwrap();
        tokio::spawn(async move {
            let answers = ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"];
            for answer in answers {
                let (mut client, _) = proxy.accept().await.unwrap();
                let mut request = vec![0; 1000];
                let count = client.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                assert!(text.starts_with(&format!("CONNECT {address} HTTP/1.1\r\n")), "{text}");
                client.write_all(answer.as_bytes()).await.unwrap();
                if answer.contains("200") {
                    let mut server = TcpStream::connect(address).await.unwrap();
                    tokio::spawn(async move {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    });
                }
            }
        });
        let (here, tls) = side(2);
        let far_end = dial(&here, &tls, address, Some(at)).await.unwrap();
        send(&here, far_end, b"through", None);
        assert_eq!(receive(&there).await.1, b"through");
        let (other, tls) = side(3);
        let refused = dial(&other, &tls, address, Some(at)).await.unwrap_err().to_string();
        assert!(refused.contains("HTTP/1.1 403 Forbidden"), "{refused}");
    }

    #[tokio::test]
    async fn a_proxy_that_is_of_no_use_is_told_with_what_it_did() {
        let (here, tls) = side(3);
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let answers: [(&[u8], &str); 5] = [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants a login (407)"),
            (b"HTTP/1.1 502 \x1b[2JBad\r\n\r\n", "it refused (HTTP/1.1 502 \u{fffd}[2JBad)"),
            (b"SSH-2.0-garbage", "isn't HTTP"),
            (b"HTTP/1.1 200", "hung up without an answer"),
            (b"", "hung up without an answer"),
        ];
        for (answer, told) in answers {
            let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = proxy.local_addr().unwrap();
            let answering = tokio::spawn(async move {
                let (mut client, _) = proxy.accept().await.unwrap();
                let mut request = [0; 1000];
                let _ = client.read(&mut request).await;
                client.write_all(answer).await.unwrap();
            });
            let error = dial(&here, &tls, dead, Some(at)).await.unwrap_err().to_string();
            assert!(error.contains(&at.to_string()) && error.contains(told), "{error}");
            answering.await.unwrap();
        }
        let error = dial(&here, &tls, dead, Some(dead)).await.unwrap_err().to_string();
        assert!(error.contains(&format!("the proxy {dead} is of no use")), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_proxy_is_told_before_a_dial_ends() {
        let (here, tls) = side(3);
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap();
        let error = dial(&here, &tls, at, Some(at)).await.unwrap_err().to_string();
        assert!(error.contains("it is silent for 5 s"), "{error}");
    }
}
