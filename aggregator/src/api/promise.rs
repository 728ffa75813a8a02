//! What is promised, and what became of it: the target beside the operators' verdicts.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};

use super::guard::bearer;
use super::identity::{Sent, bounded, sent};
use super::rest::{Answer, Shared};
use super::types::{AlertDetail, rfc3339};
use super::{Api, Problem};
use crate::alert::{Judgement, Verdict};
use crate::decision::OrderError;
use crate::evidence::budget::{self, Feedback};
use crate::operators::OperatorError;
use crate::store::embedded::AlertRecord;

/// The stretch of time the record is taken from.
const RECORD_DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;
/// How often the limits given contain the truth.
const CONFIDENCE: f64 = 0.95;

/// What is promised, and the record.
#[derive(Debug, Serialize)]
pub(super) struct Promise {
    /// Of the alerts of an epoch, the share that may be false on average.
    q: f64,
    /// Length of an epoch.
    epoch_seconds: f64,
    /// Sites judged in the epoch begun last.
    sites: u32,
    /// False alerts allowed per site and month; null where q was given instead.
    budget_per_site_month: Option<f64>,
    /// The budget would allow a larger q than there may be.
    capped: bool,
    /// False alerts per site and month to be expected at most while nothing is wrong.
    expected_per_site_month: Option<f64>,
    realised: Realised,
}

/// What operators said.
#[derive(Debug, Serialize)]
struct Realised {
    /// Alerts since then are counted; null where no device is known.
    since: Option<String>,
    /// How long sites were watched since then, added up over sites.
    site_days: f64,
    /// Alerts called right.
    right: u32,
    /// Alerts called false.
    r#false: u32,
    /// Alerts that nobody judged.
    unjudged: u32,
    /// How often the limits below contain the truth.
    confidence: f64,
    /// Share of false alerts among those judged; null where none was.
    false_share: Option<Interval>,
    /// False alerts per site and month; null until an epoch has been watched.
    false_per_site_month: Option<Interval>,
}

/// An estimate with its limits.
#[derive(Debug, Serialize)]
struct Interval {
    low: f64,
    estimate: f64,
    high: f64,
}

impl From<budget::Interval> for Interval {
    fn from(interval: budget::Interval) -> Self {
        let budget::Interval { low, estimate, high } = interval;
        Self { low, estimate, high }
    }
}

impl Realised {
    /// `epoch` in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a stretch of time, for display")]
    fn of(since: Option<UnixMillis>, record: &AlertRecord, epoch: f64) -> Self {
        let AlertRecord { right, wrong, unjudged, site_time } = *record;
        let feedback = Feedback { confirmed: right, dismissed: wrong, unlabelled: unjudged };
        // Exposure is counted in site-time, so that a site that came yesterday adds a day and not the whole stretch.
        let watched = site_time.as_secs_f64() >= epoch;
        let rate = || feedback.per_site_month(1, site_time, CONFIDENCE).ok();
        Self {
            since: since.and_then(rfc3339),
            site_days: site_time.as_millis() as f64 / DAY_MS as f64,
            right,
            r#false: wrong,
            unjudged,
            confidence: CONFIDENCE,
            false_share: feedback.false_share(CONFIDENCE).ok().flatten().map(Interval::from),
            false_per_site_month: watched.then(rate).flatten().map(Interval::from),
        }
    }
}

pub(super) async fn show(State(api): Shared) -> Answer<Promise> {
    let target = api.metrics.promised();
    let (since, record) = api
        .read(|reader| {
            let Some(newest) = reader.last_seen()? else { return Ok((None, AlertRecord::default())) };
            let since = UnixMillis(newest.0.saturating_sub(RECORD_DAYS * DAY_MS));
            Ok((Some(since), reader.record(since)?))
        })
        .await?;
    let epoch = std::time::Duration::from_millis(u64::from(target.epoch.0));
    Ok(Json(Promise {
        q: target.q,
        epoch_seconds: epoch.as_secs_f64(),
        sites: target.sites,
        budget_per_site_month: api.budget.map(budget::AlarmBudget::allowed),
        capped: target.capped,
        expected_per_site_month: budget::false_alerts_per_site_month(target.q, target.sites.max(1), epoch).ok(),
        realised: Realised::of(since, &record, epoch.as_secs_f64()),
    }))
}

/// What an operator says besides.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    #[serde(default)]
    note: String,
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let status = match error {
            OperatorError::Unknown(_) => StatusCode::NOT_FOUND,
            OperatorError::Baseline(refused) => match refused {
                OrderError::UnknownCamera | OrderError::UnknownVersion(_) | OrderError::NothingEarlier => {
                    StatusCode::NOT_FOUND
                }
                OrderError::InForce(_)
                | OrderError::Unreadable(_)
                | OrderError::NotLearning
                | OrderError::TooFewWindows { .. } => StatusCode::CONFLICT,
            },
            OperatorError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

pub(super) type AlertPath = Result<Path<u64>, PathRejection>;

pub(super) async fn confirm(
    state: Shared,
    path: AlertPath,
    headers: HeaderMap,
    body: Sent<Said>,
) -> Answer<AlertDetail> {
    judge(state, path, &headers, body, Verdict::Right).await
}

pub(super) async fn dismiss(
    state: Shared,
    path: AlertPath,
    headers: HeaderMap,
    body: Sent<Said>,
) -> Answer<AlertDetail> {
    judge(state, path, &headers, body, Verdict::False).await
}

async fn judge(
    State(api): Shared,
    path: AlertPath,
    headers: &HeaderMap,
    body: Sent<Said>,
    verdict: Verdict,
) -> Answer<AlertDetail> {
    let Path(id) = path.map_err(|_| Problem::bad_request("the id of an alert is a number"))?;
    let note = bounded(sent(body)?.note)?;
    let judgement = Judgement { verdict, author: author(&api, headers), note };
    Ok(Json(AlertDetail::from(api.operators.judge(id, judgement).await?)))
}

/// Name of the token; without tokens nobody has a name.
pub(super) fn author(api: &Api, headers: &HeaderMap) -> String {
    let bearer = api.gate.as_ref().and_then(|gate| bearer(gate, headers).ok());
    bearer.map_or_else(|| "operator".to_owned(), |bearer| bearer.name.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn realised(right: u32, wrong: u32, unjudged: u32, site_time: Duration) -> Realised {
        Realised::of(Some(UnixMillis(0)), &AlertRecord { right, wrong, unjudged, site_time }, DAY.as_secs_f64())
    }

    #[test]
    fn a_fleet_of_an_hour_has_no_rate_yet_and_one_of_a_month_has() {
        assert!(realised(0, 1, 0, DAY / 24).false_per_site_month.is_none());
        let month = realised(3, 1, 0, budget::MONTH);
        let rate = month.false_per_site_month.expect("watched for a month");
        assert!((rate.estimate - 1.0).abs() < 1e-9 && rate.low < 1.0 && rate.high > 5.0, "{rate:?}");
        let share = month.false_share.expect("four were judged");
        assert!((share.estimate - 0.25).abs() < 1e-9, "{share:?}");
    }

    #[test]
    fn what_nobody_judged_raises_the_upper_limit_only() {
        let (said, silent) = (realised(1, 1, 0, 30 * DAY), realised(1, 1, 9, 30 * DAY));
        let rate = |realised: &Realised| realised.false_per_site_month.as_ref().map(|rate| (rate.low, rate.high));
        let ((low, high), (same, higher)) = (rate(&said).expect("a rate"), rate(&silent).expect("a rate"));
        assert!((low - same).abs() < 1e-12 && higher > 2.0 * high);
        assert!(realised(0, 0, 5, DAY).false_share.is_none(), "nothing was judged");
    }
}
