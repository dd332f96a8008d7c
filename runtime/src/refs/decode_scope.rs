//! To which mesh a ref belongs that is being decoded, and who sent it.

use crate::codec::wire_ref::WireRef;
use crate::refs::binder::WeakBinder;
use crate::refs::target::Target;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use webmesh_transport::PeerId;

thread_local! {
    static DECODING: RefCell<WeakBinder> = const { RefCell::new(WeakBinder::NONE) };
    static SENDER: Cell<Option<PeerId>> = const { Cell::new(None) };
}

/// While it lives, refs decoded on this thread are bound to a mesh. It borrows the holder's handle rather than clone it:
/// that is two atomic operations less for each message, most of which contain no ref.
pub(crate) struct DecodeScope<'a> {
    mesh: &'a mut WeakBinder,
    outer: WeakBinder,
    outer_sender: Option<PeerId>,
}

impl<'a> DecodeScope<'a> {
    /// `sender`: whose message it is.
    pub(crate) fn enter(mesh: &'a mut WeakBinder, sender: PeerId) -> Self {
        let outer = DECODING.replace(std::mem::take(mesh));
        Self { mesh, outer, outer_sender: SENDER.replace(Some(sender)) }
    }
}

impl DecodeScope<'_> {
    /// Where a ref leads that this thread has just decoded.
    pub(crate) fn bind(wire: WireRef) -> Target {
        match DECODING.with_borrow(WeakBinder::upgrade) {
            Some(mesh) => mesh.bind(wire, SENDER.get()),
            None => Target::Unbound(Arc::new(wire)),
        }
    }
}

impl Drop for DecodeScope<'_> {
    fn drop(&mut self) {
        SENDER.set(self.outer_sender);
        *self.mesh = DECODING.replace(std::mem::take(&mut self.outer));
    }
}
