//! Rights in use: who has a lane or a watch by a published name, so that its rule can be asked again when it changes.
//!
//! A right is entered and its rule is asked the first time on the network's thread, without a pause in between; a rule is
//! changed first and asked again on that thread afterwards. So nobody slips through between the two. It is asked again in
//! batches: others' messages have their turn in between, however many lanes an actor has.

use crate::codec::wire_ref::ObjectId;
use crate::net::names::{Family, Own};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;
use webmesh_transport::PeerId;

/// Rights that are judged before others on the network's thread have their turn. A guess: 10 µs with a rule that looks into a set, and less
/// than a millisecond with one that takes 10 µs.
const BATCH: usize = 64;

/// Who uses a right.
pub(crate) trait Holder: Send + Sync {
    /// The rule was asked again. Must not block. A holder that is to lose the right later, in a turn of its own, returns what tells
    /// that it has.
    fn judged(&self, admitted: bool) -> Option<Losing>;
}

/// Resolves, with an error, when a holder has lost its right.
pub(crate) type Losing = oneshot::Receiver<Infallible>;

/// A right in use, as it is judged.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) id: ObjectId,
    pub(crate) caller: PeerId,
    /// The actor that it was granted for.
    pub(crate) own: Own,
    pub(crate) holder: Weak<dyn Holder>,
}

/// The rule is being asked again.
struct Pass {
    /// Who waits until it is done.
    waiting: Vec<oneshot::Sender<Infallible>>,
    /// The rule has changed since it began: it has to begin anew, and these wait for that.
    again: Option<Vec<oneshot::Sender<Infallible>>>,
}

#[derive(Default)]
struct InUse {
    held: BTreeMap<u64, Held>,
    pass: Option<Pass>,
}

#[derive(Default)]
struct Table {
    families: HashMap<Family, InUse>,
    next: u64,
}

/// The rights in use of one mesh.
#[derive(Default)]
pub(crate) struct Rights {
    table: Mutex<Table>,
}

impl Rights {
    /// Enters a right. It is in use until what this returns is dropped.
    pub(crate) fn hold(
        self: &Arc<Self>,
        id: ObjectId,
        caller: PeerId,
        own: Own,
        holder: Weak<dyn Holder>,
    ) -> Right {
        let family = Family::of(&id);
        let mut table = self.table.lock();
        table.next += 1;
        let number = table.next;
        let held = Held { id, caller, own, holder };
        table.families.entry(family).or_default().held.insert(number, held);
        Right { rights: self.clone(), family, number }
    }

    /// Whoever waits is told, by the drop of `done`, when all rights of the family have been judged by the rules that there are now. Says whether
    /// a pass is to be begun.
    pub(crate) fn ask(&self, family: Family, done: oneshot::Sender<Infallible>) -> bool {
        let mut table = self.table.lock();
        let Some(in_use) = table.families.get_mut(&family) else { return false };
        match &mut in_use.pass {
            Some(pass) => {
                pass.again.get_or_insert_default().push(done);
                false
            }
            None => {
                in_use.pass = Some(Pass { waiting: vec![done], again: None });
                true
            }
        }
    }

    /// The rights of the family after this one.
    pub(crate) fn batch(&self, family: Family, after: u64) -> Vec<(u64, Held)> {
        let table = self.table.lock();
        let Some(in_use) = table.families.get(&family) else { return Vec::new() };
        let rest = in_use.held.range((Bound::Excluded(after), Bound::Unbounded));
        rest.take(BATCH).map(|(number, held)| (*number, held.clone())).collect()
    }

    /// All were judged. Says whether that has to be done once more; if not, the pass is over.
    pub(crate) fn begins_anew(&self, family: Family) -> bool {
        let mut table = self.table.lock();
        let Some(in_use) = table.families.get_mut(&family) else { return false };
        let Some(Pass { waiting, again }) = in_use.pass.take() else { return false };
        let again = again.map(|waiting| Pass { waiting, again: None });
        let anew = again.is_some();
        in_use.pass = again;
        if !anew && in_use.held.is_empty() {
            table.families.remove(&family);
        }
        drop(table);
        drop(waiting);
        anew
    }

    /// The pass has ended before its time: who waits for it is let go.
    pub(crate) fn give_up(&self, family: Family) {
        let mut table = self.table.lock();
        let Some(in_use) = table.families.get_mut(&family) else { return };
        let given_up = in_use.pass.take();
        if in_use.held.is_empty() {
            table.families.remove(&family);
        }
        drop(table);
        drop(given_up);
    }
}

/// A right that is in use.
pub(crate) struct Right {
    rights: Arc<Rights>,
    family: Family,
    number: u64,
}

impl Drop for Right {
    fn drop(&mut self) {
        let mut table = self.rights.table.lock();
        let Some(in_use) = table.families.get_mut(&self.family) else { return };
        let held = in_use.held.remove(&self.number);
        if in_use.held.is_empty() && in_use.pass.is_none() {
            table.families.remove(&self.family);
        }
        drop(table);
        // It may be the last to hold what it holds.
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Mesh;
    use crate::net::inbound::tenure::{Revocation, Tenure};
    use crate::prelude::*;
    use crate::{ActorRef, Anyone, MemoryNetwork, Only, SecretKey};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(crate::Message, serde::Serialize, serde::Deserialize)]
    #[message(id = "test.nothing")]
    struct Nothing;

    #[derive(crate::Protocol)]
    #[protocol(id = "test.idle/1", accepts(Nothing))]
    struct Idle;

    #[derive(crate::RemoteActor)]
    #[remote(serves(Idle))]
    struct IdleActor;

    impl Actor for IdleActor {
        type Context = Context<Self>;
    }

    impl Handler<Nothing> for IdleActor {
        type Result = ();
        fn handle(&mut self, _: Nothing, _: &mut Context<Self>) {}
    }

    /// Counts what it is told.
    #[derive(Default)]
    struct Counts {
        admitted: AtomicUsize,
        refused: AtomicUsize,
    }

    impl Holder for Counts {
        fn judged(&self, admitted: bool) -> Option<Losing> {
            let count = if admitted { &self.admitted } else { &self.refused };
            count.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    impl Counts {
        fn take(&self) -> (usize, usize) {
            let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
            (take(&self.admitted), take(&self.refused))
        }
    }

    async fn mesh() -> Mesh {
        let network = MemoryNetwork::new(1);
        let address = "10.0.0.1:4000".parse().unwrap();
        Mesh::builder().in_place().memory_network(&network).listen(address).start().await.unwrap()
    }

    #[webmesh::test]
    async fn a_hundred_thousand_rights_are_judged_in_turns_in_which_others_have_theirs() {
        const MANY: usize = 100_000;
        let mesh = mesh().await;
        let idle = mesh.spawn(|| IdleActor);
        mesh.publish("idle", &idle).allow(Anyone).await.unwrap();
        let resolved: ActorRef<Idle> = mesh.resolve("idle").await.unwrap();
        let (id, own) = (resolved.wire().unwrap().object, idle.wire().unwrap().object);
        let [friend, stranger] = [(); 2].map(|()| SecretKey::generate().peer_id());
        let counts = Arc::new(Counts::default());
        let rights: Vec<Right> = (0..MANY)
            .map(|n| {
                let caller = if n % 2 == 0 { friend } else { stranger };
                let holder: Weak<Counts> = Arc::downgrade(&counts);
                mesh.objects().rights().hold(id, caller, (mesh.peer_id(), own), holder)
            })
            .collect();
        let turns = Arc::new(AtomicUsize::new(0));
        let counting = turns.clone();
        let neighbour = tokio::task::spawn_local(async move {
            loop {
                counting.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let begun = std::time::Instant::now();
        mesh.publish("idle", &idle).allow(Only::these([friend])).await.unwrap();
        println!("{MANY} judged within {:?}", begun.elapsed());
        assert_eq!(counts.take(), (MANY / 2, MANY / 2));
        assert!(turns.load(Ordering::Relaxed) >= MANY / BATCH);
        // A change in the middle has all of them judged by what is true in the end.
        let (first, second) = (mesh.publish("idle", &idle), mesh.publish("idle", &idle));
        let first = std::future::IntoFuture::into_future(first.allow(Only::these([friend])));
        let second = async {
            while counts.refused.load(Ordering::Relaxed) < MANY / 8 {
                tokio::task::yield_now().await;
            }
            second.allow(Only::these([stranger])).await
        };
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_ok() && second.is_ok());
        let (admitted, refused) = counts.take();
        assert!(admitted + refused >= MANY + MANY / 4, "{admitted} and {refused}");
        mesh.unpublish("idle").await.unwrap();
        assert_eq!(counts.take(), (0, MANY));
        drop(rights);
        neighbour.abort();
        // That of the resolved ref itself is left.
        assert_eq!(mesh.objects().rights().table.lock().families.len(), 1);
        drop(resolved);
        assert!(mesh.objects().rights().table.lock().families.is_empty());
    }

    #[webmesh::test]
    async fn a_right_is_lost_only_when_all_lanes_have_refused_what_they_had() {
        const LANES: usize = 2_000;
        let mesh = mesh().await;
        let idle = mesh.spawn(|| IdleActor);
        mesh.publish("idle", &idle).allow(Anyone).await.unwrap();
        let resolved: ActorRef<Idle> = mesh.resolve("idle").await.unwrap();
        let (id, own) = (resolved.wire().unwrap().object, idle.wire().unwrap().object);
        let stranger = SecretKey::generate().peer_id();
        let refused = Arc::new(AtomicUsize::new(0));
        for _ in 0..LANES {
            let tenure = Tenure::new(|revocation| {
                let holder: Weak<Revocation> = Arc::downgrade(&revocation);
                mesh.objects().rights().hold(id, stranger, (mesh.peer_id(), own), holder)
            });
            let refused = refused.clone();
            // One after the other has its turn, as lanes have.
            tokio::spawn(async move {
                std::future::poll_fn(|cx| match tenure.is_over(cx) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                })
                .await;
                tokio::task::yield_now().await;
                refused.fetch_add(1, Ordering::Relaxed);
            });
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        mesh.unpublish("idle").await.unwrap();
        assert_eq!(refused.load(Ordering::Relaxed), LANES);
    }

    #[webmesh::test]
    async fn whoever_waits_for_a_judgement_is_let_go_when_the_mesh_ends() {
        let mesh = mesh().await;
        let idle = mesh.spawn(|| IdleActor);
        mesh.publish("idle", &idle).allow(Anyone).await.unwrap();
        let resolved: ActorRef<Idle> = mesh.resolve("idle").await.unwrap();
        mesh.shutdown().await;
        mesh.recheck().await.unwrap();
        drop(resolved);
    }
}
