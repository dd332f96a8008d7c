//! To which mesh a ref belongs that is being decoded.

use super::{Mesh, WeakMesh};
use std::cell::RefCell;

thread_local! {
    static DECODING: RefCell<Option<WeakMesh>> = const { RefCell::new(None) };
}

/// While it lives, refs decoded on this thread are bound to a mesh. It borrows the holder's handle rather than clone it:
/// that is two atomic operations less for each message, most of which contain no ref.
pub(crate) struct DecodeScope<'a> {
    mesh: &'a mut WeakMesh,
    outer: Option<WeakMesh>,
}

impl<'a> DecodeScope<'a> {
    pub(crate) fn enter(mesh: &'a mut WeakMesh) -> Self {
        let outer = DECODING.replace(Some(std::mem::take(mesh)));
        Self { mesh, outer }
    }
}

impl DecodeScope<'_> {
    /// The mesh of the message that this thread is decoding.
    pub(crate) fn current() -> Option<Mesh> {
        DECODING.with_borrow(|mesh| mesh.as_ref().and_then(WeakMesh::upgrade))
    }
}

impl Drop for DecodeScope<'_> {
    fn drop(&mut self) {
        *self.mesh = DECODING.replace(self.outer.take()).unwrap_or_default();
    }
}
