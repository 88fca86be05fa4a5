//! HTTP/2 (RFC 9113), for the side that serves: frames, and the compression of heads.

pub mod frame;
pub mod hpack;
