//! Which actor of a mesh a context belongs to.
//!
//! actix knows nothing of meshes, so the supervisor says on this thread which actor it is polling, and in which context: a
//! context is known by where it lies, for a handler may make contexts of others, of its own type too. For an exposed plain
//! actix actor, which nobody of ours polls, a table of the thread knows it by its address.

#![allow(
    clippy::mutable_key_type,
    reason = "an `Addr` is hashed and compared as the pointer that it is"
)]

use crate::actor::cell::ActorCell;
use crate::mailbox::dispatch::RemoteActor;
use crate::refs::caller::place_of;
use actix::{Addr, AsyncContext, Context};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

type AnyCell = Arc<dyn Any + Send + Sync>;
type Cells<A> = HashMap<Addr<A>, Arc<ActorCell<A>>>;

thread_local! {
    /// What this thread is running, the innermost last.
    static AT_WORK: RefCell<Vec<AtWork>> = const { RefCell::new(Vec::new()) };
    /// Exposed plain actors of this thread: for each type its `Cells`.
    static ALONE: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::new(HashMap::new());
}

/// An actor at work, and where its context lies while it is.
struct AtWork {
    context: usize,
    cell: AnyCell,
}

/// While it lives, this thread is running an actor in its context.
pub(crate) struct Current(());

impl Current {
    /// The context must stay where it is until the end.
    pub(crate) fn enter<A: RemoteActor>(cell: Arc<ActorCell<A>>, ctx: &Context<A>) -> Self {
        let context = place_of(ctx);
        // The thread may be ending, its locals gone before its tasks: then nobody asks any more.
        let _ = AT_WORK.try_with(|at_work| at_work.borrow_mut().push(AtWork { context, cell }));
        Self(())
    }

    /// Remembers an exposed plain actor of this thread.
    pub(crate) fn remember_alone<A: RemoteActor>(address: Addr<A>, cell: Arc<ActorCell<A>>) {
        ALONE.with_borrow_mut(|alone| {
            let cells =
                alone.entry(TypeId::of::<A>()).or_insert_with(|| Box::new(Cells::<A>::new()));
            if let Some(cells) = cells.downcast_mut::<Cells<A>>() {
                cells.insert(address, cell);
            }
        });
    }

    pub(crate) fn forget_alone<A: RemoteActor>(cell: &Arc<ActorCell<A>>) {
        // The thread may be ending, its locals gone before its tasks.
        let forgotten = ALONE.try_with(|alone| {
            let mut alone = alone.try_borrow_mut().ok()?;
            let cells = alone.get_mut(&TypeId::of::<A>())?.downcast_mut::<Cells<A>>()?;
            let address = cells
                .iter()
                .find(|(_, known)| Arc::ptr_eq(known, cell))
                .map(|(address, _)| address.clone())?;
            cells.remove_entry(&address)
        });
        drop(forgotten);
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // Outside of the borrow: it may be the last that is left of the actor.
        let ended = AT_WORK.try_with(|at_work| at_work.borrow_mut().pop());
        drop(ended);
    }
}

/// The actor that this context belongs to, if it lives in a mesh.
pub(super) fn cell_of<A: RemoteActor>(ctx: &Context<A>) -> Option<Arc<ActorCell<A>>> {
    let context = place_of(ctx);
    let cell = AT_WORK.with_borrow(|at_work| {
        let this = at_work.iter().rev().find(|actor| actor.context == context)?;
        Some(this.cell.clone())
    });
    if let Some(Ok(cell)) = cell.map(Arc::downcast::<ActorCell<A>>) {
        return Some(cell);
    }
    ALONE.with_borrow(|alone| {
        let cells = alone.get(&TypeId::of::<A>())?.downcast_ref::<Cells<A>>()?;
        cells.get(&ctx.address()).cloned()
    })
}
