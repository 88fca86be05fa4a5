//! Over loopback nothing is sent by the clock.
//!
//! The system may have a congestion control (BBR) that dates each piece it sends and holds it back, to find the rate of a path.
//! That costs time for each piece, and between two sockets of one machine there is no path.

use std::net::SocketAddr;
use std::os::fd::AsFd;

/// For a socket that is about to listen on an address, or to be connected to it: who has begun with a clock keeps it. What a listening
/// socket has goes to those it accepts.
pub(super) fn leave_out(socket: impl AsFd, address: SocketAddr) {
    if address.ip().to_canonical().is_loopback() {
        // Every Linux has it; where it is refused, everything works as well.
        let _ = rustix::net::sockopt::set_tcp_congestion(socket, "reno");
    }
}
