//! HTTP/2 (RFC 9113), for the side that serves.

pub mod hpack;
