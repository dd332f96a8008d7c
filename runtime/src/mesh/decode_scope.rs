//! To which mesh a ref belongs that is being decoded, and who sent it.

use super::{Mesh, WeakMesh};
use std::cell::{Cell, RefCell};
use webmesh_transport::{Origin, PeerId};

thread_local! {
    static DECODING: RefCell<Option<WeakMesh>> = const { RefCell::new(None) };
    static SENDER: Cell<Option<PeerId>> = const { Cell::new(None) };
}

/// While it lives, refs decoded on this thread are bound to a mesh. It borrows the holder's handle rather than clone it:
/// that is two atomic operations less for each message, most of which contain no ref.
pub(crate) struct DecodeScope<'a> {
    mesh: &'a mut WeakMesh,
    outer: Option<WeakMesh>,
    outer_sender: Option<PeerId>,
}

impl<'a> DecodeScope<'a> {
    /// `sender`: whose message it is.
    pub(crate) fn enter(mesh: &'a mut WeakMesh, sender: PeerId) -> Self {
        let outer = DECODING.replace(Some(std::mem::take(mesh)));
        Self { mesh, outer, outer_sender: SENDER.replace(Some(sender)) }
    }
}

impl DecodeScope<'_> {
    /// The mesh of the message that this thread is decoding, and where the word of its sender may lead that.
    pub(crate) fn current() -> Option<(Mesh, Origin)> {
        let mesh = DECODING.with_borrow(|mesh| mesh.as_ref().and_then(WeakMesh::upgrade))?;
        let origin = SENDER.get().map_or(Origin::Internet, |sender| mesh.origin_of(sender));
        Some((mesh, origin))
    }
}

impl Drop for DecodeScope<'_> {
    fn drop(&mut self) {
        SENDER.set(self.outer_sender);
        *self.mesh = DECODING.replace(self.outer.take()).unwrap_or_default();
    }
}
