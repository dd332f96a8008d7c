//! A raw client of a rendezvous, whose socket is at hand.

use crate::attacker::Attacker;
use std::net::{SocketAddr, UdpSocket};
use webmesh_transport::{InstanceId, SecretKey, hello::Hello};

pub(crate) struct Guest {
    _attacker: Attacker,
    pub(crate) connection: quinn::Connection,
    pub(crate) socket: UdpSocket,
    tx: quinn::SendStream,
    rx: quinn::RecvStream,
}

impl Guest {
    pub(crate) async fn of(n: u8, server: SocketAddr) -> Self {
        let (attacker, socket) = Attacker::with_key_and_socket(n);
        let connection = attacker.dial(server).await.unwrap();
        let (mut tx, mut rx) = connection.open_bi().await.unwrap();
        let hello = Hello { instance: InstanceId(1), features: 0, reference: None };
        tx.write_all(&[vec![0], hello.encode()].concat()).await.unwrap();
        let mut length = [0; 2];
        rx.read_exact(&mut length).await.unwrap();
        let mut theirs = vec![0; u16::from_be_bytes(length).into()];
        rx.read_exact(&mut theirs).await.unwrap();
        Self { _attacker: attacker, connection, socket, tx, rx }
    }

    async fn say(&mut self, body: &[u8]) {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        self.tx.write_all(&[&[0x10], &length[..], body].concat()).await.unwrap();
    }

    async fn hear(&mut self) -> Vec<u8> {
        let mut byte = [0];
        while byte != [0x10] {
            self.rx.read_exact(&mut byte).await.unwrap();
        }
        let mut length = [0; 2];
        self.rx.read_exact(&mut length).await.unwrap();
        let mut body = vec![0; u16::from_be_bytes(length).into()];
        self.rx.read_exact(&mut body).await.unwrap();
        body
    }

    /// The token of a flow to `served`, whose key is `n`.
    pub(crate) async fn flow_to(&mut self, served: &mut Guest, n: u8) -> Vec<u8> {
        served.say(&[1]).await;
        served.hear().await;
        let target = SecretKey::from_bytes([n; 32]).peer_id();
        self.say(&[&[6, 0, 0, 0, 7], &target.as_bytes()[..], &[0, 0]].concat()).await;
        let introduced = self.hear().await;
        introduced[introduced.len() - 40..introduced.len() - 32].to_vec()
    }
}
