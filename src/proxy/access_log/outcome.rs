//! Who ended a request, and at which stage. `docs/access-log.md` has the same table; a test keeps both equal.

use super::super::error::Fault;
use crate::pool::CutReason;

macro_rules! outcomes {
    ($($id:ident $code:literal $about:literal;)*) => {
        /// Who ended a request, and at which stage.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Outcome {
            $(#[doc = $about] $id,)*
        }

        impl Outcome {
            /// All of them, in the order in which they are described.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// The code in the log.
            pub fn code(self) -> &'static str {
                match self { $(Self::$id => $code),* }
            }

            /// For people.
            pub fn about(self) -> &'static str {
                match self { $(Self::$id => $about),* }
            }
        }
    };
}

outcomes! {
    Done "done" "a node's answer was handed over to the client's connection, whole";
    Answered "answered" "Sluice answered, as it is configured to: a redirect, a question for a password by whoever decides about access, OPTIONS";
    RefusedMalformed "refused:malformed" "the request breaks HTTP, asks for what is not offered, or has too many fields";
    RefusedSize "refused:size" "its body is larger than it may be";
    RefusedAccess "refused:access" "the client's address has no access";
    RefusedRate "refused:rate" "the client asks too often";
    RefusedAuth "refused:auth" "the client did not say who it is, or not right";
    RefusedLimit "refused:limit" "as many requests as there may be are under way, in all or to this service";
    RefusedRoute "refused:route" "no service takes this host and path";
    UnavailableAuth "unavailable:auth" "who decides about access did not answer, or too many wait for it";
    UnavailableNode "unavailable:node" "no node can take a request, and waiting for one did not help";
    UnavailableFull "unavailable:full" "every node has as many requests or connections as it may have";
    UnavailableHeld "unavailable:held" "an operator holds the service's requests, and as many wait as may";
    UnavailableMaintenance "unavailable:maintenance" "an operator has put the service into maintenance";
    NodeConnect "node:connect" "no node could be reached, or none said the protocol that it should, or TLS failed";
    NodeReset "node:head" "the node closed the connection before an answer, or sent something that is none";
    NodeBody "node:body" "the node broke off in the body of its answer";
    TimeoutConnect "timeout:connect" "no node took a connection in time";
    TimeoutHead "timeout:head" "the node did not begin to answer in time";
    TimeoutBody "timeout:body" "nothing moved in the body of the answer, or through the tunnel, for too long";
    TimeoutDeadline "timeout:deadline" "the time that the client itself gave has passed (gRPC)";
    ClientRequest "client:request" "the client's body broke off, was malformed, or came too slowly";
    ClientWait "client:wait" "the client went away before its request was given to a node";
    ClientHead "client:head" "the client went away while the node worked on its answer";
    ClientBody "client:body" "the client went away, or took too long, in the body of the answer";
    CutDrain "cut:drain" "the node left, and its drain deadline passed";
    CutShutdown "cut:shutdown" "Sluice ended, and its deadline passed";
    TunnelClient "tunnel:client" "the client closed the tunnel first";
    TunnelNode "tunnel:node" "the node closed the tunnel first";
    TunnelBroken "tunnel:broken" "one of the tunnel's two connections broke";
}

impl Outcome {
    /// Whether it went as it should: of these, only a sample may be told.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Answered | Self::TunnelClient | Self::TunnelNode)
    }

    /// What an error of ours comes from.
    pub fn of(fault: &Fault) -> Self {
        match fault {
            Fault::BadRequest(_)
            | Fault::MethodNotAllowed
            | Fault::UnknownProtocol
            | Fault::ExpectationFailed
            | Fault::NoUpgrade
            | Fault::TooManyFields
            | Fault::HeadTooLarge
            | Fault::TargetTooLong => Self::RefusedMalformed,
            Fault::BodyTooLarge => Self::RefusedSize,
            Fault::Full | Fault::ServiceFull => Self::RefusedLimit,
            Fault::Denied => Self::RefusedAccess,
            Fault::RateLimited(_) => Self::RefusedRate,
            Fault::Unauthorized(_) => Self::RefusedAuth,
            Fault::AuthBusy | Fault::AuthUnavailable => Self::UnavailableAuth,
            Fault::ToHttps(_) => Self::Answered,
            Fault::NoService => Self::RefusedRoute,
            Fault::NoNode => Self::UnavailableNode,
            Fault::NodeBusy | Fault::NodesFull => Self::UnavailableFull,
            Fault::Held => Self::UnavailableHeld,
            Fault::Maintenance(_) => Self::UnavailableMaintenance,
            Fault::Connect | Fault::NodeTls | Fault::Protocol => Self::NodeConnect,
            Fault::Reset | Fault::BadResponse => Self::NodeReset,
            Fault::ConnectTimeout => Self::TimeoutConnect,
            Fault::ResponseTimeout => Self::TimeoutHead,
            Fault::Deadline => Self::TimeoutDeadline,
            Fault::ClientTimeout | Fault::ClientBody => Self::ClientRequest,
            Fault::DrainDeadline => Self::CutDrain,
            Fault::Shutdown => Self::CutShutdown,
        }
    }

    /// What was cut, and why.
    pub fn cut(reason: CutReason) -> Self {
        match reason {
            CutReason::Drain => Self::CutDrain,
            CutReason::Shutdown => Self::CutShutdown,
            CutReason::Deadline => Self::TimeoutDeadline,
        }
    }
}
