//! `status`, `confirm` and `dismiss`: what is promised, what came of it, and what operators say of alerts.

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, ListArguments, ListFormat, ServerArguments};
use crate::exit::{Failure, Outcome};
use crate::fleet::say;

/// What is said of an alert.
#[derive(Debug, Args)]
pub(crate) struct JudgeArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Number of the alert.
    alert: u64,
    /// What was found, for whoever reads about it later.
    #[arg(long, default_value = "")]
    note: String,
}

/// What is promised, as far as this tool reads it.
#[derive(Debug, Deserialize)]
struct Promise {
    q: f64,
    epoch_seconds: f64,
    sites: u32,
    budget_per_site_month: Option<f64>,
    capped: bool,
    expected_per_site_month: Option<f64>,
    realised: Realised,
}

#[derive(Debug, Deserialize)]
struct Realised {
    site_days: f64,
    right: u32,
    r#false: u32,
    unjudged: u32,
    confidence: f64,
    false_share: Option<Interval>,
    false_per_site_month: Option<Interval>,
}

#[derive(Debug, Deserialize)]
struct Interval {
    low: f64,
    estimate: f64,
    high: f64,
}

impl Interval {
    fn text(&self, confidence: f64) -> String {
        let Self { low, estimate, high } = self;
        format!("{estimate:.2} ({:.0} % limits {low:.2} to {high:.2})", confidence * 100.0)
    }
}

impl Promise {
    fn lines(&self) -> String {
        let Self { q, epoch_seconds, sites, .. } = self;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a stretch of time, for display")]
        let epoch = std::time::Duration::from_secs(epoch_seconds.max(0.0) as u64);
        let epoch = humantime::format_duration(epoch);
        let of_alerts = format!("of the alerts of {epoch} at most {:.2} % false on average", q * 100.0);
        let promised = match self.budget_per_site_month {
            Some(budget) => {
                let capped = if self.capped { "; the budget would allow more" } else { "" };
                format!(
                    "at most {budget} false alerts per site and month: q = {q:.4} with {sites} sites ({of_alerts}{capped})"
                )
            }
            None => format!("{of_alerts} (q = {q})"),
        };
        let expected = self.expected_per_site_month.map_or_else(
            || "-".to_owned(),
            |expected| format!("at most {expected:.2} false alerts per site and month while nothing is wrong"),
        );
        let Realised { site_days, right, r#false, unjudged, confidence, false_share, false_per_site_month } =
            &self.realised;
        let rate = false_per_site_month.as_ref().map_or_else(
            || "too early to say".to_owned(),
            |rate| format!("{} false alerts per site and month", rate.text(*confidence)),
        );
        let share = false_share.as_ref().map_or_else(
            || "nothing judged yet".to_owned(),
            |share| format!("{} of those judged", share.text(*confidence)),
        );
        format!(
            "promised   {promised}\nexpected   {expected}\nrealised   {rate}\nfalse      {share}\n\
             judged     {right} right, {} false, {unjudged} not judged, in {site_days:.1} site-days",
            r#false
        )
    }
}

/// Prints what is promised and what came of it.
///
/// # Errors
/// Where the aggregator does not answer.
pub(crate) fn status(arguments: &ListArguments) -> Result<Outcome, Failure> {
    let value: serde_json::Value = Client::new(&arguments.server)?.get("promise")?;
    match arguments.format {
        ListFormat::Json => say(&value.to_string()),
        ListFormat::Table => say(&serde_json::from_value::<Promise>(value).map_err(Failure::job)?.lines()),
    }
}

/// Says that an alert was right.
///
/// # Errors
/// Where the aggregator does not answer, or does not know it.
pub(crate) fn confirm(arguments: &JudgeArguments) -> Result<Outcome, Failure> {
    judge(arguments, "confirm", "confirmed")
}

/// Says that an alert was false.
///
/// # Errors
/// As [`confirm`].
pub(crate) fn dismiss(arguments: &JudgeArguments) -> Result<Outcome, Failure> {
    judge(arguments, "dismiss", "a false alert, and over")
}

fn judge(arguments: &JudgeArguments, verb: &str, done: &str) -> Result<Outcome, Failure> {
    let JudgeArguments { server, alert, note } = arguments;
    let path = format!("alerts/{alert}/{verb}");
    let _: serde_json::Value = Client::new(server)?.post(&path, &json!({ "note": note }))?;
    say(&format!("alert {alert} is {done}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(realised: &str, budget: &str) -> String {
        let text = format!(
            r#"{{"q":0.0309,"epoch_seconds":86400,"sites":1,"budget_per_site_month":{budget},"capped":false,
                "expected_per_site_month":1.0,"realised":{realised}}}"#
        );
        serde_json::from_str::<Promise>(&text).expect("reads").lines()
    }

    #[test]
    fn a_young_fleet_is_told_that_it_is_too_early_and_an_old_one_its_rate_with_limits() {
        let young = promise(
            r#"{"site_days":0.2,"right":0,"false":0,"unjudged":1,"confidence":0.95,"false_share":null,"false_per_site_month":null}"#,
            "1",
        );
        assert!(young.contains("at most 1 false alerts per site and month: q = 0.0309 with 1 sites"), "{young}");
        assert!(young.contains("too early to say") && young.contains("nothing judged yet"), "{young}");
        let interval = r#"{"low":0.1,"estimate":0.5,"high":1.25}"#;
        let old = promise(
            &format!(
                r#"{{"site_days":61,"right":1,"false":1,"unjudged":0,"confidence":0.95,"false_share":{interval},"false_per_site_month":{interval}}}"#
            ),
            "null",
        );
        assert!(old.contains("0.50 (95 % limits 0.10 to 1.25) false alerts per site and month"), "{old}");
        assert!(old.contains("at most 3.09 % false on average (q = 0.0309)"), "{old}");
    }
}
