//! A name that is asked for at another mesh, and why it is not resolved.

/// What a name is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// A well-formed service name.
    pub(crate) name: String,
    /// A well-formed version requirement.
    pub(crate) requirement: String,
    /// The protocol of the ref that is wanted.
    pub(crate) protocol: &'static str,
}

/// Why a name was not resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name is not well-formed.
    #[error("{0}")]
    Name(String),
    /// The version requirement is not well-formed.
    #[error("{0}")]
    Requirement(String),
    /// Nothing is published there under this name, or nothing that this mesh may use (both look the same).
    #[error("nothing of this name is published there")]
    Unknown,
    /// No published version meets the requirement.
    #[error("no version meets the requirement; published: {}", published.join(", "))]
    NoMatchingVersion {
        /// The versions that this mesh may use, the highest first.
        published: Vec<String>,
    },
    /// What is published there serves another protocol than the ref's.
    #[error("it serves the protocol {found:?}")]
    WrongProtocol {
        /// The protocol that it serves.
        found: String,
    },
    /// No connection could be made; the text says why.
    #[error("cannot connect to the peer: {0}")]
    Connect(String),
    /// The peer did not answer in time, or went away meanwhile.
    #[error("the peer did not answer")]
    NoAnswer,
    /// The peer answered something that is no answer; the text says what.
    #[error("the peer's answer makes no sense: {0}")]
    BadAnswer(String),
    /// The mesh has been shut down.
    #[error("this mesh is shut down")]
    ShutDown,
}
