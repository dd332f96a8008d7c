//! Whether the way to somebody who doesn't answer takes as much as QUIC needs. RFC 9000, section 14.1: 1,200 bytes.
//!
//! A socket that isn't connected hears nothing of what routers say (ICMP, RFC 1191), so each address is asked from a connected one, which the system
//! tells that a datagram was too long. Where routers say nothing, or nobody passes that on, the other side may show it: a Webmesh host answers what
//! names a connection that it doesn't know (`socket::unknown`), whatever its length. If it answers short frames and none of those of 1,200 bytes, the way is too
//! narrow. Of the way back only the first kind of evidence is had, on the other side.
//! docs/decisions/0031-what-the-way-takes.md.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use quinn::udp::UdpSocketState;
use rand::RngExt;
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    path::candidates::CANDIDATES_MAX,
    shared::Shared,
    socket::{
        narrow::{NEEDED, TOO_LONG},
        unknown::{UNKNOWN_BYTES, Unknown},
    },
    wire::frame::{FRAME_BYTES, PROBE, SIZING, Tag},
};

/// A dial that has had no answer for so long asks. A guess: by then most handshakes are complete, and the first packet has been repeated.
const ASK_AFTER: Duration = Duration::from_millis(1500);

/// An answer is waited for so long before more is sent. A guess, beyond most round trips.
const ANSWER_MAX: Duration = Duration::from_millis(400);

/// Short frames without an answer, each of which may be lost, before nobody counts as being there. A guess.
const SHORT_MAX: usize = 3;

/// Long ones without an answer, where short ones were answered. Where one datagram in ten is lost each way, so many are lost by chance once in
/// 20,000 dials.
const LONG_MAX: usize = 6;

/// Waits until the dial should have had an answer, and says which of these addresses is at the end of a way that takes too little.
pub(crate) async fn too_narrow(shared: &Shared, addresses: &[SocketAddr]) -> Option<SocketAddr> {
    if !shared.config.kernel {
        return None;
    }
    shared.socket.sleep(ASK_AFTER).await;
    // One dial at a time: each takes as many sockets as it has addresses. If that lasts, the dial ends without an answer to this.
    let _turn = shared.measuring.lock().await;
    let mut ways: FuturesUnordered<_> = addresses
        .iter()
        .take(CANDIDATES_MAX)
        .filter_map(|at| Some((local_to(shared, *at)?, *at)))
        .map(|(local, at)| async move { (at, is_narrow(local, at).await) })
        .collect();
    while let Some((at, narrow)) = ways.next().await {
        if matches!(narrow, Ok(true)) {
            return Some(at);
        }
    }
    None
}

/// From where the endpoint itself sends there: what listens on one address alone asks from no other. `None`: it doesn't send there.
fn local_to(shared: &Shared, remote: SocketAddr) -> Option<SocketAddr> {
    let wire = shared.socket.handles().wire_to(remote)?;
    let mut local = shared.socket.wires().get(wire)?.local_addr();
    local.set_port(0);
    Some(local)
}

/// Whether the way there is too narrow, as far as it shows. An error says nothing of it.
async fn is_narrow(local: SocketAddr, remote: SocketAddr) -> io::Result<bool> {
    let socket = UdpSocket::bind(local).await?;
    // Forbids fragmentation.
    UdpSocketState::new((&socket).into())?;
    socket.connect(remote).await?;
    let outcome = ask(&socket).await;
    match outcome {
        Err(e) if e.raw_os_error() == Some(TOO_LONG) => Ok(true),
        outcome => outcome,
    }
}

async fn ask(socket: &UdpSocket) -> io::Result<bool> {
    let [short, long]: [Tag; 2] = rand::rng().random();
    // For the sake of routers that say that it is too long.
    socket.send(&frame(SIZING, long, NEEDED)).await?;
    let mut heard = None;
    for _ in 0..SHORT_MAX {
        socket.send(&frame(PROBE, short, FRAME_BYTES)).await?;
        heard = answer(socket, [short, long]).await?;
        if heard.is_some() {
            break;
        }
    }
    if heard != Some(short) {
        return Ok(false);
    }
    for _ in 0..LONG_MAX {
        socket.send(&frame(SIZING, long, NEEDED)).await?;
        // A late answer to a short one says nothing new.
        if answer(socket, [long; 2]).await?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A frame of this kind for a connection that nobody knows.
fn frame(kind: u8, tag: Tag, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    frame[0] = kind;
    frame[1..9].copy_from_slice(&tag);
    frame
}

/// Which of these the other side says that it doesn't know.
async fn answer(socket: &UdpSocket, tags: [Tag; 2]) -> io::Result<Option<Tag>> {
    let listen = async {
        let mut room = [0; UNKNOWN_BYTES + 1];
        loop {
            let length = socket.recv(&mut room).await?;
            match Unknown::decode(&room[..length]) {
                Some(Unknown::Tag(tag)) if tags.contains(&tag) => return Ok(tag),
                _ => {}
            }
        }
    };
    timeout(ANSWER_MAX, listen).await.ok().transpose()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Answers frames of up to this length as a host does that knows none of the connections they name.
    async fn host_at_the_end_of(width: usize) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut room = [0; 2000];
            loop {
                let (length, from) = socket.recv_from(&mut room).await.unwrap();
                if length <= width {
                    let tag = crate::wire::frame::Frame::tag(&room[..length]).unwrap();
                    socket.send_to(&Unknown::Tag(tag).encode(), from).await.unwrap();
                }
            }
        });
        (address, answering)
    }

    #[tokio::test]
    async fn a_way_is_narrow_if_short_frames_are_answered_and_long_ones_never() {
        for (width, narrow) in [(NEEDED, false), (NEEDED - 1, true), (10, false)] {
            let (address, answering) = host_at_the_end_of(width).await;
            assert_eq!(is_narrow(HERE, address).await.unwrap(), narrow, "{width}");
            answering.abort();
        }
    }

    #[tokio::test]
    async fn where_nobody_is_or_nobody_answers_the_way_says_nothing() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        assert!(!is_narrow(HERE, address).await.unwrap());
        let mut count = [0, 0];
        while let Ok(length) = silent.try_recv(&mut [0; 2000]) {
            count[usize::from(length == NEEDED)] += 1;
        }
        assert_eq!(count, [SHORT_MAX, 1], "what a stranger gets of it");
        drop(silent);
        assert!(!is_narrow(HERE, address).await.unwrap_or(false), "refused");
    }
}
