//! How a host or a service is found.
//!
//! - [`name`]: names of services, and which are allowed.
//! - [`version`]: versions of services, and what clients require of them.
//! - [`directory`]: what this host itself provides under which name.
//!
//! Names carry no global uniqueness: a name is resolved at a host, and the host is found first. Follows docs/architecture.md.

// From the top floor down: a module imports from those below it (tests/house.rs).

#[doc(hidden)]
pub mod fuzzing;

pub mod directory;

pub mod name;
pub mod version;

pub use directory::{Directory, ObjectId, PublishError, Published, ResolveError, UnpublishError};
pub use name::{NameError, ServiceName};
pub use version::{Version, VersionError, VersionReq, parse_requirement, parse_version};
