//! What every request passes: who asks, and may they; and the headers every answer has.
//!
//! Without tokens (loopback only) the Host header must name this machine, so that a page in somebody's browser cannot read from here
//! under a name of its own. With tokens that is not needed: a browser sends its session only under the name it was opened under.
//! Whoever has signed in can be made to ask by any page, so a change has to come from a page of ours (`Origin`); who sends a token
//! does that knowingly.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::{Api, Problem};
use crate::access::{Bearer, Gate, Need, Refusal, needed};

/// Longest time for a request to arrive and its answer to begin.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The browser's session. The prefix makes browsers insist on TLS, on this host alone, and on all of its paths.
pub(super) const COOKIE: &str = "__Host-driftglass-session";

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                       img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Judges a request, has it answered, and sets the headers every answer has.
pub(super) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let judged = match &api.gate {
        None => judge_host(&request),
        Some(gate) => judge(gate, &request),
    };
    let wants_page = *request.method() == Method::GET && request.uri().path() == "/";
    let answered = match judged {
        Ok(()) => tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await.map_err(|_| Refusal::Slow),
        Err(refusal) => Err(refusal),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => {
            api.metrics.refuse_http(refusal);
            if wants_page && status(refusal) == StatusCode::UNAUTHORIZED {
                Redirect::to("/login").into_response()
            } else {
                refusal.into_response()
            }
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

fn judge_host(request: &Request) -> Result<(), Refusal> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    if host.is_some_and(names_this_machine) { Ok(()) } else { Err(Refusal::Host) }
}

fn judge(gate: &Gate, request: &Request) -> Result<(), Refusal> {
    let changes = !request.method().is_safe();
    let headers = request.headers();
    match needed(changes, request.uri().path()) {
        // Signing in and out, which only our own page does.
        Need::Nothing if changes => from_our_page(headers),
        Need::Nothing => Ok(()),
        Need::AtLeast(role) => {
            let bearer = bearer(gate, headers)?;
            if bearer.role < role {
                return Err(Refusal::Role);
            }
            if changes && bearer.by_session { from_our_page(headers) } else { Ok(()) }
        }
    }
}

/// Who asks.
pub(super) fn bearer(gate: &Gate, headers: &HeaderMap) -> Result<Bearer, Refusal> {
    let token = headers.get(header::AUTHORIZATION).map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) => gate.identify(Some(token.ok_or(Refusal::Unknown)?), None),
        None => gate.identify(None, session(headers)),
    }
}

/// The name of the browser's session.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Browsers say on every change which page asks for it.
fn from_our_page(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    match (origin, text(header::HOST)) {
        (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Refusal::Origin),
    }
}

const fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Missing | Refusal::Unknown | Refusal::Expired | Refusal::Session => StatusCode::UNAUTHORIZED,
        Refusal::Role | Refusal::Origin => StatusCode::FORBIDDEN,
        Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
        Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
        Refusal::Connections | Refusal::Handshake => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = status(self);
        let mut response = Problem::new(status, self.to_string()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"driftglass\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;
    use driftglass_protocol::unit::UnixMillis;

    use super::*;
    use crate::access::{AccessToken, Entry, Role, Tokens};

    fn gate() -> Gate {
        let mut tokens = Tokens::default();
        for (number, role) in (1..).zip(Role::ALL) {
            let name = Name::parse(role.name()).expect("name");
            let hash = AccessToken::new([number; 16]).hash();
            tokens.add(Entry { name, role, hash, created_at: 0, expires_at: None }).expect("added");
        }
        Gate::new(tokens, || UnixMillis(1), || Some([7; 16]))
    }

    fn token(role: Role) -> String {
        let number = (1..).zip(Role::ALL).find(|(_, other)| *other == role).expect("a role").0;
        AccessToken::new([number; 16]).reveal()
    }

    fn ask(gate: &Gate, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        judge(gate, &request.body(axum::body::Body::empty()).expect("a request"))
    }

    #[test]
    fn each_role_may_do_what_it_should_and_nothing_beyond() {
        let gate = gate();
        for (method, path, least) in [
            ("GET", "/api/v1/cameras", Role::Viewer),
            ("HEAD", "/metrics", Role::Viewer),
            ("POST", "/api/v1/alerts/1/ack", Role::Operator),
            ("GET", "/api/v1/tokens", Role::Admin),
            ("POST", "/api/v1/devices/a%2Fb/revoke", Role::Admin),
            ("DELETE", "/anything", Role::Admin),
        ] {
            for role in Role::ALL {
                let authorization = format!("Bearer {}", token(role));
                let expected = if role < least { Err(Refusal::Role) } else { Ok(()) };
                assert_eq!(ask(&gate, method, path, &[("authorization", &authorization)]), expected, "{role:?} {path}");
            }
            assert_eq!(ask(&gate, method, path, &[]), Err(Refusal::Missing), "{path}");
        }
        assert_eq!(ask(&gate, "GET", "/healthz", &[]), Ok(()));
    }

    #[test]
    fn a_header_that_is_no_token_lets_nobody_in() {
        let gate = gate();
        let good = token(Role::Admin);
        for value in ["", "Bearer", "Bearer ", "Basic YTpi", &good, &format!("Token {good}"), "Bearer dga1.0"] {
            assert_eq!(ask(&gate, "GET", "/", &[("authorization", value)]), Err(Refusal::Unknown), "{value:?}");
        }
        assert_eq!(
            ask(&gate, "GET", "/", &[("authorization", &format!("bearer  {good}"))]),
            Ok(()),
            "the scheme in any case"
        );
    }

    #[test]
    fn a_browser_reads_by_its_session_and_changes_only_from_our_own_page() {
        let gate = gate();
        let (_, session) = gate.sign_in(&token(Role::Admin)).expect("known").expect("random");
        let cookie = format!("a=b; {COOKIE}={session}; c=d");
        let (path, host) = ("/api/v1/tokens", ("host", "drift.example:8443"));
        assert_eq!(ask(&gate, "GET", path, &[("cookie", &cookie)]), Ok(()));
        let change = |origin: Option<&str>| {
            let mut headers = vec![("cookie", cookie.as_str()), host];
            headers.extend(origin.map(|origin| ("origin", origin)));
            ask(&gate, "POST", path, &headers)
        };
        assert_eq!(change(Some("https://drift.example:8443")), Ok(()));
        for foreign in [
            None,
            Some("null"),
            Some("https://evil.example"),
            Some("https://drift.example"),
            Some("https://drift.example:8443.evil"),
        ] {
            assert_eq!(change(foreign), Err(Refusal::Origin), "{foreign:?}");
        }
        let sign_in = |origin| ask(&gate, "POST", "/api/v1/session", &[host, ("origin", origin)]);
        assert_eq!(sign_in("https://drift.example:8443"), Ok(()));
        assert_eq!(sign_in("https://evil.example"), Err(Refusal::Origin), "nobody is signed in by a foreign page");
        for wrong in ["other=1".to_owned(), format!("{COOKIE}="), format!("{COOKIE}={}", "0".repeat(32))] {
            assert!(ask(&gate, "GET", path, &[("cookie", &wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_names_of_this_machine_pass_without_tokens() {
        for (host, passes) in [
            ("localhost:1", true),
            ("127.0.0.1:9", true),
            ("[::1]:80", true),
            ("evil.example", false),
            ("localhost.evil", false),
        ] {
            let request = Request::builder().header("host", host).body(axum::body::Body::empty()).expect("a request");
            assert_eq!(judge_host(&request).is_ok(), passes, "{host}");
        }
    }
}
