//! What this mesh refuses its peers: counted by reason, and told in the log, as many lines as [`LogQuota`] allows.

use crate::codec::frame::FrameError;
use crate::ground::error::Fault;
use crate::refs::exposed::Exposed;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use webmesh_transport::{Excerpt, LogQuota, PeerId};

/// Why a peer is refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing is published under the name.
    UnknownName,
    /// What is published under it isn't for this peer, which is told that it is unknown.
    ForbiddenName,
    /// No published version meets the requirement.
    NoMatchingVersion,
    /// A name or a requirement isn't well-formed.
    MalformedQuery,
    /// There is no such actor.
    UnknownActor,
    /// There is, and it isn't for this peer, which is told that it is unknown.
    ForbiddenActor,
    /// The actor serves another protocol.
    WrongProtocol,
    /// The protocol has no such message.
    UnknownMessage,
    /// A message that doesn't decode.
    BadPayload,
    /// Messages of the peer, or of its network, made the actor panic.
    Quarantined,
    /// The peer keeps as many watches here as it may.
    TooManyWatches,
    /// What the peer sent is no frame, or none for this place; its connection is closed.
    BrokenProtocol,
}

impl Reason {
    const COUNT: usize = Self::BrokenProtocol as usize + 1;

    fn in_words(self) -> &'static str {
        match self {
            Self::UnknownName => "nothing is published under it",
            Self::ForbiddenName => "what is published under it isn't for this peer",
            Self::NoMatchingVersion => "no version meets the requirement",
            Self::MalformedQuery => "it isn't well-formed",
            Self::UnknownActor => "there is no such actor",
            Self::ForbiddenActor => "the actor isn't for this peer",
            Self::WrongProtocol => "the actor serves another protocol",
            Self::UnknownMessage => "the actor doesn't know it",
            Self::BadPayload => "it can't be decoded",
            Self::Quarantined => "messages from there made the actor panic",
            Self::TooManyWatches => "this peer has too many",
            Self::BrokenProtocol => "it broke the protocol; its connection is closed",
        }
    }
}

/// The refusals of one mesh.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; Reason::COUNT],
    quota: LogQuota<PeerId>,
}

impl Refusals {
    /// Something that `peer` wanted, `what`, is refused.
    pub(crate) fn refuse(&self, peer: PeerId, what: impl Display, reason: Reason) {
        self.count(reason);
        self.tell(peer, what, reason);
    }

    /// How often that was a reason.
    pub(crate) fn counted(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    fn count(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, peer: PeerId, what: impl Display, reason: Reason) {
        let broken = reason == Reason::BrokenProtocol;
        if !broken && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let Some(left_out) = self.quota.take(peer) else { return };
        let why = reason.in_words();
        if broken {
            tracing::warn!(%peer, %what, why, left_out, "refused");
        } else {
            tracing::debug!(%peer, %what, why, left_out, "refused");
        }
    }

    /// Something else that a peer brings about: whether a line about it may be written, and how many were left out before it.
    pub(crate) fn quota(&self, peer: PeerId) -> Option<u64> {
        tracing::enabled!(tracing::Level::DEBUG).then(|| self.quota.take(peer)).flatten()
    }

    /// `peer` sent what no frame is.
    pub(crate) fn broken(&self, peer: PeerId, error: &FrameError) {
        self.refuse(peer, error, Reason::BrokenProtocol);
    }

    /// A lane of `peer` introduces a message that the actor doesn't know. The line is written now, for the messages themselves
    /// name it no more.
    pub(crate) fn unknown_message(&self, peer: PeerId, object: &dyn Exposed, id: &str) {
        let what = format_args!("the message {} of {}", Excerpt(id), object.protocol());
        self.tell(peer, what, Reason::UnknownMessage);
    }

    /// A message, number `index` of its protocol, comes to nothing.
    pub(crate) fn message_failed(
        &self,
        peer: PeerId,
        object: &dyn Exposed,
        index: Option<u16>,
        fault: &Fault,
    ) {
        match fault {
            Fault::UnknownMessage => self.count(Reason::UnknownMessage),
            Fault::BadPayload(why) => {
                let id = index.and_then(|index| object.message_id(index)).unwrap_or_default();
                self.bad_payload(peer, id, why);
            }
            _ => {}
        }
    }

    /// The message `id` of `peer` doesn't decode.
    pub(crate) fn bad_payload(&self, peer: PeerId, id: &str, why: &str) {
        let what = format_args!("the message {id} ({})", Excerpt(why));
        self.refuse(peer, what, Reason::BadPayload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use webmesh_transport::SecretKey;

    #[test]
    fn each_refusal_is_counted_under_its_reason_whether_or_not_a_line_is_written() {
        let (refusals, peer) = (Refusals::default(), SecretKey::from_bytes([1; 32]).peer_id());
        for _ in 0..1000 {
            refusals.refuse(peer, "a name", Reason::ForbiddenName);
        }
        refusals.broken(peer, &FrameError::EndsWithinFrame);
        assert_eq!(refusals.counted(Reason::ForbiddenName), 1000);
        assert_eq!(refusals.counted(Reason::BrokenProtocol), 1);
        assert_eq!(refusals.counted(Reason::UnknownName), 0);
    }
}
