//! What can go wrong with a message. `Fault` is the one list that the runtime and the wire format share; the public
//! enums are its views, so that a caller matches on exactly what can happen to that call.

use crate::ground::encoding::EncodeError;
use std::time::Duration;

/// Why a message, a flush or an ask came to nothing. Crate-internal: users see the enums below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Unknown object, or one that the caller may not reach: both look the same.
    NoSuchActor,
    /// The object doesn't serve the protocol of the ref.
    WrongProtocol,
    /// The actor's protocol has no message of that id.
    UnknownMessage,
    /// The receiver couldn't decode it; at most 200 bytes of reason.
    BadPayload(String),
    /// The sender couldn't encode it; nothing was sent.
    Unencodable(String),
    /// Message or reply exceed a limit in bytes.
    TooLarge { limit: u64 },
    /// No room, and the caller didn't want to wait.
    Full,
    /// The actor stopped.
    Stopped,
    /// The handler, or the actor in the meantime, panicked.
    Panicked,
    /// The actor refuses this host's messages for so long, for they made it panic.
    Quarantined { left: Duration },
    /// The responder was dropped without an answer.
    NoReply,
    /// There was an answer, and it was dropped, for too many wait to be read.
    ReplyDropped,
    /// No answer from the peer for 5 s.
    Unreachable,
    /// The connection is closed, or was silent for the time that the mesh is set to.
    PeerGone,
    /// The peer's process was started anew while the message was under way.
    PeerRestarted,
    /// The peer couldn't be reached to begin with; the text says why.
    Connect(String),
    /// Earlier tells may be lost; this message was not sent.
    LostTells { at_most: u64 },
    /// The ref belongs to no mesh yet.
    Unbound,
    /// The own mesh was shut down.
    ShutDown,
    /// The other side doesn't support this (yet).
    Unsupported,
}

/// What a sender hears of its own message. Nothing was sent.
impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge { limit } => Self::TooLarge { limit: limit as u64 },
            EncodeError::Unencodable(why) => Self::Unencodable(why),
        }
    }
}

/// Why [`ActorRef::ask`](crate::ActorRef::ask) brought no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// There is no such actor at the peer, or the caller may not reach it (both look the same). Nothing was handled;
    /// resolve the name again, or ask whoever gave out the ref.
    #[error("no such actor, or no right to reach it")]
    NoSuchActor,
    /// The object exists but serves another protocol than the ref says. Nothing was handled.
    #[error("the actor serves another protocol")]
    WrongProtocol,
    /// The peer's version of the protocol doesn't know this message id. Nothing was handled.
    #[error("the actor does not know this message")]
    UnknownMessage,
    /// The receiver could not decode the message as its own type of that id (at most 200 bytes of reason). Nothing was
    /// handled; the two programs disagree about the type.
    #[error("the message was refused: {0}")]
    BadPayload(String),
    /// The reply could not be decoded as this program's type, or not be encoded by the actor's side. The message *was*
    /// handled.
    #[error("the reply was refused: {0}")]
    BadReply(String),
    /// The message's `Serialize` failed; nothing was sent.
    #[error("the message cannot be encoded: {0}")]
    Unencodable(String),
    /// Message or reply exceed the limit. Send it in parts, or raise the limit of both meshes.
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// No reply in time, waiting for credit included. The outcome is unknown: the message may have been handled, or may
    /// yet be.
    #[error("no reply in time; the outcome is unknown")]
    Timeout,
    /// The time was over while the peer was still being connected to: nothing was sent. Give it more time, or look for another road.
    #[error("no reply in time: the peer wasn't reached yet, and nothing was sent")]
    NotReached,
    /// The actor stopped before it answered, and will not come back under this ref.
    #[error("the actor stopped")]
    Stopped,
    /// The actor panicked over this message or while working at it. The message is not tried again; the ref stays good
    /// unless the supervisor has given the actor up.
    #[error("the actor panicked")]
    Panicked,
    /// Messages of this host, or of others in its network, have made the actor panic three times within 10 s: it refuses all
    /// of theirs for a minute. Nothing was handled. (An older version of Webmesh is told `Panicked`.)
    #[error("the actor refuses this host for another {left:?}, whose messages made it panic")]
    Quarantined {
        /// How long it goes on refusing.
        left: Duration,
    },
    /// The handler had the message, and its responder was dropped without an answer.
    #[error("the responder was dropped without an answer")]
    NoReply,
    /// The handler answered, and the reply was dropped: too many large ones wait, at the actor's host to be read by this one, or here to be looked at.
    /// Await replies as they come, or ask for fewer at a time; docs/guarantees.md, "Bounds", says how many may wait. (A host older than this says
    /// `NoReply`, and so it is told.)
    #[error("the reply was dropped: too many large ones wait to be taken")]
    ReplyDropped,
    /// The peer has answered nothing for 5 s. The outcome is unknown; the connection may yet recover.
    #[error("the peer does not answer; the outcome is unknown")]
    Unreachable,
    /// The connection to the peer ended. The outcome is unknown.
    #[error("the peer is gone; the outcome is unknown")]
    PeerGone,
    /// The peer's process was started anew meanwhile. The outcome is unknown.
    #[error("the peer was restarted; the outcome is unknown")]
    PeerRestarted,
    /// No connection to the peer could be made; the text says why. Nothing was sent.
    #[error("cannot connect to the peer: {0}")]
    Connect(String),
    /// Up to this many earlier tells to this actor may not have arrived. *This* message was not sent: ask again.
    #[error("up to {at_most} earlier messages may be lost; this one was not sent")]
    LostTells {
        /// How many at the most.
        at_most: u64,
    },
    /// The ref was decoded outside of any mesh: give it to [`Mesh::bind`](crate::Mesh::bind) first. Nothing was sent.
    #[error("this ref is not bound to a mesh")]
    Unbound,
    /// The own mesh has been shut down. Start another one.
    #[error("this mesh is shut down")]
    ShutDown,
    /// Not yet supported.
    #[error("not yet supported")]
    Unsupported,
}

impl From<Fault> for AskError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSuchActor => Self::NoSuchActor,
            Fault::WrongProtocol => Self::WrongProtocol,
            Fault::UnknownMessage => Self::UnknownMessage,
            Fault::BadPayload(why) => Self::BadPayload(why),
            Fault::Unencodable(why) => Self::Unencodable(why),
            Fault::TooLarge { limit } => Self::TooLarge { limit },
            // An ask always waits for credit, so what it meets of a full inlet is the end of its time.
            Fault::Full => Self::Timeout,
            Fault::Stopped => Self::Stopped,
            Fault::Panicked => Self::Panicked,
            Fault::Quarantined { left } => Self::Quarantined { left },
            Fault::NoReply => Self::NoReply,
            Fault::ReplyDropped => Self::ReplyDropped,
            Fault::Unreachable => Self::Unreachable,
            Fault::PeerGone => Self::PeerGone,
            Fault::PeerRestarted => Self::PeerRestarted,
            Fault::Connect(why) => Self::Connect(why),
            Fault::LostTells { at_most } => Self::LostTells { at_most },
            Fault::Unbound => Self::Unbound,
            Fault::ShutDown => Self::ShutDown,
            Fault::Unsupported => Self::Unsupported,
        }
    }
}

/// Why a tell or a flush failed. For a tell, the message was not accepted for sending unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TellError {
    /// There is no such actor at the peer, or the caller may not reach it (both look the same). Resolve the name again,
    /// or ask whoever gave out the ref.
    #[error("no such actor, or no right to reach it")]
    NoSuchActor,
    /// The object exists but serves another protocol than the ref says.
    #[error("the actor serves another protocol")]
    WrongProtocol,
    /// The peer's version of the protocol doesn't know this message id.
    #[error("the actor does not know this message")]
    UnknownMessage,
    /// The receiver could not decode the message as its own type of that id (at most 200 bytes of reason).
    #[error("the message was refused: {0}")]
    BadPayload(String),
    /// The message's `Serialize` failed.
    #[error("the message cannot be encoded: {0}")]
    Unencodable(String),
    /// The message exceeds the limit. Send it in parts, or raise the limit of both meshes.
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The time ran out before the message was accepted, or before all earlier messages were known to be handled.
    #[error("not done in time")]
    Timeout,
    /// The actor stopped, and will not come back under this ref.
    #[error("the actor stopped")]
    Stopped,
    /// The actor kept panicking and was given up by its supervisor.
    #[error("the actor panicked for good")]
    Panicked,
    /// Messages of this host, or of others in its network, have made the actor panic three times within 10 s: it refuses all
    /// of theirs for a minute.
    #[error("the actor refuses this host for another {left:?}, whose messages made it panic")]
    Quarantined {
        /// How long it goes on refusing.
        left: Duration,
    },
    /// The peer has answered nothing for 5 s. The connection may yet recover.
    #[error("the peer does not answer")]
    Unreachable,
    /// The connection to the peer ended. The next call tries to connect anew.
    #[error("the peer is gone")]
    PeerGone,
    /// The peer's process was started anew meanwhile.
    #[error("the peer was restarted")]
    PeerRestarted,
    /// No connection to the peer could be made; the text says why.
    #[error("cannot connect to the peer: {0}")]
    Connect(String),
    /// Up to this many earlier tells to this actor may not have arrived. *This* message was not sent: the next call goes
    /// on normally.
    #[error("up to {at_most} earlier messages may be lost; this one was not sent")]
    LostTells {
        /// How many at the most.
        at_most: u64,
    },
    /// The ref was decoded outside of any mesh: give it to [`Mesh::bind`](crate::Mesh::bind) first.
    #[error("this ref is not bound to a mesh")]
    Unbound,
    /// The own mesh has been shut down. Start another one.
    #[error("this mesh is shut down")]
    ShutDown,
    /// Not yet supported.
    #[error("not yet supported")]
    Unsupported,
}

impl From<Fault> for TellError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSuchActor => Self::NoSuchActor,
            Fault::WrongProtocol => Self::WrongProtocol,
            Fault::UnknownMessage => Self::UnknownMessage,
            Fault::BadPayload(why) => Self::BadPayload(why),
            Fault::Unencodable(why) => Self::Unencodable(why),
            Fault::TooLarge { limit } => Self::TooLarge { limit },
            // `Full` is taken out before this view is made: `TrySendError` has its own variant.
            Fault::Full => Self::Timeout,
            Fault::Stopped => Self::Stopped,
            // A flush marker that was dropped unseen went down with its actor.
            Fault::Panicked | Fault::NoReply | Fault::ReplyDropped => Self::Panicked,
            Fault::Quarantined { left } => Self::Quarantined { left },
            Fault::Unreachable => Self::Unreachable,
            Fault::PeerGone => Self::PeerGone,
            Fault::PeerRestarted => Self::PeerRestarted,
            Fault::Connect(why) => Self::Connect(why),
            Fault::LostTells { at_most } => Self::LostTells { at_most },
            Fault::Unbound => Self::Unbound,
            Fault::ShutDown => Self::ShutDown,
            Fault::Unsupported => Self::Unsupported,
        }
    }
}

/// Why [`ActorRef::try_tell`](crate::ActorRef::try_tell) or [`send`](crate::send) did not take a message.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<M> {
    /// No room for it now, or earlier messages are still waiting for room. Here it is back: try again later, drop it,
    /// or `tell` it and wait.
    #[error("no room for the message now")]
    Full(M),
    /// It cannot be delivered at all. The message is dropped.
    #[error(transparent)]
    Failed(#[from] TellError),
}

// By hand: a message needn't be `Debug` for its error to be.
impl<M> std::fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}
