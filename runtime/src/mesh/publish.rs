//! Publishing an actor under a name, finding it again, and taking the name back.

use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::ground::message::Protocol;
use crate::mesh::{Inner, Mesh};
use crate::net::names::{Family, Own, Taken, actor_number, published_id};
use crate::net::query::{Query, ResolveError};
use crate::net::refusals::Reason;
use crate::refs::access::Access;
use crate::refs::actor_ref::ActorRef;
use crate::refs::target::Target;
use futures_util::future::BoxFuture;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use webmesh_registry::{Published, ServiceName, VersionReq, parse_requirement, parse_version};
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
    /// there can be only one: unpublish that one first.
    #[error("another actor is published under this name as a compatible version")]
    Compatible,
    /// Only an actor of this mesh can be published; this one lives elsewhere, or has ended.
    #[error("not an actor of this mesh, or it has ended")]
    NotHere,
}

/// No access rule has been given yet.
#[derive(Debug)]
pub struct Unruled(());

/// Why a name was not withdrawn, or its rule not asked again. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpublishError {
    /// The name is not well-formed, so nothing can be published under it.
    #[error(transparent)]
    Name(#[from] webmesh_registry::NameError),
    /// The version is no semantic version.
    #[error(transparent)]
    Version(#[from] webmesh_registry::VersionError),
    /// Nothing is published under this name, or not in this version: it never was, or was withdrawn, or its actor has ended.
    #[error("nothing is published as {name}{}", version.as_ref().map(|v| format!(" {v}")).unwrap_or_default())]
    NotPublished {
        /// The name.
        name: String,
        /// The version, if one was given.
        version: Option<String>,
    },
}

/// A publication to be made; by [`Mesh::publish`]. It needs a rule, by [`allow`](Self::allow), and is made by awaiting it.
///
/// Under the same name and version again it replaces the rule. Each version has its own, also where one actor is published as
/// several compatible ones; a ref falls under that of the version as which it was resolved, or, when that isn't
/// published any more, under that of the highest compatible version that is.
///
/// When it resolves, all who lost their right by it have lost it: their asks read [`NoSuchActor`](crate::AskError::NoSuchActor),
/// also those in hand, their tells that no handler has taken are lost, which they are told, and their watches end as
/// [`Revoked`](crate::DownReason::Revoked). That takes the longer the more streams and watches there are, and goes on though the future be dropped.
/// Refs from `spawn` and `this` don't fall under any rule.
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
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mesh, name, actor, version, rule } = self;
        Box::pin(async move {
            let family = mesh.publish_now(name, actor, version, rule)?;
            mesh.ask_rules_again(vec![family]).await;
            Ok(())
        })
    }
}

impl Mesh {
    /// Publishes an actor under a name: `mesh.publish("chat/rust", &room).version("1.2.0").allow(Anyone).await?`.
    /// See [`Publish`].
    ///
    /// ```
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let sum = mesh.spawn(SumActor::default);
    /// mesh.publish("math/sum", &sum).version("1.2.0").allow(Anyone).await?;
    /// let found: ActorRef<Sum> = mesh.resolve("math/sum").version("^1").await?;
    /// assert_eq!(found.ask(Add(1)).await?, 1);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish<'a, P: Protocol>(
        &'a self,
        name: &'a str,
        actor: &'a ActorRef<P>,
    ) -> Publish<'a, P> {
        Publish::new(self, name, actor)
    }

    /// Takes a name back: `mesh.unpublish("chat/rust").version("1.2.0").await?`, or all its versions. See [`Unpublish`].
    pub fn unpublish<'a>(&'a self, name: &'a str) -> Unpublish<'a> {
        Unpublish::new(self, name)
    }

    /// Asks the rules of all that is published again, or of one name: `mesh.recheck().name("chat/rust").await?`. See
    /// [`Recheck`].
    pub fn recheck(&self) -> Recheck<'_> {
        Recheck::new(self)
    }

    /// Resolves a published name: `mesh.resolve("chat/rust").at(&peer_ref).version("^1").await?`. See [`Resolve`].
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let sum = mesh.spawn(SumActor::default);
    /// mesh.publish("math/sum", &sum).version("1.2.0").allow(Anyone).await?;
    ///
    /// // On another host, which got `mesh.peer_ref()` from somewhere:
    /// let guest = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let far: ActorRef<Sum> = guest.resolve("math/sum").at(&mesh.peer_ref()).version("^1").await?;
    /// assert_eq!(far.ask(Add(2)).await?, 2);
    /// # guest.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resolve<'a, P: Protocol>(&'a self, name: &'a str) -> Resolve<'a, P> {
        Resolve::new(self, name)
    }

    fn publish_now<P: Protocol>(
        &self,
        name: &str,
        actor: &ActorRef<P>,
        version: &str,
        access: Access,
    ) -> Result<Family, PublishError> {
        let name: ServiceName = name.parse()?;
        let version = parse_version(version)?;
        let near = match actor.target() {
            Target::Local(target) => Some(target.clone()),
            Target::Named(named) => named.with(Arc::clone).ok(),
            _ => None,
        };
        let target = near
            .filter(|near| near.key().0 == self.peer_id() && near.status().ended().is_none())
            .ok_or(PublishError::NotHere)?;
        let key = self.inner().secret.derive::<32>("published object");
        let id = published_id(&key, &name, P::ID, &version);
        {
            let names = self.objects().names();
            let _publishing = self.objects().publishing();
            names.check(id, &version, target.key()).map_err(|Taken| PublishError::Compatible)?;
            let (protocol, rule) = (P::ID.into(), access.clone());
            let published =
                Published { object: id, protocol, version: version.clone(), access: rule };
            self.inner().directory.publish(&name, published)?;
            names.insert(id, version, target.clone().exposed(), access);
        }
        target.published_as(id);
        Ok(Family::of(&id))
    }

    /// Withdraws what is published under an id, if it is one of this actor's.
    pub(crate) fn withdraw(&self, id: &ObjectId, whose: impl Fn(&Own) -> bool) {
        let _publishing = self.objects().publishing();
        if self.objects().names().remove(id, whose) {
            self.inner().directory.unpublish_object(*id);
        }
    }

    fn unpublish_now(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Vec<Family>, UnpublishError> {
        let service: ServiceName = name.parse()?;
        let only = version.map(parse_version).transpose()?;
        let mut withdrawn = Vec::new();
        {
            let _publishing = self.objects().publishing();
            for published in self.inner().directory.versions(&service) {
                if only.as_ref().is_some_and(|only| *only != published.version) {
                    continue;
                }
                // It can't be missing: what is published changes under this lock alone.
                let _ = self.inner().directory.unpublish(&service, &published.version);
                let names = self.objects().names();
                let found = names.find(&published.object).filter(|it| it.id == published.object);
                names.remove(&published.object, |_| true);
                withdrawn.extend(found);
            }
        }
        if withdrawn.is_empty() {
            let (name, version) = (name.to_owned(), version.map(str::to_owned));
            return Err(UnpublishError::NotPublished { name, version });
        }
        for publication in &withdrawn {
            publication.object.clone().local().unpublished(publication.id);
        }
        Ok(families(withdrawn.iter().map(|publication| publication.id)))
    }
}

/// The families of these ids, each once.
fn families(ids: impl Iterator<Item = ObjectId>) -> Vec<Family> {
    let mut families: Vec<_> = ids.map(|id| Family::of(&id)).collect();
    families.sort_unstable();
    families.dedup();
    families
}

/// A name to be taken back; by [`Mesh::unpublish`]. It is done by awaiting it: see [`Publish`] for what becomes of those who
/// lose their right. The actor lives on, and refs that don't come from the name work as before.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "add", reply = u64)]
/// # struct Add(u64);
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "sum/1", accepts(Add))]
/// # struct Sum;
/// # #[derive(Default, webmesh::RemoteActor)]
/// # #[remote(serves(Sum))]
/// # struct SumActor(u64);
/// # impl Actor for SumActor { type Context = Context<Self>; }
/// # impl Handler<Add> for SumActor {
/// #     type Result = u64;
/// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
/// # }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// use webmesh::AskError;
///
/// let sum = mesh.spawn(SumActor::default);
/// mesh.publish("math/sum", &sum).version("1.2.0").allow(Anyone).await?;
/// let found: ActorRef<Sum> = mesh.resolve("math/sum").await?;
/// mesh.unpublish("math/sum").version("1.2.0").await?;
/// assert_eq!(found.ask(Add(1)).await, Err(AskError::NoSuchActor));
/// assert_eq!(sum.ask(Add(1)).await, Ok(1));
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is withdrawn until this is awaited"]
pub struct Unpublish<'a> {
    mesh: &'a Mesh,
    name: &'a str,
    version: Option<&'a str>,
}

impl<'a> Unpublish<'a> {
    pub(crate) fn new(mesh: &'a Mesh, name: &'a str) -> Self {
        Self { mesh, name, version: None }
    }

    /// This version alone; all of them, unless set. Refs that were resolved as this version fall under the rule of the highest
    /// compatible one that is left, if there is one.
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = Some(version);
        self
    }
}

impl<'a> IntoFuture for Unpublish<'a> {
    type Output = Result<(), UnpublishError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mesh, name, version } = self;
        Box::pin(async move {
            let families = mesh.unpublish_now(name, version)?;
            mesh.ask_rules_again(families).await;
            Ok(())
        })
    }
}

/// Rules to be asked again; by [`Mesh::recheck`]. Needed when a rule in code ([`Access::by`]) has come to answer otherwise: who
/// has a stream or a watch by then is asked about again, by awaiting this. See [`Publish`] for what becomes of those who lose
/// their right.
///
/// ```
/// # use webmesh::{prelude::*, ActorRef, Mesh};
/// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
/// # #[message(id = "add", reply = u64)]
/// # struct Add(u64);
/// # #[derive(webmesh::Protocol)]
/// # #[protocol(id = "sum/1", accepts(Add))]
/// # struct Sum;
/// # #[derive(Default, webmesh::RemoteActor)]
/// # #[remote(serves(Sum))]
/// # struct SumActor(u64);
/// # impl Actor for SumActor { type Context = Context<Self>; }
/// # impl Handler<Add> for SumActor {
/// #     type Result = u64;
/// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
/// # }
/// # #[webmesh::main]
/// # async fn main() -> webmesh::Result<()> {
/// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
/// use std::collections::HashSet;
/// use std::sync::{Arc, Mutex};
/// use webmesh::{Access, PeerId};
///
/// let banned = Arc::new(Mutex::new(HashSet::<PeerId>::new()));
/// let rule = banned.clone();
/// let rule = Access::by(move |peer| rule.lock().is_ok_and(|banned| !banned.contains(&peer)));
/// # let sum = mesh.spawn(SumActor::default);
/// mesh.publish("math/sum", &sum).allow(rule).await?;
/// # let peer = mesh.peer_id();
/// banned.lock().unwrap().insert(peer);
/// mesh.recheck().await?;
/// # mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "no rule is asked until this is awaited"]
pub struct Recheck<'a> {
    mesh: &'a Mesh,
    name: Option<&'a str>,
}

impl<'a> Recheck<'a> {
    pub(crate) fn new(mesh: &'a Mesh) -> Self {
        Self { mesh, name: None }
    }

    /// The rules of this name's versions alone; those of all names, unless set.
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }
}

impl<'a> IntoFuture for Recheck<'a> {
    /// An error only for a name that nothing is published under.
    type Output = Result<(), UnpublishError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mesh, name } = self;
        Box::pin(async move {
            let families = match name {
                None => mesh.objects().names().families(),
                Some(name) => {
                    let published = mesh.inner().directory.versions(&name.parse()?);
                    if published.is_empty() {
                        let name = name.to_owned();
                        return Err(UnpublishError::NotPublished { name, version: None });
                    }
                    families(published.iter().map(|published| published.object))
                }
            };
            mesh.ask_rules_again(families).await;
            Ok(())
        })
    }
}

impl Inner {
    /// Stands for an actor towards those who watch it by a name.
    pub(crate) fn actor_number(&self, own: &Own) -> u64 {
        actor_number(&self.secret.derive::<32>("watched actor"), own)
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
        let of_process = self.epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let serial = self.objects.names().find(&found.object).map(|published| published.serial);
        wire.publication = serial.map(|serial| of_process.wrapping_add(serial));
        Ok(wire)
    }

    /// Why a query by another mesh was answered with this error.
    pub(crate) fn why_unresolved(&self, name: &str, error: &ResolveError) -> Reason {
        match error {
            ResolveError::NoMatchingVersion { .. } => Reason::NoMatchingVersion,
            ResolveError::WrongProtocol { .. } => Reason::WrongProtocol,
            ResolveError::Name(_) | ResolveError::Requirement(_) => Reason::MalformedQuery,
            _ => {
                let published = name.parse().is_ok_and(|name| {
                    self.directory.resolve(&name, &VersionReq::STAR, |_| true).is_ok()
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
                _ => mesh.inner().answer_query(name, requirement, P::ID, mesh.peer_id())?,
            };
            if wire.protocol != P::ID {
                return Err(ResolveError::WrongProtocol { found: wire.protocol.into_owned() });
            }
            // The answering host's word; where the application found that is remembered apart.
            let origin = mesh.inner().origin_of(wire.peer);
            Ok(ActorRef::new(mesh.inner().target(wire, origin)))
        })
    }
}
