//! Who may ask over HTTP, and for what: tokens with roles.
//!
//! Must hold: a token's secret is in the answer that made it and nowhere else, what is kept is its hash; whoever guesses learns nothing
//! from how long a refusal takes; a route that nobody thought of needs the highest role.
//!
//! Deliberately absent: files ([`crate::host`] keeps the list), headers and cookies ([`crate::api`]).

mod gate;
mod sessions;
mod tokens;

use thiserror::Error;

pub use gate::{Bearer, Gate};
pub use sessions::{SESSION_LIFETIME, Sessions};
pub use tokens::{AccessToken, Entry, ListError, ParseTokenError, TOKENS_MAX, Tokens};

/// What somebody may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads cameras, alerts and metrics.
    Viewer,
    /// Also answers alerts and brings labels.
    Operator,
    /// Also decides who belongs to the fleet and what counts as normal.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Why a request is refused: the label `reason` of `driftglass_http_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Neither token nor session.
    #[error("this needs a token: send it as \"Authorization: Bearer TOKEN\", or sign in at /login")]
    Missing,
    /// Something that is no token, or a token that nobody has made or somebody has revoked.
    #[error("this token is not known")]
    Unknown,
    /// The token's time is over.
    #[error("this token has expired")]
    Expired,
    /// The session of the browser is over.
    #[error("the session is over: sign in again")]
    Session,
    /// The token's role is too low.
    #[error("the role of this token does not allow that")]
    Role,
    /// A change that a foreign page asks for in the name of somebody who has signed in.
    #[error("a change that a browser asks for has to come from this service's own pages")]
    Origin,
    /// The Host header names another machine.
    #[error("this service answers to localhost and to loopback addresses only")]
    Host,
    /// More connections than are served at once, in all or from one network.
    #[error("too many connections")]
    Connections,
    /// The TLS handshake failed or took too long.
    #[error("the TLS handshake failed")]
    Handshake,
    /// The request took too long to arrive.
    #[error("the request took too long")]
    Slow,
}

impl Refusal {
    /// Every reason, so that each has a time series from the start.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Unknown,
        Self::Expired,
        Self::Session,
        Self::Role,
        Self::Origin,
        Self::Host,
        Self::Connections,
        Self::Handshake,
        Self::Slow,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::Session => "session_over",
            Self::Role => "role",
            Self::Origin => "origin",
            Self::Host => "host",
            Self::Connections => "connections",
            Self::Handshake => "handshake",
            Self::Slow => "slow",
        }
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: what a load balancer and somebody who has not signed in yet must see. None of it says anything about the fleet.
    Nothing,
    /// A token of at least this role.
    AtLeast(Role),
}

/// What a request needs. `changes`: whether its method may change something.
#[must_use]
pub fn needed(changes: bool, path: &str) -> Need {
    const OPEN: [&str; 6] = ["/healthz", "/readyz", "/login", "/login.js", "/page.css", "/api/v1/session"];
    // Who belongs to the fleet is not everybody's business.
    const ADMIN_READS: [&str; 2] = ["/api/v1/tokens", "/api/v1/identity-events"];
    const OPERATOR_CHANGES: [&str; 5] =
        ["/api/v1/alerts", "/api/v1/baselines", "/api/v1/silences", "/api/v1/labels", "/api/v1/business-metrics"];
    let within = |areas: &[&str]| {
        areas.iter().any(|area| path.strip_prefix(area).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    if OPEN.contains(&path) {
        return Need::Nothing;
    }
    Need::AtLeast(match changes {
        false if within(&ADMIN_READS) => Role::Admin,
        false => Role::Viewer,
        true if within(&OPERATOR_CHANGES) => Role::Operator,
        true => Role::Admin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_the_role_it_should_and_an_unknown_change_has_the_highest() {
        use Role::{Admin, Operator, Viewer};
        for (changes, path, role) in [
            (false, "/", Viewer),
            (false, "/metrics", Viewer),
            (false, "/page.js", Viewer),
            (false, "/api/v1/cameras/a%2Fb%2Fc", Viewer),
            (false, "/api/v1/alerts", Viewer),
            (false, "/api/v1/tokens", Admin),
            (false, "/api/v1/tokens/", Admin),
            (false, "/api/v1/tokens-of-another-kind", Viewer),
            (false, "/api/v1/identity-events", Admin),
            (false, "/api/v1/configurations", Viewer),
            (false, "/api/v1/devices/a%2Fb/configuration", Viewer),
            (true, "/api/v1/configurations", Admin),
            (true, "/api/v1/alerts/7/ack", Operator),
            (false, "/api/v1/baselines/a%2Fb%2Fc", Viewer),
            (true, "/api/v1/baselines/a%2Fb%2Fc/promote", Operator),
            (true, "/api/v1/silences", Operator),
            (true, "/api/v1/labels", Operator),
            (true, "/api/v1/tokens", Admin),
            (true, "/api/v1/devices/a%2Fb/revoke", Admin),
            (true, "/api/v1/alertsandmore", Admin),
            (true, "/api/v1/something-new", Admin),
            (true, "/", Admin),
            (true, "", Admin),
        ] {
            assert_eq!(needed(changes, path), Need::AtLeast(role), "{changes} {path}");
        }
        for path in ["/healthz", "/readyz", "/login", "/login.js", "/page.css", "/api/v1/session"] {
            assert_eq!(needed(false, path), Need::Nothing, "{path}");
        }
        assert_eq!(needed(false, "/healthz/"), Need::AtLeast(Viewer), "only the very path is open");
    }

    #[test]
    fn roles_contain_each_other_and_names_are_those_of_the_interface() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            assert_eq!(serde_json::json!(role), role.name());
        }
        assert_eq!(Role::from_name("root"), None);
        let mut names: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
