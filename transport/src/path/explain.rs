//! How a peer is reached, and why not better, in plain words.

use std::{net::SocketAddr, time::Duration};

use serde::{Serialize, Serializer};

use super::roads::Described;
use crate::{
    identity::PeerId,
    nat::{Mapping, NatClass},
    path::kind::PathKind,
};

/// How a peer is reached, and why not better.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The peer.
    pub peer: PeerId,
    /// The kind of the road in use.
    pub path: PathKind,
    /// The peer's address on it, or that of the relay.
    pub via: SocketAddr,
    /// Its round-trip time by our own probes, if it was measured.
    pub rtt: Option<Duration>,
    /// The NAT in front of this host, from what others see of it.
    pub own_nat: NatClass,
    /// That in front of the peer, in its own words.
    pub peer_nat: Option<NatClass>,
    /// Why this road and no better one.
    pub reason: String,
    /// Every road that is known, the one in use included.
    pub candidates: Vec<Candidate>,
}

/// A road to the peer.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Where it leads: the peer's address, or that of the relay.
    pub address: SocketAddr,
    /// What it would be.
    pub path: PathKind,
    /// Whether it is in use.
    pub in_use: bool,
    /// Its round-trip time, if it ever answered.
    #[serde(rename = "rtt_ms", serialize_with = "milliseconds")]
    pub rtt: Option<Duration>,
    /// Why it is, or isn't, in use.
    pub why: String,
}

fn milliseconds<S: Serializer>(rtt: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    rtt.map(|rtt| rtt.as_micros() as f64 / 1000.0).serialize(to)
}

impl Candidate {
    /// `original` is what the address stands for, if a NAT64 is on the way.
    pub(crate) fn new(
        described: &Described,
        address: SocketAddr,
        path: PathKind,
        original: Option<SocketAddr>,
    ) -> Self {
        let Described { active, proven, rtt, unanswered, .. } = *described;
        let relayed = matches!(path, PathKind::RelayUdp | PathKind::RelayTls);
        let why = match (active, proven, unanswered) {
            (true, ..) => "in use".to_owned(),
            (_, true, 0) if relayed => "kept beside, should the road in use fail".to_owned(),
            (_, true, 0) => "works, and is no better than the one in use".to_owned(),
            (_, true, 1) => "has answered before, but not to the last probe".to_owned(),
            (_, true, n) => format!("has answered before, but not to the last {n} probes"),
            (_, false, 0) => "not tried yet".to_owned(),
            (_, false, 1) => "no answer to one probe".to_owned(),
            (_, false, n) => format!("no answer to {n} probes"),
        };
        let why = match original {
            Some(original) => format!("{why} ({original} through the NAT64 of this network)"),
            None => why,
        };
        Self { address, path, in_use: active, rtt, why }
    }
}

/// Why the road in use is what it is. `tried` direct roads are known; `neighbours` have the same outside address;
/// `confirmed`: a rendezvous of this host's own sees the peer, without which no ports are guessed.
pub(crate) fn reason(
    path: PathKind,
    own: NatClass,
    peer: Option<NatClass>,
    tried: usize,
    neighbours: bool,
    confirmed: bool,
) -> String {
    let dependent = |class: NatClass| class.is_symmetric();
    let theirs = peer.is_some_and(dependent);
    match path {
        PathKind::Direct => "the peer's own address answers".to_owned(),
        PathKind::Punched => "both sides sent at once, which opened the NATs between them".to_owned(),
        PathKind::RelayTls => {
            "no address answers over UDP, which is blocked in this network: a tunnel of TLS over TCP is used".to_owned()
        }
        PathKind::RelayUdp if dependent(own) && theirs => {
            "both NATs are symmetric: each gives every destination another port, so that neither side can be told where \
             to send"
                .to_owned()
        }
        PathKind::RelayUdp if dependent(own) || theirs => {
            let (whose, other) =
                if theirs { ("the peer's", Some(own)) } else { ("this host's", peer) };
            let unknown = other.is_none_or(|other| other.mapping == Mapping::Unknown);
            let doubt = if unknown { " seems to let" } else { " lets" };
            let guesses = if confirmed {
                "so that neither guesses the right port"
            } else {
                "and ports are guessed only where a rendezvous of this host's own (--join) sees the peer"
            };
            format!(
                "{whose} NAT is symmetric (it gives every destination another port) and the other side's{doubt} in only \
                 whom it has sent to, {guesses}"
            )
        }
        PathKind::RelayUdp if neighbours => {
            "both hosts are behind the same router, or the same carrier's: it doesn't turn round what one of them sends to the \
             other's outside address, and the network inside keeps them apart"
                .to_owned()
        }
        PathKind::RelayUdp if tried == 0 => {
            "the peer has named no address that could be tried: its network may block UDP".to_owned()
        }
        PathKind::RelayUdp if tried == 1 => {
            "the only address that could be tried doesn't answer: a NAT or a firewall on either side lets nothing in".to_owned()
        }
        PathKind::RelayUdp => format!(
            "none of {tried} addresses answers: a NAT or a firewall on either side lets nothing in"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_rendezvous_of_its_own_is_told_that_this_is_why_no_ports_are_guessed() {
        let of = |mapping| NatClass { mapping, ..NatClass::default() };
        let (own, peer) = (of(Mapping::EndpointIndependent), of(Mapping::AddressDependent));
        let why = |confirmed| reason(PathKind::RelayUdp, own, Some(peer), 1, false, confirmed);
        assert!(why(false).contains("--join"), "{}", why(false));
        assert!(why(true).contains("neither guesses") && !why(true).contains("--join"));
    }
}
