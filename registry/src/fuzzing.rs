//! What the fuzz target (fuzz/) and the test of its seeds (tests/fuzz_seeds.rs) do with an input. Not part of the API.

#![allow(missing_docs)]

use crate::{
    name::ServiceName,
    version::{VersionReq, parse_requirement, parse_version},
};

/// A target's name, which is also that of its seeds' folder, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[("service_query", service_query)];

/// A name and a requirement, parted by a space.
pub fn service_query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, required) = text.split_once(' ').unwrap_or((text, "*"));
    if let Ok(parsed) = name.parse::<ServiceName>() {
        assert_eq!(parsed.as_str(), name);
    }
    if let Ok(version) = parse_version(required) {
        assert_eq!(version.to_string(), required);
    }
    if let Ok(requirement) = parse_requirement(required) {
        // Written out in full it may be longer than what is taken in.
        let again = VersionReq::parse(&requirement.to_string());
        assert_eq!(again.ok(), Some(requirement));
    }
}
