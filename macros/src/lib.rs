//! The derive and attribute macros of Webmesh. Use them through the crate `webmesh`, which re-exports them.
