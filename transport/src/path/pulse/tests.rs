use std::{collections::HashMap, net::UdpSocket};

use actix::{Actor, Context, Handler};

use super::*;
use crate::{
    limits::{InitialGate, Limits},
    placement::InPlace,
    quic::cid::Cids,
    socket::{
        mesh_socket::{ForOthers, Wire},
        udp::UdpWire,
    },
};

/// Takes orders for a connection that there isn't.
struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
}

impl Handler<LinkOrder> for Deaf {
    type Result = ();
    fn handle(&mut self, _: LinkOrder, _: &mut Context<Self>) {}
}

const KEY: [u8; 16] = [7; 16];

/// The probes of a connection whose road leads to `remote`.
async fn pulse_to(remote: SocketAddr, orders: actix::WeakRecipient<LinkOrder>) -> Arc<Pulse> {
    let wire = UdpWire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    wire.writable().await.unwrap();
    let socket = MeshSocket::new(
        vec![Wire::Udp(wire)],
        Arc::new(Cids::new([0; 16], Some(1))),
        InitialGate::new(&Limits::default()),
        Box::new(Pulses::default()),
        ForOthers { relay: None, observatory: None },
        &InPlace::new(1).unwrap(),
        Some(1),
    );
    let socket = Arc::new_cyclic(|this| socket.with(this));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
    let secrets = Secrets { key, to_dialler: [1; 8], to_other: [2; 8], rank: [0; 16] };
    let road = Road { wire: 0, remote, local: None, flow: None };
    let peer = crate::identity::SecretKey::from_bytes([1; 32]).peer_id();
    let handle = "[fd77::1]:1".parse().unwrap();
    let nonces = Nonces::new(KEY);
    Arc::new(Pulse::new((1, peer), &secrets, true, handle, road, socket, orders, nonces, None))
}

#[test]
fn what_the_core_says_is_done_in_its_order_whichever_threads_change_it() {
    const PROBES: usize = 3000;
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    there.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let remote = there.local_addr().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut nonces, mut room) = (Vec::new(), [0; 2000]);
        while let Ok(length) = there.recv(&mut room) {
            if length >= FRAME_BYTES {
                nonces.push(u64::from_be_bytes(room[9..17].try_into().unwrap()));
            }
        }
        nonces
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let actor = Deaf.start();
        let pulse = pulse_to(remote, actor.downgrade().recipient()).await;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..PROBES / 3).for_each(|_| pulse.probe()));
            }
        });
    });
    let mut core = Nonces::new(KEY);
    let drawn: HashMap<u64, usize> = (0..4 * PROBES).map(|n| (core.next(), n)).collect();
    let received = reading.join().unwrap();
    // Some may be lost on a busy machine, as anywhere.
    assert!(received.len() > PROBES / 10, "{}", received.len());
    let places: Vec<_> = received.iter().map(|nonce| drawn[nonce]).collect();
    assert!(places.is_sorted(), "sent in another order than the core said");
}
