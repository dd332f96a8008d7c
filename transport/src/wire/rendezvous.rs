//! The messages between a host and a rendezvous, and between two hosts that have met, as docs/wire-transport.md lists
//! them.
//!
//! Each is the body of one note on the link stream. As in a PeerRef, a content has exactly one encoding, and what isn't
//! in that form is refused rather than corrected.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::{
    identity::PeerId,
    peer_ref::{
        ADDRESSES_MAX, ContentError, RendezvousPoint,
        codec::{DecodeError, Reader, put_addresses, put_points},
    },
};

/// The longest body, which is one kind byte and the fields. The longest message, four alternatives in all their
/// addresses, takes 1,354 bytes.
pub(crate) const BODY_BYTES_MAX: usize = 2048;

/// Other rendezvous that a parting or full one names. A guess: more than a host keeps sessions with.
pub(crate) const ALTERNATIVES_MAX: usize = 4;

/// Flows whose end is told at once. A guess: half of what fits.
pub(crate) const FLOWS_DEAD_MAX: usize = 128;

/// Bytes in which a host says what kind of NAT it is behind. A guess, several times what the classes need.
pub(crate) const CLASS_BYTES_MAX: usize = 32;

/// Why a message was refused; the link ends with the text as its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a message of {0} bytes is refused")]
    Length(usize),
    #[error("{0} isn't a kind of message")]
    Kind(u8),
    #[error("{0} isn't a reason")]
    Reason(u8),
    #[error("{0} is neither yes nor no")]
    Flag(u8),
    #[error("the padding is not as it should be")]
    Padding,
    #[error("{0} bytes on a NAT are refused")]
    Class(usize),
    #[error("{0} ended flows are refused")]
    Flows(u8),
    #[error("the content is refused: {0}")]
    Content(#[from] DecodeError),
}

impl From<ContentError> for MessageError {
    fn from(fault: ContentError) -> Self {
        Self::Content(fault.into())
    }
}

/// Where a host may be found, and what its NAT is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Candidates {
    /// The preferred one first; at most [`ADDRESSES_MAX`], each once.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What kind of NAT the host believes to be behind, in the form of the punch planner; empty if it doesn't know.
    pub(crate) class: Vec<u8>,
}

/// One end of a flow through the relay of a rendezvous.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Names this end in each frame.
    pub(crate) token: u64,
    /// Proves to the relay whose address an address is.
    pub(crate) key: [u8; 32],
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(..)")
    }
}

/// What a rendezvous grants a host that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The session ends after this unless it is reserved anew. Whole seconds, up to 2^32 - 1.
    pub(crate) lifetime: Duration,
    /// Introductions to this host that are forwarded in a minute, at most.
    pub(crate) introductions_per_minute: u16,
    /// Flows of this host at a time, at most; 0 if the rendezvous doesn't relay.
    pub(crate) flows_max: u16,
    /// Bytes relayed per second over all flows of this host, at most.
    pub(crate) relayed_per_second: u64,
    /// The TCP port at which the rendezvous takes tunnels, on its own addresses; 0 if it takes none.
    pub(crate) tls_port: u16,
    /// Another UDP port of the rendezvous, from which a probe is answered with the address that it came from; 0 if there is
    /// none.
    pub(crate) observation_port: u16,
}

/// Why a rendezvous doesn't do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It doesn't serve as a rendezvous.
    NotServing,
    /// It has as many sessions as it holds, in all or of this network.
    Full,
    /// It was asked too often; later it will do it.
    Throttled,
    /// The host that is looked for has no session here.
    NotHere,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotServing => "it doesn't serve as a rendezvous",
            Self::Full => "it serves as many hosts as it can",
            Self::Throttled => "it was asked too often",
            Self::NotHere => "the host isn't attached to it",
        })
    }
}

impl Refusal {
    const ALL: [Self; 4] = [Self::NotServing, Self::Full, Self::Throttled, Self::NotHere];

    fn byte(self) -> u8 {
        match self {
            Self::NotServing => 1,
            Self::Full => 2,
            Self::Throttled => 3,
            Self::NotHere => 4,
        }
    }
}

/// What is said about rendezvous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// To a rendezvous: serve me; or, repeated, go on with it.
    Reserve,
    /// The answer to `Reserve`: done. `observed` is the address of the asker as it is seen here, if that means
    /// anything elsewhere.
    Reserved { terms: Terms, observed: Option<SocketAddr> },
    /// The answer to `Reserve`: no, but perhaps one of these.
    Refused { why: Refusal, alternatives: Vec<RendezvousPoint> },
    /// To any host: which address of mine do you see?
    Observe,
    /// The answer to `Observe`.
    Observed { observed: Option<SocketAddr> },
    /// To a rendezvous: introduce me to `target`. `ask` is given back in the answer.
    Introduce { ask: u32, target: PeerId, candidates: Candidates },
    /// The answer to `Introduce`: the target was told, and this is where it may be found.
    Introduced { ask: u32, candidates: Candidates, grant: Option<Grant> },
    /// The answer to `Introduce`: no.
    Unavailable { ask: u32, why: Refusal },
    /// From a rendezvous to a host that it serves: `from` is about to call.
    Incoming { from: PeerId, candidates: Candidates, grant: Option<Grant> },
    /// From a rendezvous: nothing passes through these flows any more; one to [`FLOWS_DEAD_MAX`].
    FlowsDead { tokens: Vec<u64> },
    /// From a rendezvous: the session ends soon; perhaps one of these goes on with it.
    GoAway { alternatives: Vec<RendezvousPoint> },
    /// Between two hosts that have met: this is where I may be found without help.
    Here { candidates: Candidates },
    /// Between two hosts that have met: I send to you from many sockets now; send to many ports of mine, for as much as this
    /// message pays ([`PUNCH_BYTES`]).
    Punch,
    /// To a rendezvous: have a host that I never sent anything to send this number to where you see me.
    DialBack { nonce: u64 },
    /// The answer to `DialBack`: nobody here can.
    NoDialBack { nonce: u64 },
    /// From a rendezvous to another one: send this number there.
    Call { address: SocketAddr, nonce: u64 },
    /// Between two hosts that have met: I keep my NAT open for you from now on; send nothing to where I am seen for as long as this
    /// turn takes, and then call me there.
    Turn { turn: u8 },
}

/// The length of the body of a [`Message::Punch`], most of which says nothing: it pays for what it draws.
pub(crate) const PUNCH_BYTES: usize = 1600;

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Self::Reserve => 1,
            Self::Reserved { .. } => 2,
            Self::Refused { .. } => 3,
            Self::Observe => 4,
            Self::Observed { .. } => 5,
            Self::Introduce { .. } => 6,
            Self::Introduced { .. } => 7,
            Self::Unavailable { .. } => 8,
            Self::Incoming { .. } => 9,
            Self::FlowsDead { .. } => 10,
            Self::GoAway { .. } => 11,
            Self::Here { .. } => 12,
            Self::Punch => 13,
            Self::DialBack { .. } => 14,
            Self::NoDialBack { .. } => 15,
            Self::Call { .. } => 16,
            Self::Turn { .. } => 17,
        }
    }

    /// The body of the note. The sender keeps the bounds of each field.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind()];
        match self {
            Self::Reserve | Self::Observe => {}
            Self::Reserved { terms, observed } => {
                let lifetime = u32::try_from(terms.lifetime.as_secs()).unwrap_or(u32::MAX);
                out.extend(lifetime.to_be_bytes());
                out.extend(terms.introductions_per_minute.to_be_bytes());
                out.extend(terms.flows_max.to_be_bytes());
                out.extend(terms.relayed_per_second.to_be_bytes());
                out.extend(terms.tls_port.to_be_bytes());
                out.extend(terms.observation_port.to_be_bytes());
                put_addresses(&mut out, observed.as_slice());
            }
            Self::Refused { why, alternatives } => {
                out.push(why.byte());
                put_points(&mut out, alternatives);
            }
            Self::Observed { observed } => put_addresses(&mut out, observed.as_slice()),
            Self::Introduce { ask, target, candidates } => {
                out.extend(ask.to_be_bytes());
                out.extend(target.as_bytes());
                put_candidates(&mut out, candidates);
            }
            Self::Introduced { ask, candidates, grant } => {
                out.extend(ask.to_be_bytes());
                put_candidates(&mut out, candidates);
                put_grant(&mut out, grant.as_ref());
            }
            Self::Unavailable { ask, why } => {
                out.extend(ask.to_be_bytes());
                out.push(why.byte());
            }
            Self::Incoming { from, candidates, grant } => {
                out.extend(from.as_bytes());
                put_candidates(&mut out, candidates);
                put_grant(&mut out, grant.as_ref());
            }
            Self::FlowsDead { tokens } => {
                out.push(tokens.len() as u8);
                out.extend(tokens.iter().flat_map(|token| token.to_be_bytes()));
            }
            Self::GoAway { alternatives } => put_points(&mut out, alternatives),
            Self::Here { candidates } => put_candidates(&mut out, candidates),
            Self::Punch => out.resize(PUNCH_BYTES, 0),
            Self::DialBack { nonce } | Self::NoDialBack { nonce } => {
                out.extend(nonce.to_be_bytes());
            }
            Self::Call { address, nonce } => {
                put_addresses(&mut out, &[*address]);
                out.extend(nonce.to_be_bytes());
            }
            Self::Turn { turn } => out.push(*turn),
        }
        out
    }

    /// Reads the body of a note. Never panics, whatever the bytes.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, MessageError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(MessageError::Length(body.len()));
        }
        let mut reader = Reader(body);
        let message = match reader.byte()? {
            1 => Self::Reserve,
            2 => {
                let terms = Terms {
                    lifetime: Duration::from_secs(u32::from_be_bytes(reader.take()?).into()),
                    introductions_per_minute: u16::from_be_bytes(reader.take()?),
                    flows_max: u16::from_be_bytes(reader.take()?),
                    relayed_per_second: u64::from_be_bytes(reader.take()?),
                    tls_port: u16::from_be_bytes(reader.take()?),
                    observation_port: u16::from_be_bytes(reader.take()?),
                };
                Self::Reserved { terms, observed: observed(&mut reader)? }
            }
            3 => Self::Refused { why: refusal(&mut reader)?, alternatives: points(&mut reader)? },
            4 => Self::Observe,
            5 => Self::Observed { observed: observed(&mut reader)? },
            6 => Self::Introduce {
                ask: u32::from_be_bytes(reader.take()?),
                target: reader.peer()?,
                candidates: candidates(&mut reader)?,
            },
            7 => Self::Introduced {
                ask: u32::from_be_bytes(reader.take()?),
                candidates: candidates(&mut reader)?,
                grant: grant(&mut reader)?,
            },
            8 => Self::Unavailable {
                ask: u32::from_be_bytes(reader.take()?),
                why: refusal(&mut reader)?,
            },
            9 => Self::Incoming {
                from: reader.peer()?,
                candidates: candidates(&mut reader)?,
                grant: grant(&mut reader)?,
            },
            10 => {
                let count = reader.byte()?;
                if !(1..=FLOWS_DEAD_MAX).contains(&count.into()) {
                    return Err(MessageError::Flows(count));
                }
                let mut tokens = Vec::with_capacity(count.into());
                for _ in 0..count {
                    tokens.push(u64::from_be_bytes(reader.take()?));
                }
                Self::FlowsDead { tokens }
            }
            11 => Self::GoAway { alternatives: points(&mut reader)? },
            12 => Self::Here { candidates: candidates(&mut reader)? },
            13 => {
                let padding = std::mem::take(&mut reader.0);
                if padding.len() + 1 != PUNCH_BYTES || padding.iter().any(|byte| *byte != 0) {
                    return Err(MessageError::Padding);
                }
                Self::Punch
            }
            14 => Self::DialBack { nonce: u64::from_be_bytes(reader.take()?) },
            15 => Self::NoDialBack { nonce: u64::from_be_bytes(reader.take()?) },
            16 => Self::Call {
                address: observed(&mut reader)?.ok_or(ContentError::NoAddress)?,
                nonce: u64::from_be_bytes(reader.take()?),
            },
            17 => Self::Turn { turn: reader.byte()? },
            kind => return Err(MessageError::Kind(kind)),
        };
        match reader.0.len() {
            0 => Ok(message),
            len => Err(DecodeError::Trailing { len }.into()),
        }
    }
}

fn put_candidates(out: &mut Vec<u8>, candidates: &Candidates) {
    put_addresses(out, &candidates.addresses);
    out.push(candidates.class.len() as u8);
    out.extend(&candidates.class);
}

fn put_grant(out: &mut Vec<u8>, grant: Option<&Grant>) {
    out.push(grant.is_some().into());
    if let Some(grant) = grant {
        out.extend(grant.token.to_be_bytes());
        out.extend(grant.key);
    }
}

fn observed(reader: &mut Reader<'_>) -> Result<Option<SocketAddr>, MessageError> {
    Ok(reader.addresses(1)?.pop())
}

fn refusal(reader: &mut Reader<'_>) -> Result<Refusal, MessageError> {
    let byte = reader.byte()?;
    Refusal::ALL.into_iter().find(|why| why.byte() == byte).ok_or(MessageError::Reason(byte))
}

fn candidates(reader: &mut Reader<'_>) -> Result<Candidates, MessageError> {
    let addresses = reader.addresses(ADDRESSES_MAX)?;
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            return Err(ContentError::DuplicateAddress { address: *address }.into());
        }
    }
    let length = usize::from(reader.byte()?);
    if length > CLASS_BYTES_MAX {
        return Err(MessageError::Class(length));
    }
    let class = (0..length).map(|_| reader.byte()).collect::<Result<_, _>>()?;
    Ok(Candidates { addresses, class })
}

fn grant(reader: &mut Reader<'_>) -> Result<Option<Grant>, MessageError> {
    match reader.byte()? {
        0 => Ok(None),
        1 => Ok(Some(Grant { token: u64::from_be_bytes(reader.take()?), key: reader.take()? })),
        flag => Err(MessageError::Flag(flag)),
    }
}

fn points(reader: &mut Reader<'_>) -> Result<Vec<RendezvousPoint>, MessageError> {
    let points = reader.points(ALTERNATIVES_MAX)?;
    for (index, point) in points.iter().enumerate() {
        if point.addresses.is_empty() && point.tls.is_empty() {
            return Err(ContentError::NoAddress.into());
        }
        if points[..index].iter().any(|other| other.peer == point.peer) {
            return Err(ContentError::DuplicateRendezvous { peer: point.peer }.into());
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{identity::SecretKey, peer_ref::RENDEZVOUS_ADDRESSES_MAX};

    fn peer(n: u8) -> PeerId {
        SecretKey::from_bytes([n; 32]).peer_id()
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::new("2001:db8::1".parse().unwrap(), port)
    }

    fn addresses(count: usize) -> Vec<SocketAddr> {
        (1..=count as u16).map(address).collect()
    }

    fn full() -> Candidates {
        Candidates { addresses: addresses(ADDRESSES_MAX), class: vec![7; CLASS_BYTES_MAX] }
    }

    fn alternatives(count: u8) -> Vec<RendezvousPoint> {
        let of = |n| RendezvousPoint {
            peer: peer(n),
            addresses: addresses(RENDEZVOUS_ADDRESSES_MAX),
            tls: addresses(RENDEZVOUS_ADDRESSES_MAX),
        };
        (1..=count).map(of).collect()
    }

    /// One of each kind, as large as it may be.
    fn each() -> Vec<Message> {
        let terms = Terms {
            lifetime: Duration::from_secs(3600),
            introductions_per_minute: 60,
            flows_max: 8,
            relayed_per_second: 1 << 20,
            tls_port: 443,
            observation_port: 7000,
        };
        let grant = Some(Grant { token: 1 << 60, key: [9; 32] });
        let (observed, ask, why) = (Some(address(5)), 77, Refusal::Throttled);
        let alternatives = alternatives(ALTERNATIVES_MAX as u8);
        vec![
            Message::Reserve,
            Message::Reserved { terms, observed },
            Message::Refused { why, alternatives: alternatives.clone() },
            Message::Observe,
            Message::Observed { observed },
            Message::Introduce { ask, target: peer(1), candidates: full() },
            Message::Introduced { ask, candidates: full(), grant: grant.clone() },
            Message::Unavailable { ask, why },
            Message::Incoming { from: peer(2), candidates: full(), grant },
            Message::FlowsDead { tokens: vec![3] },
            Message::FlowsDead { tokens: (0..FLOWS_DEAD_MAX as u64).collect() },
            Message::GoAway { alternatives },
            Message::Here { candidates: full() },
            Message::Punch,
            Message::DialBack { nonce: 1 << 63 },
            Message::NoDialBack { nonce: 5 },
            Message::Call { address: address(5), nonce: 6 },
            Message::Turn { turn: 3 },
        ]
    }

    #[test]
    fn each_message_survives_the_way_within_its_bound() {
        for message in each() {
            let body = message.encode();
            assert!(body.len() <= BODY_BYTES_MAX, "{message:?}");
            assert_eq!(Message::decode(&body), Ok(message));
        }
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_refused() {
        for message in each() {
            let mut body = message.encode();
            for end in 0..body.len() {
                assert!(Message::decode(&body[..end]).is_err(), "{message:?} up to {end}");
            }
            body.push(0);
            assert!(Message::decode(&body).is_err(), "{message:?}");
        }
        assert!(matches!(Message::decode(&[0]), Err(MessageError::Kind(0))));
        assert!(matches!(Message::decode(&[18]), Err(MessageError::Kind(18))));
        assert!(matches!(Message::decode(&[1; 2049]), Err(MessageError::Length(2049))));
    }

    #[test]
    fn what_is_too_much_twice_or_nobodys_is_refused() {
        let here = |candidates: &[SocketAddr], class: usize| {
            let candidates = Candidates { addresses: candidates.to_vec(), class: vec![0; class] };
            Message::decode(&Message::Here { candidates }.encode())
        };
        assert!(here(&addresses(ADDRESSES_MAX), CLASS_BYTES_MAX).is_ok());
        assert!(here(&addresses(ADDRESSES_MAX + 1), 0).is_err());
        assert!(here(&[address(1), address(1)], 0).is_err());
        assert!(here(&[address(0)], 0).is_err());
        assert!(here(&["224.0.0.1:1".parse().unwrap()], 0).is_err());
        assert!(matches!(here(&[], CLASS_BYTES_MAX + 1), Err(MessageError::Class(33))));
        let go = |alternatives| Message::decode(&Message::GoAway { alternatives }.encode());
        assert!(go(alternatives(5)).is_err());
        let mut twice = alternatives(2);
        twice[1].peer = twice[0].peer;
        assert!(go(twice).is_err());
        let mut nowhere = alternatives(1);
        (nowhere[0].addresses, nowhere[0].tls) = (Vec::new(), Vec::new());
        assert!(go(nowhere).is_err());
    }

    #[test]
    fn the_key_of_a_flow_is_not_printed() {
        let grant = Some(Grant { token: 4_242, key: [171; 32] });
        let message = Message::Introduced { ask: 1, candidates: Candidates::default(), grant };
        let text = format!("{message:?}");
        assert!(!text.contains("171") && !text.contains("4242") && text.contains("Grant(..)"));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_what_would_be_written(
            kind in 0..20u8,
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut inputs = vec![[&[kind][..], &noise].concat()];
            if let Some(message) = each().get(usize::from(kind)) {
                let mut body = message.encode();
                let at = at.index(body.len());
                body[at] = value;
                inputs.push(body);
            }
            for input in inputs {
                if let Ok(message) = Message::decode(&input) {
                    prop_assert_eq!(message.encode(), input);
                }
            }
        }
    }
}
