//! Whether a rendezvous that was named can be one at all: what would else show only after a dial, or never.

use std::net::SocketAddr;

use crate::{ground::address::canonical, identity::PeerId, interfaces, peer_ref::PeerRef};

/// Why a host can't attach to a rendezvous that was named. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It is the host itself, by its key or one of its addresses. Name another one.
    #[error("a node can't join itself: that is this host itself")]
    Myself,
}

/// The host that wants to join: its key, the addresses that it listens on and those that it advertises.
pub(crate) struct Joiner<'a> {
    pub(crate) peer: PeerId,
    pub(crate) locals: &'a [SocketAddr],
    pub(crate) named: &'a [SocketAddr],
}

impl Joiner<'_> {
    /// Whether it may join `target`. One that has expired still says which key must answer, and where that may be.
    pub(crate) fn check(&self, target: &PeerRef) -> Result<(), JoinError> {
        let myself = match target {
            PeerRef::Signed(signed) => signed.peer() == self.peer,
            PeerRef::Addresses(plain) => plain.addresses().iter().any(|there| self.is_at(*there)),
        };
        if myself { Err(JoinError::Myself) } else { Ok(()) }
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let ip = address.ip();
        let listens = |local: &SocketAddr| {
            local.port() == address.port()
                && (local.ip() == ip
                    || local.ip().is_unspecified()
                        && local.is_ipv4() == address.is_ipv4()
                        && (ip.is_loopback() || interfaces::has(ip)))
        };
        self.named.contains(&address) || self.locals.iter().any(listens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::SecretKey,
        peer_ref::{AddressRef, RefContent, SignedRef},
    };

    fn parse(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_known_by_its_key_its_sockets_and_what_it_advertises() {
        let peer = SecretKey::from_bytes([1; 32]).peer_id();
        let (locals, named) =
            ([parse("127.0.0.1:7"), parse("0.0.0.0:8")], [parse("203.0.113.7:9")]);
        let joiner = Joiner { peer, locals: &locals, named: &named };
        let at = |text| {
            let there = PeerRef::Addresses(AddressRef::new([parse(text)]).unwrap());
            joiner.check(&there).err()
        };
        for own in ["127.0.0.1:7", "127.0.0.1:8", "203.0.113.7:9"] {
            assert_eq!(at(own), Some(JoinError::Myself), "{own}");
        }
        for other in ["127.0.0.1:9", "127.0.0.2:7", "192.0.2.1:8", "[::1]:8", "203.0.113.7:8"] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn its_own_key_is_refused_and_an_expired_reference_of_another_is_not() {
        let joiner =
            Joiner { peer: SecretKey::from_bytes([1; 32]).peer_id(), locals: &[], named: &[] };
        let signed = |key| {
            let content = RefContent {
                version: 1,
                addresses: vec![parse("192.0.2.1:5")],
                rendezvous: Vec::new(),
                expires: 1_000_000,
            };
            let signed = SignedRef::sign(&SecretKey::from_bytes([key; 32]), content).unwrap();
            PeerRef::Signed(signed)
        };
        assert_eq!(joiner.check(&signed(2)), Ok(()));
        assert_eq!(joiner.check(&signed(1)), Err(JoinError::Myself));
    }
}
