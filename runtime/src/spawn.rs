//! Spawning a supervised actor.

use crate::actor_cell::ActorCell;
use crate::actor_ref::ActorRef;
use crate::dispatch::RemoteActor;
use crate::mesh::Mesh;
use crate::restart::Restart;
use crate::supervise::Supervisor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use webmesh_transport::placement::Named;

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
