//! Versions of services (Semantic Versioning 2.0.0), and what clients require of them, as Cargo writes it (`^1.2`).
//!
//! A pre-release such as `2.0.0-beta` is met only by a requirement that names a pre-release of the same version.

pub use semver::{Version, VersionReq};

/// The longest text of a version or a requirement, in bytes. A guess; theirs are unbounded.
pub const VERSION_LEN_MAX: usize = 128;

/// Why a text isn't a version or a requirement.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// More than [`VERSION_LEN_MAX`] bytes.
    #[error("it has {len} bytes and may have {VERSION_LEN_MAX}")]
    TooLong {
        /// The length found, in bytes.
        len: usize,
    },
    /// Not written as a version, such as `1.2.0`.
    #[error("{text:?} is not a version such as 1.2.0: {source}")]
    Version {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: semver::Error,
    },
    /// Not written as a requirement, such as `^1.2` or `>=1.2, <3`.
    #[error("{text:?} is not a requirement such as ^1.2: {source}")]
    Requirement {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: semver::Error,
    },
}

/// Reads a version, such as `1.2.0`.
///
/// # Errors
/// See [`VersionError`].
pub fn parse_version(text: &str) -> Result<Version, VersionError> {
    bounded(text)?;
    Version::parse(text).map_err(|source| VersionError::Version { text: text.into(), source })
}

/// Reads a requirement, such as `^1`, `=1.2.3`, `>=1.2, <3` or `*`.
///
/// # Errors
/// See [`VersionError`].
pub fn parse_requirement(text: &str) -> Result<VersionReq, VersionError> {
    bounded(text)?;
    VersionReq::parse(text)
        .map_err(|source| VersionError::Requirement { text: text.into(), source })
}

fn bounded(text: &str) -> Result<(), VersionError> {
    match text.len() {
        0..=VERSION_LEN_MAX => Ok(()),
        len => Err(VersionError::TooLong { len }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_or_refused_with_the_reason() {
        assert_eq!(parse_version("1.2.0").unwrap(), Version::new(1, 2, 0));
        assert!(parse_requirement("^1").unwrap().matches(&Version::new(1, 2, 0)));
        let error = parse_version("1.2").unwrap_err().to_string();
        assert!(error.starts_with("\"1.2\" is not a version such as 1.2.0"), "{error}");
        assert!(matches!(parse_requirement("^^1"), Err(VersionError::Requirement { .. })));
        let endless = format!("1.2.0-{}", "a".repeat(1 << 20));
        assert!(matches!(parse_version(&endless), Err(VersionError::TooLong { .. })));
    }
}
