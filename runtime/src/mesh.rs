//! A mesh: one identity, its objects and its connections to other meshes.

use crate::objects::Objects;
use std::cell::RefCell;
use std::sync::{Arc, Weak};
use webmesh_transport::PeerId;

/// One node of the mesh, embedded in this program. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    peer: PeerId,
    /// When this mesh was started, in ms since 1970.
    epoch: u64,
    objects: Objects,
}

impl Mesh {
    /// The identity of this mesh.
    pub fn peer_id(&self) -> PeerId {
        self.inner.peer
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.inner.objects
    }

    pub(crate) fn downgrade(&self) -> WeakMesh {
        WeakMesh { inner: Arc::downgrade(&self.inner) }
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("peer", &self.inner.peer).finish_non_exhaustive()
    }
}

/// A mesh that this holder doesn't keep alive.
#[derive(Clone)]
pub(crate) struct WeakMesh {
    inner: Weak<Inner>,
}

impl WeakMesh {
    /// `None` when it's gone.
    pub(crate) fn upgrade(&self) -> Option<Mesh> {
        self.inner.upgrade().map(|inner| Mesh { inner })
    }
}

thread_local! {
    static DECODING: RefCell<Option<Mesh>> = const { RefCell::new(None) };
}

/// While it lives, refs decoded on this thread are bound to a mesh.
pub(crate) struct DecodeScope {
    outer: Option<Mesh>,
}

impl DecodeScope {
    pub(crate) fn enter(mesh: Mesh) -> Self {
        Self { outer: DECODING.replace(Some(mesh)) }
    }

    /// The mesh of the message that this thread is decoding.
    pub(crate) fn current() -> Option<Mesh> {
        DECODING.with_borrow(Clone::clone)
    }
}

impl Drop for DecodeScope {
    fn drop(&mut self) {
        DECODING.set(self.outer.take());
    }
}
