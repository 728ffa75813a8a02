//! What people and programs ask over HTTP. Identities, configurations and baselines can be changed and
//! alerts judged; the rest is read-only.
//!
//! Must hold: every error is `application/problem+json`; every list is paged and bounded; types that leave here are neither wire
//! nor store types; who asks has been judged by `guard` before any route is reached; a foreign page in somebody's browser can neither
//! read from here nor change anything (a change needs a JSON body besides, which such a page may not send); nothing is loaded from
//! elsewhere.
//!
//! Deliberately absent for now: acknowledging and silencing alerts, importing baselines, server-sent events, drawing, the OpenAPI document.

mod baselines;
mod configuration;
mod detectability;
mod drift;
mod guard;
mod identity;
mod page;
mod problem;
mod promise;
mod rest;
mod session;
mod statistics;
mod types;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{Semaphore, watch};

pub use self::problem::Problem;
pub use self::statistics::{Readout, readout};
pub(crate) use self::types::rfc3339;
pub use self::types::*;
use crate::access::Gate;
use crate::configurator::Configurator;
use crate::decision::season::Places;
use crate::evidence::budget::AlarmBudget;
use crate::ingest::Connections;
use crate::metrics::{CONTENT_TYPE, Metrics, Snapshot};
use crate::operators::Operators;
use crate::registrar::Registrar;
use crate::store::StoreError;
use crate::store::embedded::{PAGE_MAX, Page, Reader};
use crate::writer::Progress;

/// Reads of the store at once; more wait their turn.
const READS_MAX: usize = 8;
/// Longest body of a request.
const BODY_BYTES: usize = 256 * 1024;

/// What the routes work on.
#[derive(Debug)]
pub struct Api {
    reader: Arc<Reader>,
    progress: watch::Receiver<Progress>,
    metrics: Arc<Metrics>,
    connections: Arc<Connections>,
    registrar: Arc<Registrar>,
    configurator: Arc<Configurator>,
    operators: Arc<Operators>,
    /// False alerts allowed per site and month, where the operator has said so.
    budget: Option<AlarmBudget>,
    /// How long a camera is watched before it is judged.
    learning: Duration,
    /// Where sites are.
    places: Places,
    /// Who may ask; everybody on this machine where there is none.
    gate: Option<Arc<Gate>>,
    /// True once the service is stopping.
    stopping: watch::Receiver<bool>,
    reads: Semaphore,
    drift: drift::DriftScores,
}

impl Api {
    /// The routes' state. `max_cameras`: beyond that many there are no metrics per camera.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the service, handed in once")]
    pub fn new(
        reader: Arc<Reader>,
        progress: watch::Receiver<Progress>,
        metrics: Arc<Metrics>,
        connections: Arc<Connections>,
        registrar: Arc<Registrar>,
        configurator: Arc<Configurator>,
        operators: Arc<Operators>,
        stopping: watch::Receiver<bool>,
        max_cameras: usize,
    ) -> Self {
        let drift = drift::DriftScores::new(max_cameras);
        let reads = Semaphore::new(READS_MAX);
        Self {
            reader,
            progress,
            metrics,
            connections,
            registrar,
            configurator,
            operators,
            budget: None,
            learning: Duration::ZERO,
            places: Places::default(),
            gate: None,
            stopping,
            reads,
            drift,
        }
    }

    /// Shows what was configured: false alerts allowed per site and month, and how long cameras learn.
    #[must_use]
    pub fn promising(self, budget: Option<AlarmBudget>, learning: Duration) -> Self {
        Self { budget, learning, ..self }
    }

    /// Tells the part of the day by where sites are.
    #[must_use]
    pub fn at(self, places: Places) -> Self {
        Self { places, ..self }
    }

    /// Answers those only whom the gate lets in; without one, everybody who can connect.
    #[must_use]
    pub fn behind(self, gate: Option<Arc<Gate>>) -> Self {
        Self { gate, ..self }
    }

    /// Runs a query off the event loop.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let unavailable = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read now");
        let _turn = self.reads.acquire().await.map_err(|_| unavailable())?;
        let reader = Arc::clone(&self.reader);
        match tokio::task::spawn_blocking(move || query(&reader)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::error!(%error, "a query failed");
                Err(unavailable())
            }
            Err(error) => {
                tracing::error!(%error, "a query ended unexpectedly");
                Err(unavailable())
            }
        }
    }
}

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(page::html))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/camera", get(page::camera))
        .route("/camera.js", get(page::camera_script))
        .route("/login", get(page::login))
        .route("/login.js", get(page::login_script))
        .route("/api/v1/session", get(session::show).post(session::sign_in).delete(session::sign_out))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/sites", get(rest::sites))
        .route("/api/v1/devices", get(rest::devices))
        .route("/api/v1/devices/{id}/revoke", post(identity::revoke))
        .route("/api/v1/devices/{id}/reinstate", post(identity::reinstate))
        .route("/api/v1/devices/{id}/configuration", get(configuration::of_device))
        .route("/api/v1/configurations", get(configuration::list).post(configuration::set))
        .route("/api/v1/tokens", get(identity::tokens).post(identity::create_token))
        .route("/api/v1/identity-events", get(identity::events))
        .route("/api/v1/cameras", get(rest::cameras))
        .route("/api/v1/cameras/{id}", get(rest::camera))
        .route("/api/v1/cameras/{id}/detectability", get(detectability::show))
        .route("/api/v1/cameras/{id}/features/{feature}/stats", get(rest::feature_stats))
        .route("/api/v1/alerts", get(rest::alerts))
        .route("/api/v1/alerts/{id}", get(rest::alert))
        .route("/api/v1/alerts/{id}/confirm", post(promise::confirm))
        .route("/api/v1/alerts/{id}/dismiss", post(promise::dismiss))
        .route("/api/v1/baselines/{camera}", get(baselines::show))
        .route("/api/v1/baselines/{camera}/promote", post(baselines::promote))
        .route("/api/v1/baselines/{camera}/freeze", post(baselines::freeze))
        .route("/api/v1/baselines/{camera}/rollback", post(baselines::roll_back))
        .route("/api/v1/promise", get(promise::show))
        .fallback(|uri: Uri| async move {
            Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this resource does not know that method; most can only be read: use GET",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&api), guard::guard))
        .with_state(api)
}

/// Ready: the store takes records, agents can connect.
async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    let not_ready = |detail: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    if *api.stopping.borrow() {
        return not_ready("the service is stopping");
    }
    let healthy = api.progress.borrow().healthy && api.progress.has_changed().is_ok();
    if !healthy {
        return not_ready("the store cannot be written: see the log");
    }
    api.read(Reader::check).await?;
    Ok("ready\n")
}

async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let connected = u64::try_from(api.connections.len()).unwrap_or(u64::MAX);
    let shared = Arc::clone(&api);
    let snapshot = api
        .read(move |reader| {
            let totals = reader.totals()?;
            let mut frames = Vec::new();
            let mut page = Page { offset: 0, limit: PAGE_MAX };
            loop {
                let sites = reader.sites(page)?;
                let count = sites.len();
                frames.extend(sites.into_iter().map(|site| (site.site.to_string(), site.frames_total)));
                if count < PAGE_MAX as usize {
                    break;
                }
                page.offset += u64::from(PAGE_MAX);
            }
            let alerts = reader.alert_counts()?.into_iter();
            Ok(Snapshot {
                frames,
                connected,
                offline: totals.devices.saturating_sub(connected),
                alerts: alerts
                    .map(|count| (count.site.to_string(), count.severity, count.state, count.count))
                    .collect(),
                drift: shared.drift.read(reader, totals.cameras)?,
            })
        })
        .await?;
    match api.metrics.render(&snapshot) {
        Ok(text) => Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written: see the log"))
        }
    }
}
