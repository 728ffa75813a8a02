//! What lies between an agent and the aggregator, and can be cut.

use std::net::{Ipv4Addr, SocketAddr};

use super::namespace::Namespace;
use super::plan::Cut;
use super::relay::Relay;

/// A link of one agent.
#[derive(Debug)]
pub(super) enum Link {
    /// The agent has a network of its own, joined to ours by a pair of virtual interfaces.
    Namespace(Namespace),
    /// The agent speaks to a relay of ours, which drops what it is told to.
    Relay(Relay),
}

/// How links are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Namespace,
    Relay,
}

impl Kind {
    /// Network namespaces where this machine lets us have them.
    pub(super) fn best() -> Self {
        match Namespace::join(0) {
            Ok(_) => Self::Namespace,
            Err(reason) => {
                eprintln!(
                    "soak: NO NETWORK NAMESPACES HERE ({reason}); links are cut by a relay that drops packets instead: no \
                     interface goes down, and no send fails"
                );
                Self::Relay
            }
        }
    }
}

impl Link {
    /// The link of the `number`th agent to an aggregator at this port.
    pub(super) fn open(kind: Kind, number: u8, port: u16) -> Self {
        match kind {
            Kind::Namespace => Self::Namespace(Namespace::join(number).expect("as for the first one")),
            Kind::Relay => Self::Relay(Relay::start(port)),
        }
    }

    /// Where this agent finds the aggregator.
    pub(super) fn aggregator(&self, port: u16) -> SocketAddr {
        match self {
            Self::Namespace(namespace) => (namespace.outside(), port).into(),
            Self::Relay(relay) => (Ipv4Addr::LOCALHOST, relay.port()).into(),
        }
    }

    /// The command that leads to where the agent runs.
    pub(super) fn within(&self) -> Vec<String> {
        match self {
            Self::Namespace(namespace) => namespace.within(),
            Self::Relay(_) => Vec::new(),
        }
    }

    pub(super) fn cut(&self, cut: Cut) {
        match self {
            Self::Namespace(namespace) => namespace.cut(cut),
            Self::Relay(relay) => relay.cut(cut),
        }
    }

    pub(super) fn heal(&self, cut: Cut) {
        match self {
            Self::Namespace(namespace) => namespace.heal(cut),
            Self::Relay(relay) => relay.heal(),
        }
    }
}
