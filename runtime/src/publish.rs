//! Publishing an actor under a name, and finding it again.

use crate::access::Access;
use crate::actor_ref::{ActorRef, Target};
use crate::mesh::Mesh;
use crate::message::Protocol;
use crate::network::Query;
use crate::refusals::Reason;
use crate::wire_ref::{ObjectId, WireRef};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::future::IntoFuture;
use std::marker::PhantomData;
use webmesh_registry::{
    Published, ServiceName, Version, VersionReq, parse_requirement, parse_version,
};
use webmesh_transport::{PeerId, PeerRef};

/// The version of what is published without one.
const DEFAULT_VERSION: &str = "1.0.0";

/// Why an actor was not published. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The name is not well-formed. Choose another.
    #[error(transparent)]
    Name(#[from] webmesh_registry::NameError),
    /// The version is no semantic version.
    #[error(transparent)]
    Version(#[from] webmesh_registry::VersionError),
    /// The directory does not take it; the error says why.
    #[error(transparent)]
    Directory(#[from] webmesh_registry::PublishError),
    /// Another actor is published under this name as a compatible version. Refs outlive versions that are compatible, so
    /// there can be only one.
    #[error("another actor is published under this name as a compatible version")]
    Compatible,
    /// Only an actor of this mesh can be published; this one lives elsewhere, or has ended.
    #[error("not an actor of this mesh, or it has ended")]
    NotHere,
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

/// No access rule has been given yet.
#[derive(Debug)]
pub struct Unruled(());

/// A publication to be made; by [`Mesh::publish`]. It needs a rule, by [`allow`](Self::allow), and is made by awaiting it.
#[derive(Debug)]
#[must_use = "nothing is published until this is awaited"]
pub struct Publish<'a, P: Protocol, R = Unruled> {
    mesh: &'a Mesh,
    name: &'a str,
    actor: &'a ActorRef<P>,
    version: &'a str,
    rule: R,
}

impl<'a, P: Protocol> Publish<'a, P> {
    pub(crate) fn new(mesh: &'a Mesh, name: &'a str, actor: &'a ActorRef<P>) -> Self {
        Self { mesh, name, actor, version: DEFAULT_VERSION, rule: Unruled(()) }
    }

    /// Says who may resolve and call it: [`Anyone`](crate::Anyone), [`Only`](crate::Only) or [`Access::by`].
    pub fn allow(self, rule: impl Into<Access>) -> Publish<'a, P, Access> {
        let Self { mesh, name, actor, version, .. } = self;
        Publish { mesh, name, actor, version, rule: rule.into() }
    }
}

impl<'a, P: Protocol, R> Publish<'a, P, R> {
    /// The semantic version of the service; `1.0.0` unless set.
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = version;
        self
    }
}

impl<'a, P: Protocol> IntoFuture for Publish<'a, P, Access> {
    type Output = Result<(), PublishError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.mesh.publish_now(self.name, self.actor, self.version, self.rule))
    }
}

impl Mesh {
    fn publish_now<P: Protocol>(
        &self,
        name: &str,
        actor: &ActorRef<P>,
        version: &str,
        rule: Access,
    ) -> Result<(), PublishError> {
        let name: ServiceName = name.parse()?;
        let version = parse_version(version)?;
        let target = match actor.target() {
            Target::Local(target)
                if target.key().0 == self.peer_id() && target.status().ended().is_none() =>
            {
                target
            }
            _ => return Err(PublishError::NotHere),
        };
        let object = self.published_id(&name, P::ID, &version);
        if let Some(other) = self.objects().local(&object, P::ID)
            && other.key() != target.key()
        {
            return Err(PublishError::Compatible);
        }
        let public = rule.is_public();
        self.inner().directory.publish(
            &name,
            Published { object, protocol: P::ID.into(), version, access: rule.clone() },
        )?;
        self.objects().insert(object, target.clone().exposed(), rule);
        // A ref that its holder was given deliberately must not come under the rule of a name.
        target.published_as(object, public);
        Ok(())
    }

    /// The id of what is published under a name: a keyed hash, so that refs live on when the process is started anew,
    /// also with a newer compatible version, and nobody else can compute it.
    fn published_id(&self, name: &ServiceName, protocol: &str, version: &Version) -> ObjectId {
        let key = self.inner().secret.derive::<32>("published object");
        let compatible = match (version.major, version.minor) {
            (0, minor) => format!("0.{minor}"),
            (major, _) => major.to_string(),
        };
        // The key has a fixed length and the other parts can't contain a NUL, so no two inputs look alike. A hash over
        // (key, message) can be extended, but the first half of one cannot.
        let mut hash = Sha256::new_with_prefix(key);
        for part in [name.as_str(), protocol, &compatible] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        ObjectId(id)
    }

    /// Answers a query by another mesh, or by this one.
    pub(crate) fn answer_query(
        &self,
        name: &str,
        requirement: &str,
        protocol: &str,
        caller: PeerId,
    ) -> Result<WireRef, ResolveError> {
        let (name, requirement) = well_formed(name, requirement)?;
        // A rule is the application's code and must not run under the directory's lock, so the candidates are looked
        // at one by one: the best version first, then the best one below it.
        let found = self
            .inner()
            .directory
            .resolve(&name, &requirement, |published| published.access.admits(caller));
        let found = found.map_err(|error| match error {
            webmesh_registry::ResolveError::NoMatchingVersion { published, .. } => {
                ResolveError::NoMatchingVersion {
                    published: published.iter().map(ToString::to_string).collect(),
                }
            }
            _ => ResolveError::Unknown,
        })?;
        if *found.protocol != *protocol {
            return Err(ResolveError::WrongProtocol { found: found.protocol.to_string() });
        }
        let mut wire = self.wire_ref(found.object, 0, protocol.to_owned());
        // Two processes of a host start at different times; the factor keeps their numbers apart.
        let of_process = self.epoch().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let serial = self.objects().serial(&found.object);
        wire.publication = serial.map(|serial| of_process.wrapping_add(serial));
        Ok(wire)
    }
}

impl Mesh {
    /// Why a query by another mesh was answered with this error.
    pub(crate) fn why_unresolved(&self, name: &str, error: &ResolveError) -> Reason {
        match error {
            ResolveError::NoMatchingVersion { .. } => Reason::NoMatchingVersion,
            ResolveError::WrongProtocol { .. } => Reason::WrongProtocol,
            ResolveError::Name(_) | ResolveError::Requirement(_) => Reason::MalformedQuery,
            _ => {
                let published = name.parse().is_ok_and(|name| {
                    self.inner().directory.resolve(&name, &VersionReq::STAR, |_| true).is_ok()
                });
                if published { Reason::ForbiddenName } else { Reason::UnknownName }
            }
        }
    }
}

fn well_formed(name: &str, requirement: &str) -> Result<(ServiceName, VersionReq), ResolveError> {
    let name = name
        .parse()
        .map_err(|error: webmesh_registry::NameError| ResolveError::Name(error.to_string()))?;
    let requirement = parse_requirement(requirement)
        .map_err(|error| ResolveError::Requirement(error.to_string()))?;
    Ok((name, requirement))
}

/// A name to be resolved; by [`Mesh::resolve`]. It is resolved by awaiting it.
#[derive(Debug)]
#[must_use = "nothing is resolved until this is awaited"]
pub struct Resolve<'a, P> {
    mesh: &'a Mesh,
    name: &'a str,
    requirement: &'a str,
    at: Option<PeerRef>,
    protocol: PhantomData<fn() -> P>,
}

impl<'a, P: Protocol> Resolve<'a, P> {
    pub(crate) fn new(mesh: &'a Mesh, name: &'a str) -> Self {
        Self { mesh, name, requirement: "*", at: None, protocol: PhantomData }
    }

    /// Where to ask. Without it, the name is resolved in the mesh's own directory.
    pub fn at(mut self, host: &PeerRef) -> Self {
        self.at = Some(host.clone());
        self
    }

    /// The versions that will do, as in Cargo (`"^1"`, `">=1.2, <2"`); any, unless set.
    pub fn version(mut self, requirement: &'a str) -> Self {
        self.requirement = requirement;
        self
    }
}

impl<'a, P: Protocol> IntoFuture for Resolve<'a, P> {
    type Output = Result<ActorRef<P>, ResolveError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mesh, name, requirement, at, .. } = self;
        Box::pin(async move {
            let wire = match at {
                Some(host) if host.peer() != Some(mesh.peer_id()) => {
                    well_formed(name, requirement)?;
                    let network = mesh.inner().network.get().ok_or(ResolveError::ShutDown)?;
                    let query = Query {
                        name: name.into(),
                        requirement: requirement.into(),
                        protocol: P::ID,
                    };
                    network.resolve(host, query).await?
                }
                _ => mesh.answer_query(name, requirement, P::ID, mesh.peer_id())?,
            };
            if wire.protocol != P::ID {
                return Err(ResolveError::WrongProtocol { found: wire.protocol.into_owned() });
            }
            // The answering host's word; where the application found that is remembered apart.
            let origin = mesh.origin_of(wire.peer);
            Ok(ActorRef::new(mesh.target(wire, origin)))
        })
    }
}
