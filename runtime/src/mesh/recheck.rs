//! Asking the rules of names again, of all who use a right by them.

use crate::mesh::{Mesh, WeakMesh};
use crate::net::names::Family;
use crate::net::rights::Rights;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Mesh {
    /// Asks the rules of these families again, and waits until all who lost a right by that have lost it. Begun, it goes on
    /// though nobody waits.
    pub(crate) async fn ask_rules_again(&self, families: Vec<Family>) {
        let mut all = Vec::new();
        for family in families {
            let (done, told) = oneshot::channel();
            if self.objects().rights().ask(family, done) {
                let (mesh, rights) = (self.downgrade(), self.objects().rights().clone());
                let under_way = UnderWay { rights, family, over: false };
                let placement = &self.inner().placement;
                placement.spawn_network(Box::new(move || Box::pin(pass(mesh, under_way))));
            }
            all.push(told);
        }
        for told in all {
            // An error, in any case: it is dropped when all were judged, when there is nothing to judge, or with the mesh.
            let _ = told.await;
        }
    }
}

/// A pass. Dropped before its time, with its thread say, it lets go whoever waits for it.
struct UnderWay {
    rights: Arc<Rights>,
    family: Family,
    over: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.over {
            self.rights.give_up(self.family);
        }
    }
}

async fn pass(mesh: WeakMesh, mut under_way: UnderWay) {
    let (rights, family) = (under_way.rights.clone(), under_way.family);
    let (mut after, mut judged, mut lost) = (0, 0_u64, 0_u64);
    loop {
        // Not kept alive meanwhile.
        let Some(mesh) = mesh.upgrade() else { return };
        let batch = rights.batch(family, after);
        match batch.last() {
            Some((last, _)) => after = *last,
            None if rights.begins_anew(family) => after = 0,
            None => {
                under_way.over = true;
                tracing::debug!(judged, lost, "the rules of a name were asked again");
                return;
            }
        }
        let mut losing = Vec::new();
        for (_, held) in batch {
            if let Some(holder) = held.holder.upgrade() {
                let admitted = mesh.objects().admits(&held.id, held.caller, held.own);
                (judged, lost) = (judged + 1, lost + u64::from(!admitted));
                losing.extend(holder.judged(admitted));
            }
        }
        drop(mesh);
        for lost in losing {
            // One turn of a task of this thread, or its end.
            let _ = lost.await;
        }
        tokio::task::yield_now().await;
    }
}
