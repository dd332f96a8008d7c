//! How a host or a service is found.
