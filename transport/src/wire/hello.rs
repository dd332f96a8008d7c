//! HELLO: what both sides say first on an authenticated connection, and the link stream it opens.
//!
//! The dialer opens the first two-way stream and writes its kind (0) and its HELLO; the other side
//! answers with its own. Afterwards each side may write notes about the link itself, which are single bytes, and
//! messages about rendezvous, which have a length and a body.
//!
//! ```text
//! length   u16   of all that follows, at most HELLO_BYTES_MAX
//! version  u16   of the wire format; another one ends the connection
//! instance u128  random per start of the endpoint
//! features u64   bits that the sender understands; unknown ones are ignored
//! ref      ...   the sender's own signed PeerRef, possibly empty
//! ```
//!
//! Numbers are big-endian.

use quinn::{ReadError, RecvStream, SendStream};

use crate::{
    identity::PeerId,
    peer_ref::PeerRef,
    wire::rendezvous::{BODY_BYTES_MAX, Message},
};

/// The version of everything that runs inside a connection, as docs/wire.md describes it.
pub const WIRE_VERSION: u16 = 1;

/// The stream kind that a HELLO follows.
pub const STREAM_HELLO: u8 = 0;

/// A HELLO longer than this is refused unread: 26 bytes, a PeerRef of 1,000 and as much to spare.
pub const HELLO_BYTES_MAX: usize = 2048;

/// Bytes of the numbers in front of the PeerRef.
const FIXED_BYTES: usize = 2 + 16 + 8;

/// Identifies one start of an endpoint; another one under the same key means that the peer restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(pub u128);

/// What a peer said about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// Which start of the peer this is.
    pub instance: InstanceId,
    /// What the peer understands beyond version 1: see [`FEATURE_RENDEZVOUS`], [`FEATURE_RELAY`].
    pub features: u64,
    /// Where the peer says it can be reached, signed by itself.
    pub reference: Option<PeerRef>,
}

/// The bit of [`Hello::features`] by which a host says that it serves others as a rendezvous.
pub const FEATURE_RENDEZVOUS: u64 = 1;

/// The bit of [`Hello::features`] by which a host says that it understands CANCEL on lanes (docs/wire.md).
pub const FEATURE_CANCEL: u64 = 2;

/// The bit of [`Hello::features`] by which a host says that it understands WATCHING, and WATCH with the number of the actor
/// (docs/wire.md).
pub const FEATURE_WATCHING: u64 = 1 << 3;

/// The bit of [`Hello::features`] by which a host says that it counts the envelope of a message apart from its content
/// (docs/wire.md).
pub const FEATURE_ENVELOPE: u64 = 1 << 5;

/// The bit of [`Hello::features`] by which a host that serves says that it also relays between those whom it introduces.
pub const FEATURE_RELAY: u64 = 1 << 2;

/// The bit of [`Hello::features`] by which a host says that it understands WITHDRAW on control streams (docs/wire.md).
pub const FEATURE_WITHDRAW: u64 = 1 << 4;

/// What a peer says about a link after its HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// All of the sender's lanes on this duplicate link have ended, and it opens no more.
    Drained,
    /// Withdraws `Drained`: this link is the sender's only one again.
    Resumed,
    /// Nothing but a reason to send a packet: its fate tells whether the peer still knows the link.
    Knock,
    /// A message about rendezvous.
    Rendezvous(Box<Message>),
}

/// Starts a message about rendezvous; its length follows in two bytes, then its body.
const RENDEZVOUS: u8 = 0x10;

impl Note {
    fn byte(&self) -> u8 {
        match self {
            Self::Drained => 1,
            Self::Resumed => 2,
            Self::Knock => 3,
            Self::Rendezvous(_) => RENDEZVOUS,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Drained, Self::Resumed, Self::Knock].into_iter().find(|note| note.byte() == byte)
    }
}

/// Why a HELLO or a note was refused; the connection is closed with the text as its reason.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The peer's first stream isn't the link stream.
    #[error("the first stream has kind {0}, not a HELLO")]
    NotHello(u8),
    /// The peer announced more bytes than a HELLO may have, or fewer than it needs.
    #[error("a HELLO of {0} bytes is refused")]
    Length(usize),
    /// The peer speaks another version of the wire format: one of the two sides must be updated.
    #[error("the peer speaks version {0} of the wire format, this side version {WIRE_VERSION}")]
    Version(u16),
    /// The peer's reference to itself is damaged.
    #[error("the peer's own reference is refused: {0}")]
    Reference(String),
    /// The peer's reference to itself is signed by somebody else.
    #[error("the peer's own reference is that of another peer")]
    ForeignReference,
    /// A byte after the HELLO that means nothing.
    #[error("{0} isn't a note about a link")]
    Note(u8),
    /// A message about rendezvous that is none.
    #[error("a message about rendezvous is refused: {0}")]
    Rendezvous(String),
    /// The stream ended or the connection was lost meanwhile.
    #[error("the stream ended during HELLO: {0}")]
    Lost(String),
}

impl Hello {
    /// The bytes of this HELLO, length first.
    pub fn encode(&self) -> Vec<u8> {
        let reference = self.reference.as_ref().map(PeerRef::to_bytes).unwrap_or_default();
        let length = FIXED_BYTES + reference.len();
        let mut bytes = Vec::with_capacity(2 + length);
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend(WIRE_VERSION.to_be_bytes());
        bytes.extend(self.instance.0.to_be_bytes());
        bytes.extend(self.features.to_be_bytes());
        bytes.extend(reference);
        bytes
    }

    /// Whether this may be what `peer` says: a reference must be its own.
    pub(crate) fn check(self, peer: PeerId) -> Result<Self, HelloError> {
        match self.reference.as_ref().map(PeerRef::peer) {
            Some(owner) if owner != Some(peer) => Err(HelloError::ForeignReference),
            _ => Ok(self),
        }
    }

    /// Reads what follows the length. Never panics, whatever the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let short = HelloError::Length(bytes.len());
        let Some((version, rest)) = bytes.split_first_chunk::<2>() else { return Err(short) };
        let version = u16::from_be_bytes(*version);
        if version != WIRE_VERSION {
            return Err(HelloError::Version(version));
        }
        let Some((instance, rest)) = rest.split_first_chunk::<16>() else { return Err(short) };
        let Some((features, reference)) = rest.split_first_chunk::<8>() else { return Err(short) };
        let reference = if reference.is_empty() {
            None
        } else {
            let parsed = PeerRef::from_bytes(reference);
            Some(parsed.map_err(|e| HelloError::Reference(e.to_string()))?)
        };
        Ok(Self {
            instance: InstanceId(u128::from_be_bytes(*instance)),
            features: u64::from_be_bytes(*features),
            reference,
        })
    }
}

/// The dialer's half: opens the link stream and exchanges HELLOs.
pub(crate) async fn begin(
    connection: &quinn::Connection,
    own: &Hello,
) -> Result<(Hello, LinkStream), HelloError> {
    let (mut tx, rx) = connection.open_bi().await.map_err(lost)?;
    let mut first = vec![STREAM_HELLO];
    first.extend(own.encode());
    tx.write_all(&first).await.map_err(lost)?;
    let mut stream = LinkStream { tx, rx };
    let hello = stream.read_hello().await?;
    Ok((hello, stream))
}

/// The accepting half: takes the link stream and exchanges HELLOs.
pub(crate) async fn answer(
    connection: &quinn::Connection,
    own: &Hello,
) -> Result<(Hello, LinkStream), HelloError> {
    let (tx, rx) = connection.accept_bi().await.map_err(lost)?;
    let mut stream = LinkStream { tx, rx };
    let mut kind = [0];
    stream.rx.read_exact(&mut kind).await.map_err(lost)?;
    if kind[0] != STREAM_HELLO {
        return Err(HelloError::NotHello(kind[0]));
    }
    let hello = stream.read_hello().await?;
    stream.tx.write_all(&own.encode()).await.map_err(lost)?;
    Ok((hello, stream))
}

fn lost(error: impl std::fmt::Display) -> HelloError {
    HelloError::Lost(error.to_string())
}

/// The stream on which HELLOs and notes run.
pub(crate) struct LinkStream {
    pub(crate) tx: SendStream,
    pub(crate) rx: RecvStream,
}

impl LinkStream {
    async fn read_hello(&mut self) -> Result<Hello, HelloError> {
        let mut length = [0; 2];
        self.rx.read_exact(&mut length).await.map_err(lost)?;
        let length = usize::from(u16::from_be_bytes(length));
        if !(FIXED_BYTES..=HELLO_BYTES_MAX).contains(&length) {
            return Err(HelloError::Length(length));
        }
        let mut bytes = vec![0; length];
        self.rx.read_exact(&mut bytes).await.map_err(lost)?;
        Hello::decode(&bytes)
    }
}

/// Reads notes. A read that is given up halfway loses nothing.
pub(crate) struct Notes {
    rx: RecvStream,
    /// The note that is being read.
    partial: Vec<u8>,
}

impl Notes {
    pub(crate) fn new(rx: RecvStream) -> Self {
        Self { rx, partial: Vec::new() }
    }

    /// Reads no more, and forgets what is unread.
    pub(crate) fn stop(&mut self) {
        let _ = self.rx.stop(0_u8.into());
    }

    /// The next note; `None` when the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Note>, HelloError> {
        loop {
            let missing = missing(&self.partial)?;
            if missing == 0 {
                return parse(&std::mem::take(&mut self.partial)).map(Some);
            }
            let mut room = [0; 256];
            match self.rx.read(&mut room[..missing.min(256)]).await {
                Ok(Some(read)) => self.partial.extend(&room[..read]),
                Ok(None) => return Err(lost("the peer ended it")),
                Err(ReadError::ConnectionLost(_)) => return Ok(None),
                Err(e) => return Err(lost(e)),
            }
        }
    }
}

/// How many bytes of a note are certainly still to come.
fn missing(partial: &[u8]) -> Result<usize, HelloError> {
    match *partial {
        [] => Ok(1),
        [RENDEZVOUS] => Ok(2),
        [RENDEZVOUS, _] => Ok(1),
        [RENDEZVOUS, high, low, ref body @ ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if !(1..=BODY_BYTES_MAX).contains(&length) {
                return Err(HelloError::Rendezvous(format!("it has {length} bytes")));
            }
            Ok(length.saturating_sub(body.len()))
        }
        _ => Ok(0),
    }
}

fn parse(bytes: &[u8]) -> Result<Note, HelloError> {
    match *bytes {
        [RENDEZVOUS, _, _, ref body @ ..] => {
            let message = Message::decode(body);
            let message = message.map_err(|e| HelloError::Rendezvous(e.to_string()))?;
            Ok(Note::Rendezvous(Box::new(message)))
        }
        [byte] => Note::from_byte(byte).ok_or(HelloError::Note(byte)),
        _ => Err(HelloError::Note(0)),
    }
}

/// Writes a note; a lost connection shows elsewhere.
pub(crate) async fn write_note(tx: &mut SendStream, note: &Note) {
    let mut bytes = vec![note.byte()];
    if let Note::Rendezvous(message) = note {
        let body = message.encode();
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
    }
    let _ = tx.write_all(&bytes).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_the_way() {
        let hello = Hello { instance: InstanceId(7 << 90), features: 5, reference: None };
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes[2..]).unwrap(), hello);
    }

    #[test]
    fn a_truncated_or_foreign_hello_is_refused() {
        let bytes = Hello { instance: InstanceId(1), features: 0, reference: None }.encode();
        for end in 2..bytes.len() {
            assert!(Hello::decode(&bytes[2..end]).is_err());
        }
        let mut other = bytes.clone();
        other[3] = 9;
        assert!(matches!(Hello::decode(&other[2..]), Err(HelloError::Version(9))));
        let mut trailing = bytes;
        trailing.push(0);
        assert!(matches!(Hello::decode(&trailing[2..]), Err(HelloError::Reference(_))));
    }
}
