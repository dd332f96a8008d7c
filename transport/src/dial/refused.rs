//! Whether the system of this host says that nobody listens at an address of its own: no handshake need be waited for then.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{net::UdpSocket, time::timeout};

use crate::{
    interfaces::may_be_own,
    shared::Shared,
    tunnel::is_far_end,
    wire::{frame, road::Road},
};

/// The system answers at once or not at all: what it asks itself goes along no wire. A guess, for a busy machine.
const ANSWER_MAX: Duration = Duration::from_millis(200);

/// Resolves when the system says of each of `roads` that nobody is there, with the last one's address; else never. A socket of its own asks for
/// each, for one that isn't connected hears of no such thing, and neither would a connected one of what others are sent.
pub(crate) async fn refused(shared: &Shared, roads: &[Road]) -> SocketAddr {
    let own = |road: &Road| {
        let ip = road.remote.ip();
        road.flow.is_none() && !is_far_end(road.remote) && (ip.is_loopback() || may_be_own(ip))
    };
    if shared.config.kernel
        && let Some(last) = roads.last()
        && roads.iter().all(own)
    {
        let asked = roads.iter().map(|road| timeout(ANSWER_MAX, is_refused(road.remote)));
        // What can't be asked isn't refused.
        if join_all(asked).await.into_iter().all(|answer| matches!(answer, Ok(Ok(true)))) {
            return last.remote;
        }
    }
    std::future::pending().await
}

/// Whether nobody is there. Does not return if somebody is who says nothing.
async fn is_refused(remote: SocketAddr) -> io::Result<bool> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(remote).await?;
    // Whoever knows what that is passes over it.
    socket.send(&frame::call(frame::OPENS)).await?;
    match socket.recv(&mut [0; 1]).await {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        heard => heard.map(|_| false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_of_nobody_is_refused_and_one_of_somebody_is_not() {
        let somebody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let there = somebody.local_addr().unwrap();
        assert!(timeout(ANSWER_MAX, is_refused(there)).await.is_err());
        let mut frame = [0; 64];
        let len = somebody.recv(&mut frame).await.unwrap();
        assert_eq!(frame::called(&frame[..len]), Some(frame::OPENS));
        drop(somebody);
        assert!(is_refused(there).await.unwrap());
    }
}
