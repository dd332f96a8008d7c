//! A mesh as refs and connections see it.

use crate::codec::wire_ref::WireRef;
use crate::mesh::Inner;
use crate::net::names::Own;
use crate::net::objects::Objects;
use crate::net::query::ResolveError;
use crate::net::refusals::Reason;
use crate::net::shared::Host;
use crate::refs::binder::RefBinder;
use crate::refs::near::Limit;
use crate::refs::target::Target;
use crate::refs::watch::DownReason;
use std::time::Duration;
use webmesh_transport::placement::Sleep;
use webmesh_transport::{Origin, PeerId};

impl RefBinder for Inner {
    fn bind(&self, wire: WireRef, sender: Option<PeerId>) -> Target {
        let origin = sender.map_or(Origin::Internet, |sender| self.origin_of(sender));
        self.target(wire, origin)
    }

    fn undecodable(&self, sender: PeerId, id: &str, why: &str) {
        self.refusals.bad_payload(sender, id, why);
    }

    fn near_limit(&self) -> Option<&Limit> {
        self.near.as_ref()
    }

    fn sleep(&self, length: Duration) -> Sleep {
        self.placement.sleep(length)
    }
}

impl Host for Inner {
    fn objects(&self) -> &Objects {
        &self.objects
    }

    fn answer_query(
        &self,
        name: &str,
        requirement: &str,
        protocol: &str,
        caller: PeerId,
    ) -> Result<WireRef, (ResolveError, Reason)> {
        Self::answer_query(self, name, requirement, protocol, caller).map_err(|error| {
            let reason = self.why_unresolved(name, &error);
            (error, reason)
        })
    }

    fn actor_number(&self, own: &Own) -> u64 {
        Self::actor_number(self, own)
    }

    fn absent(&self, epoch: u64) -> DownReason {
        Self::absent(self, epoch)
    }
}
