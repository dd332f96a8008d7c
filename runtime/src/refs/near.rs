//! Calls within a mesh that are encoded and decoded as those between two are, so that a test in one mesh meets what would fail between two
//! ([`MeshBuilder::encode_near`](crate::MeshBuilder::encode_near)).

use crate::codec::payload::Encoder;
use crate::ground::error::{AskError, Fault};
use crate::refs::binder::{RefBinder, WeakBinder};
use crate::refs::decode_scope::DecodeScope;
use crate::refs::target::LocalTarget;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use webmesh_transport::PeerId;

/// Whether any mesh of this process has it set: else a near call has nobody to ask.
static ANY: AtomicBool = AtomicBool::new(false);

/// That a mesh encodes near calls, and how large they may be.
#[derive(Debug)]
pub(crate) struct Limit(usize);

impl Limit {
    /// In bytes, as [`MeshBuilder::body_max`](crate::MeshBuilder::body_max) counts them.
    pub(crate) fn new(bytes: usize) -> Self {
        ANY.store(true, Ordering::Relaxed);
        Self(bytes)
    }
}

/// Takes values apart and puts them together again.
pub(crate) struct Codec {
    mesh: Arc<dyn RefBinder>,
    own: PeerId,
    limit: usize,
}

/// That of a target's mesh, if it has one.
#[inline]
pub(crate) fn codec(target: &dyn LocalTarget) -> Option<Codec> {
    if ANY.load(Ordering::Relaxed) { of_mesh(target) } else { None }
}

#[cold]
fn of_mesh(target: &dyn LocalTarget) -> Option<Codec> {
    let mesh = target.binder().upgrade()?;
    let limit = mesh.near_limit()?.0;
    Some(Codec { mesh, own: target.key().0, limit })
}

impl Codec {
    /// What the actor gets of a message, or what its sender hears.
    pub(crate) fn message<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, Fault> {
        self.anew(value, Fault::BadPayload)
    }

    /// What the asker gets of a reply.
    pub(crate) fn reply<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, AskError> {
        match self.anew(value, Fault::BadPayload) {
            Ok(value) => Ok(value),
            Err(Fault::Unencodable(why) | Fault::BadPayload(why)) => Err(AskError::BadReply(why)),
            Err(fault) => Err(fault.into()),
        }
    }

    fn anew<T: Serialize + DeserializeOwned>(
        &self,
        value: &T,
        undecodable: impl FnOnce(String) -> Fault,
    ) -> Result<T, Fault> {
        let mut encoder = Encoder::new(self.limit);
        encoder.encode(value)?;
        let mut binder = WeakBinder::new(Arc::downgrade(&self.mesh));
        let _scope = DecodeScope::enter(&mut binder, self.own);
        encoder.payload().decode().map_err(|error| undecodable(error.to_string()))
    }
}
