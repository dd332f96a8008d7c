//! A message of this process on its way to its actor.

use crate::ground::message::Message;
use crate::refs::responder::LocalReply;

/// A message of a local sender.
pub(crate) struct Parcel<M: Message> {
    pub(crate) message: M,
    pub(crate) reply: Option<LocalReply<M>>,
}
