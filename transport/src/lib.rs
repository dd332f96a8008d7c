//! How two Webmesh hosts talk.
