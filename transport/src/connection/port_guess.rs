//! The shell of the birthday attempt (`nat::birthday`): many sockets on the symmetric side, many ports on the other.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

use crate::{
    nat::birthday::{Guesses, Purse},
    path::pulse::Pulse,
    shared::Shared,
    socket::udp::UdpWire,
    wire::{frame::FRAME_BYTES, rendezvous::PUNCH_BYTES, road::Road},
};

/// How long an attempt lasts (docs/reachability.md: enough for 99% of them).
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_secs(40);

/// Between two payments: each buys [`GUESSES_PER_PAYMENT`].
pub(crate) const PAY_EVERY: Duration = Duration::from_millis(400);

/// At ~200 a second a home router's table of connections isn't filled (a guess: a few thousand in its 30 s).
const GUESSES_PER_PAYMENT: usize = 80;
const GUESS_EVERY: Duration = Duration::from_millis(4);

/// NATs forget a mapping after 30 s (docs/measurements.md).
const REFRESH_EVERY: Duration = Duration::from_secs(10);

/// Sockets that are opened in one go, so that the network thread does something else in between.
const OPENED_AT_ONCE: usize = 16;

/// Sends to `target` from `count` fresh sockets, until something of the peer's comes to one of them, which is adopted, or
/// time is up.
pub(crate) async fn send_out(
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    target: SocketAddr,
    count: usize,
) {
    let (found, mut find) = mpsc::channel(1);
    let mut scouts = JoinSet::new();
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let attempt = async {
        for opened in 0..count {
            // No descriptors left: fewer must do.
            let Ok(socket) = UdpSocket::bind(SocketAddr::new(any, 0)).await else { break };
            scouts.spawn(scout(socket, pulse.clone(), target, found.clone()));
            if opened % OPENED_AT_ONCE == OPENED_AT_ONCE - 1 {
                shared.socket.sleep(Duration::from_millis(1)).await;
            }
        }
        drop(found);
        find.recv().await
    };
    let limit = shared.socket.sleep(ATTEMPT_MAX);
    let found = tokio::select! {
        biased;
        found = attempt => found,
        () = limit => None,
    };
    // All others are closed.
    drop(scouts);
    let Some((socket, from, frame)) = found else {
        tracing::debug!(%target, "no way through the own NAT was found");
        return;
    };
    let adopted = UdpWire::adopt(socket).ok().and_then(|wire| shared.socket.adopt(wire));
    if let Some(wire) = adopted {
        tracing::debug!(%target, "a way through the own NAT was found");
        pulse.received(&frame, Road { wire, remote: from, local: None, flow: None });
    }
}

type Found = (UdpSocket, SocketAddr, Vec<u8>);

async fn scout(
    socket: UdpSocket,
    pulse: Arc<Pulse>,
    target: SocketAddr,
    found: mpsc::Sender<Found>,
) {
    let mut room = [0; FRAME_BYTES + 1];
    loop {
        let _ = socket.send_to(&pulse.knock(), target).await;
        let refresh = tokio::time::sleep(REFRESH_EVERY);
        tokio::pin!(refresh);
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut room) => received,
                () = &mut refresh => break,
            };
            // An error says that an earlier datagram wasn't delivered.
            let Ok((count, from)) = received else { continue };
            if from.ip() == target.ip() && pulse.is_probe(&room[..count]) {
                let frame = room[..count].to_vec();
                let _ = found.send((socket, from, frame)).await;
                return;
            }
        }
    }
}

/// Guesses the ports of a symmetric peer, as many as it pays for.
#[derive(Debug)]
pub(crate) struct Guesser {
    ip: IpAddr,
    guesses: Guesses,
    purse: Purse,
}

impl Guesser {
    pub(crate) fn new(ip: IpAddr, guesses: Guesses) -> Self {
        Self { ip, guesses, purse: Purse::default() }
    }

    /// The addresses that a payment buys.
    pub(crate) fn paid(&mut self) -> Vec<SocketAddr> {
        self.purse.pay(PUNCH_BYTES as u64);
        let mut bought = Vec::new();
        while bought.len() < GUESSES_PER_PAYMENT && self.purse.spend(FRAME_BYTES as u64) {
            let Some(port) = self.guesses.next() else { break };
            bought.push(SocketAddr::new(self.ip, port));
        }
        bought
    }
}

/// Sends a probe to each of these, one after the other.
pub(crate) async fn guess(shared: Arc<Shared>, pulse: Arc<Pulse>, targets: Vec<SocketAddr>) {
    for remote in targets {
        let wire = shared.socket.handles().wire_to(remote);
        if let Some(wire) = wire {
            let road = Road { wire, remote, local: None, flow: None };
            shared.socket.send_frame(road, &pulse.knock());
        }
        shared.socket.sleep(GUESS_EVERY).await;
    }
}
