//! Spawning a supervised actor.

use crate::actor::cell::ActorCell;
use crate::actor::restart::Restart;
use crate::actor::supervise::Supervisor;
use crate::mailbox::dispatch::RemoteActor;
use crate::mesh::Mesh;
use crate::refs::actor_ref::ActorRef;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use webmesh_transport::placement::Named;

impl Mesh {
    /// Spawns a supervised actor on the least loaded of the mesh's threads. The factory makes its first instance and,
    /// after a panic, the next one. Returns at once; messages sent before the actor has started wait in its inlet.
    ///
    /// The actor lives until it stops itself (`ctx.stop()`), panics for good, or the mesh ends, whether or not anybody
    /// holds a ref. After a shutdown of the mesh it ends at once.
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
    /// let start = 40;
    /// let sum = mesh.spawn(move || SumActor(start));
    /// assert_eq!(sum.ask(Add(2)).await?, 42);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<A, F>(&self, factory: F) -> ActorRef<A::Main>
    where
        A: RemoteActor,
        F: FnMut() -> A + Send + 'static,
    {
        self.spawner().spawn(factory)
    }

    /// As [`spawn`](Self::spawn), with choices: restart policy and capacity.
    pub fn spawner(&self) -> Spawner {
        Spawner::new(self.clone())
    }
}

/// How an actor is to be spawned; made by [`Mesh::spawner`].
#[derive(Debug)]
#[must_use = "it spawns nothing until `spawn` is called"]
pub struct Spawner {
    mesh: Mesh,
    restart: Restart,
    capacity: usize,
}

impl Spawner {
    pub(crate) fn new(mesh: Mesh) -> Self {
        let capacity = mesh.inner().inlet_capacity;
        Self { mesh, restart: Restart::default(), capacity }
    }

    /// What happens after a panic. Default: [`Restart::WhileItProgresses`] with 10 attempts, which never gives up an actor that
    /// gets as far as its messages. [`Restart::Within`] is a hard limit.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How many messages its inlet holds before senders have to wait; at least 1. Default: what the mesh was built with,
    /// or 4,096. A small one costs throughput (64: a seventh).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Spawns it; see [`Mesh::spawn`].
    pub fn spawn<A, F>(self, factory: F) -> ActorRef<A::Main>
    where
        A: RemoteActor,
        F: FnMut() -> A + Send + 'static,
    {
        let cell = ActorCell::<A>::new(&self.mesh, self.capacity);
        let reference = cell.reference::<A::Main>(&self.mesh);
        let name: Arc<dyn Named> = cell.clone();
        let supervisor = Supervisor::new(cell, factory, self.restart);
        if self.mesh.inner().shut_down.load(Ordering::Acquire) {
            // Dropped, it ends the actor.
            return reference;
        }
        let run = self.mesh.run();
        let task = Box::new(move || {
            // What an actor starts, a mesh of its own say, belongs where its mesh belongs.
            run.enter();
            Box::pin(supervisor.run()) as _
        });
        self.mesh.inner().placement.spawn_actor(task, name);
        reference
    }
}
