//! Signing in and out, for browsers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::guard::{COOKIE, bearer, session};
use super::{Api, Problem};
use crate::access::{Role, SESSION_LIFETIME};

/// Who has signed in.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    /// Whether a token is needed here at all.
    required: bool,
    /// Name and role of the token; null where nobody has signed in.
    name: Option<String>,
    role: Option<Role>,
}

/// A wish to sign in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    token: String,
}

pub(super) async fn show(State(api): State<Arc<Api>>, headers: HeaderMap) -> Json<Standing> {
    let bearer = api.gate.as_ref().and_then(|gate| bearer(gate, &headers).ok());
    let role = bearer.as_ref().map(|bearer| bearer.role);
    Json(Standing { required: api.gate.is_some(), name: bearer.map(|bearer| bearer.name.to_string()), role })
}

pub(super) async fn sign_in(
    State(api): State<Arc<Api>>,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(SignIn { token }) = body.map_err(|error| {
        // What was sent may be a token in the wrong place: it is not repeated.
        Problem::new(error.status(), "allowed is {\"token\": \"...\"} as application/json")
    })?;
    let Some(gate) = &api.gate else { return Err(Problem::not_found("no token is needed here")) };
    match gate.sign_in(token.trim()) {
        Ok(Some((bearer, session))) => {
            tracing::info!(name = %bearer.name, role = bearer.role.name(), "signed in");
            cookie(&session, SESSION_LIFETIME.as_secs())
        }
        Ok(None) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the system gives no random numbers")),
        Err(refusal) => {
            api.metrics.refuse_http(refusal);
            Ok(refusal.into_response())
        }
    }
}

pub(super) async fn sign_out(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    if let (Some(gate), Some(session)) = (&api.gate, session(&headers)) {
        gate.sign_out(session);
    }
    cookie("", 0)
}

fn cookie(session: &str, seconds: u64) -> Result<Response, Problem> {
    let text = format!("{COOKIE}={session}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict");
    let value = HeaderValue::from_str(&text)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the session has no name"))?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, value)]).into_response())
}
