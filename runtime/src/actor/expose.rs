//! Actix actors that run already, and get a mailbox as well.

use crate::actor::cell::ActorCell;
use crate::actor::current::Current;
use crate::actor::drain::Pump;
use crate::mailbox::Hand;
use crate::mailbox::dispatch::RemoteActor;
use crate::mailbox::expose_request::Attach;
use crate::mesh::Mesh;
use crate::refs::actor_ref::ActorRef;
use crate::refs::watch::DownReason;
use actix::{Addr, AsyncContext};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use webmesh_transport::placement::Named;

impl Mesh {
    /// Gives a running actix actor an inlet, so that it can be reached through refs as well as through its `Addr`. It
    /// isn't supervised: a panic is its end. FIFO between refs and `Addr`s isn't promised.
    ///
    /// For an actor to be there, `Actor::start()` needs a `LocalSet`: see [`start_exposed`](Self::start_exposed) where there is none.
    ///
    /// Being exposed keeps the actor running after its last `Addr` is dropped. Inside its handlers `this`, `mesh` and
    /// the others work as soon as it has been exposed. When the mesh shuts down, the actor goes on without it.
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
    /// let address = SumActor(40).start(); // as actix starts it, on this thread
    /// let sum = mesh.expose(&address);
    /// assert_eq!(sum.ask(Add(2)).await?, 42);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn expose<A: RemoteActor>(&self, address: &Addr<A>) -> ActorRef<A::Main> {
        let cell = ActorCell::<A>::new(self, self.inner().inlet_capacity);
        let reference = cell.reference::<A::Main>(self);
        let mut arrival = Arrival(Some(cell));
        address.do_send(Attach::new(move |ctx| {
            if let Some(cell) = arrival.0.take() {
                Current::remember_alone(ctx.address(), cell.clone());
                ctx.spawn(Pump::alone(cell));
            }
        }));
        reference
    }

    /// Starts a plain actix actor on the least loaded of the mesh's threads, and [exposes](Self::expose) it: for programs whose own
    /// threads can't have one. `Actor::start()` needs a `LocalSet` around it, which `#[webmesh::main]` and `#[actix::main]` bring;
    /// under `#[tokio::main]` it panics, and the text is tokio's.
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
    /// #[tokio::main]
    /// async fn main() -> webmesh::Result<()> {
    ///     let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    ///     let (address, sum) = mesh.start_exposed(|| SumActor(40)).await?;
    ///     assert_eq!(sum.ask(Add(2)).await?, 42);
    ///     # drop(address);
    ///     mesh.shutdown().await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`MeshEnded`]; nothing was started.
    pub async fn start_exposed<A: RemoteActor>(
        &self,
        make: impl FnOnce() -> A + Send + 'static,
    ) -> Result<(Addr<A>, ActorRef<A::Main>), MeshEnded> {
        if self.inner().shut_down.load(Ordering::Acquire) {
            return Err(MeshEnded);
        }
        let (started, start) = tokio::sync::oneshot::channel();
        let task =
            Box::new(move || Box::pin(async move { drop(started.send(make().start())) }) as _);
        self.inner().placement.spawn_actor(task, Arc::new(OfType(std::any::type_name::<A>())));
        let address = start.await.map_err(|_| MeshEnded)?;
        let reference = self.expose(&address);
        Ok((address, reference))
    }
}

/// An actor that is only just being started, by the name of its type.
struct OfType(&'static str);

impl Named for OfType {
    fn name(&self) -> String {
        self.0.to_owned()
    }
}

/// The mesh has ended, and with it the threads that an actor could run on. Start another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this mesh is shut down")]
pub struct MeshEnded;

/// A cell on its way to a running actor. If it never arrives (the actor is gone already), it ends.
struct Arrival<A: RemoteActor>(Option<Arc<ActorCell<A>>>);

impl<A: RemoteActor> Drop for Arrival<A> {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            cell.end(&mut Hand::default(), DownReason::Stopped);
        }
    }
}
