//! Why a value was not encoded.

/// A value could not be encoded. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The encoded value with its bodies exceeds what the mesh is configured to carry: send it in parts.
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Its `Serialize` failed; the text says why.
    #[error("cannot be encoded: {0}")]
    Unencodable(String),
}
