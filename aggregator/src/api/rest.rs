//! The resources under `/api/v1`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use driftglass_protocol::feature::{CATALOGUE, Feature};
use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::unit::UnixMillis;
use serde::Deserialize;

use super::drift::{CURRENT_WINDOWS, decode};
use super::statistics::readout;
use super::types::{
    AlertDetail, BaselineStats, BaselineVersion, Camera, CameraDetail, Current, Device, FeatureStats, List, Site,
    Tests, Window,
};
use super::{Api, Problem};
use crate::alert::AlertState;
use crate::baseline::{Baseline, compare};
use crate::decision::CountedWindow;
use crate::decision::season::slot_of;
use crate::store::embedded::{AlertFilter, Page, WINDOWS_MAX};

pub(super) type Shared = State<Arc<Api>>;
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// Most rows of a page; one more is read to know whether there is a next.
const LIMIT_MAX: u32 = 500;
const LIMIT_DEFAULT: u32 = 100;

#[derive(Clone, Copy)]
pub(super) struct Paging {
    offset: u64,
    limit: u32,
}

impl Paging {
    pub(super) fn new(offset: Option<u64>, limit: Option<u32>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::bad_request(format!("limit = {limit}: allowed is 1 to {LIMIT_MAX}")));
        }
        Ok(Self { offset: offset.unwrap_or(0), limit })
    }

    pub(super) const fn page(self) -> Page {
        Page { offset: self.offset, limit: self.limit + 1 }
    }

    pub(super) fn list<S, T>(self, mut rows: Vec<S>, convert: impl FnMut(S) -> T) -> Json<List<T>> {
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        let next_offset = more.then(|| self.offset.saturating_add(u64::from(self.limit)));
        Json(List { items: rows.into_iter().map(convert).collect(), next_offset })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteQuery {
    pub(super) offset: Option<u64>,
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetQuery {
    offset: Option<u64>,
    limit: Option<u32>,
    site: Option<Name>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertQuery {
    offset: Option<u64>,
    limit: Option<u32>,
    state: Option<AlertState>,
    site: Option<Name>,
    camera: Option<String>,
    since: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    windows: Option<u32>,
}

pub(super) fn asked<T>(query: Asked<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::bad_request(error.body_text()))
}

fn camera_id(text: &str) -> Result<CameraId, Problem> {
    text.parse().map_err(|error| Problem::bad_request(format!("camera {text:?}: {error}")))
}

pub(super) type CameraPath = Result<Path<String>, PathRejection>;

pub(super) fn camera_path(path: CameraPath) -> Result<CameraId, Problem> {
    let Path(text) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    camera_id(&text)
}

pub(super) async fn sites(State(api): Shared, query: Asked<SiteQuery>) -> Answer<List<Site>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let rows = api.read(move |reader| reader.sites(paging.page())).await?;
    Ok(paging.list(rows, Site::from))
}

pub(super) async fn devices(State(api): Shared, query: Asked<FleetQuery>) -> Answer<List<Device>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let rows = api.read(move |reader| reader.devices(query.site.as_ref(), paging.page())).await?;
    Ok(paging.list(rows, |device| {
        let connected = api.connections.is_connected(&device.id);
        Device::new(device, connected)
    }))
}

pub(super) async fn cameras(State(api): Shared, query: Asked<FleetQuery>) -> Answer<List<Camera>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let rows = api.read(move |reader| reader.cameras(query.site.as_ref(), paging.page())).await?;
    Ok(paging.list(rows, |camera| {
        let connected = api.connections.is_connected(&camera.id.device);
        Camera::new(camera, connected)
    }))
}

pub(super) async fn camera(State(api): Shared, path: CameraPath) -> Answer<CameraDetail> {
    let id = camera_path(path)?;
    let text = id.to_string();
    let connected = api.connections.is_connected(&id.device);
    let found = api
        .read(move |reader| {
            let Some(camera) = reader.camera(&id)? else { return Ok(None) };
            let filter = AlertFilter { camera: Some(id.clone()), ..AlertFilter::default() };
            let alerts = reader.alerts(&filter, Page::default())?;
            let newest = reader.newest_windows(&id, 1)?.pop();
            Ok(Some((camera, reader.baseline_versions(&id)?, alerts, newest)))
        })
        .await?;
    let (camera, versions, alerts, newest) =
        found.ok_or_else(|| Problem::not_found(format!("no camera {text:?} is known")))?;
    let open = alerts.into_iter().filter(|alert| alert.state != AlertState::Resolved);
    let place = api.places.of(&camera.id.device.site);
    let slot = newest.and_then(|window| slot_of(place, &window));
    Ok(Json(CameraDetail {
        camera: Camera::new(camera, connected),
        slot: slot.map(|slot| slot.to_string()),
        baselines: versions.into_iter().map(BaselineVersion::from).collect(),
        alerts: open.map(AlertDetail::from).collect(),
        features: CATALOGUE.iter().map(|spec| spec.name).collect(),
    }))
}

pub(super) async fn feature_stats(
    State(api): Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Asked<StatsQuery>,
) -> Answer<FeatureStats> {
    let Path((text, feature)) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let id = camera_id(&text)?;
    let feature = Feature::from_name(&feature).ok_or_else(|| {
        let known: Vec<&str> = CATALOGUE.iter().map(|spec| spec.name).collect();
        Problem::not_found(format!("no feature {feature:?}; there are {}", known.join(", ")))
    })?;
    let windows = asked(query)?.windows.unwrap_or(CURRENT_WINDOWS);
    if !(1..=WINDOWS_MAX).contains(&windows) {
        return Err(Problem::bad_request(format!("windows = {windows}: allowed is 1 to {WINDOWS_MAX}")));
    }
    let stats = api
        .read(move |reader| {
            if reader.camera(&id)?.is_none() {
                return Ok(None);
            }
            let windows = reader.newest_windows(&id, windows)?;
            let baseline = match reader.baseline(&id)? {
                Some((version, bytes)) => Some((version, decode(&bytes)?)),
                None => None,
            };
            Ok(Some(describe(&id, feature, windows, baseline.as_ref())))
        })
        .await?;
    stats.map(Json).ok_or_else(|| Problem::not_found(format!("no camera {text:?} is known")))
}

fn describe(
    id: &CameraId,
    feature: Feature,
    windows: Vec<CountedWindow>,
    baseline: Option<&(u32, Baseline)>,
) -> FeatureStats {
    let spec = feature.spec();
    let count = windows.len();
    let merged = CountedWindow::sum(windows);
    let current = merged.as_ref().and_then(|merged| {
        let statistics = readout(spec.axis, merged.histogram(feature)?);
        Some(Current { windows: count, window: Window::from(merged.window), statistics })
    });
    let tests = merged.as_ref().zip(baseline).and_then(|(merged, (_, baseline))| {
        let only = CountedWindow {
            histograms: merged.histograms.iter().filter(|(other, _)| *other == feature).cloned().collect(),
            ..merged.clone()
        };
        compare(&only, baseline).into_iter().next().map(Tests::from)
    });
    let baseline = baseline.and_then(|(version, baseline)| {
        let statistics = readout(spec.axis, &baseline.feature(feature)?.histogram());
        Some(BaselineStats { version: *version, windows: baseline.windows(), statistics })
    });
    FeatureStats {
        camera: id.to_string(),
        feature: spec.name,
        unit: spec.unit,
        circular: spec.axis.is_circular(),
        current,
        baseline,
        tests,
    }
}

pub(super) async fn alerts(State(api): Shared, query: Asked<AlertQuery>) -> Answer<List<AlertDetail>> {
    let query = asked(query)?;
    let paging = Paging::new(query.offset, query.limit)?;
    let filter = AlertFilter {
        state: query.state,
        site: query.site,
        camera: query.camera.as_deref().map(camera_id).transpose()?,
        since: query.since.as_deref().map(instant).transpose()?,
    };
    let rows = api.read(move |reader| reader.alerts(&filter, paging.page())).await?;
    Ok(paging.list(rows, AlertDetail::from))
}

pub(super) fn instant(text: &str) -> Result<UnixMillis, Problem> {
    humantime::parse_rfc3339(text)
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .map(UnixMillis)
        .ok_or_else(|| {
            Problem::bad_request(format!("since = {text:?}: allowed is a time such as 2026-01-31T12:00:00Z"))
        })
}

pub(super) async fn alert(State(api): Shared, path: Result<Path<u64>, PathRejection>) -> Answer<AlertDetail> {
    let Path(id) = path.map_err(|_| Problem::bad_request("the id of an alert is a number"))?;
    let found = api.read(move |reader| reader.alert(id)).await?;
    found
        .map(|alert| Json(AlertDetail::from(alert)))
        .ok_or_else(|| Problem::not_found(format!("no alert {id} is known")))
}
