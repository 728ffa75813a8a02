//! The figures of all runs, as a table and as JSON.

use serde::Serialize;

use super::fleet::Scenario;
use super::run::Outcome;

/// All runs and their summary.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    runs: Vec<Outcome>,
    summary: Summary,
}

/// Figures over all runs.
#[derive(Debug, Serialize)]
struct Summary {
    scenario: String,
    q: f64,
    runs: usize,
    /// Mean number of false alerts.
    false_alerts_per_run: f64,
    /// Share of the runs with a false alert.
    runs_with_false_alert: f64,
    /// Mean over runs of the share of false alerts: what q promises.
    realised_fdr: f64,
    /// Mean number of drifting cameras found by the end.
    found: f64,
    /// Mean number of cameras that drift.
    drifting: f64,
    /// Windows from drift to alert, over all cameras found; null where none was.
    delay_median: Option<f64>,
    delay_p90: Option<f64>,
    /// Mean number of alerts on whole sites.
    site_alerts: f64,
    /// Mean number of alerts on sites without a shock, on models or on the fleet.
    false_group_alerts: f64,
    /// Camera windows decided per second and core.
    windows_per_second: f64,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts of alerts and windows")]
    pub(super) fn new(scenario: Scenario, q: f64, runs: Vec<Outcome>) -> Self {
        let count = runs.len().max(1) as f64;
        let mean = |value: &dyn Fn(&Outcome) -> f64| runs.iter().map(value).sum::<f64>() / count;
        let mut delays: Vec<u32> = runs.iter().flat_map(|run| run.delays.iter().copied()).collect();
        delays.sort_unstable();
        let windows: u64 = runs.iter().map(|run| run.camera_windows).sum();
        let core: f64 = runs.iter().map(|run| run.core.as_secs_f64()).sum();
        let summary = Summary {
            scenario: clap::ValueEnum::to_possible_value(&scenario)
                .map_or_else(String::new, |v| v.get_name().to_owned()),
            q,
            runs: runs.len(),
            false_alerts_per_run: mean(&|run| run.false_alerts as f64),
            runs_with_false_alert: mean(&|run| f64::from(u8::from(run.false_alerts > 0))),
            realised_fdr: mean(&|run| run.false_discovery_proportion),
            found: mean(&|run| run.found as f64),
            drifting: mean(&|run| run.drifting as f64),
            delay_median: quantile(&delays, 0.5),
            delay_p90: quantile(&delays, 0.9),
            site_alerts: mean(&|run| run.site_alerts as f64),
            false_group_alerts: mean(&|run| run.false_group_alerts as f64),
            windows_per_second: windows as f64 / core.max(f64::MIN_POSITIVE),
        };
        Self { runs, summary }
    }

    pub(super) fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from("  seed  false alerts  found  delay median  delay p90\n");
        for run in &self.runs {
            let mut delays = run.delays.clone();
            delays.sort_unstable();
            let found = format!("{}/{}", run.found, run.drifting);
            text.push_str(&format!(
                "{:6}  {:12}  {found:>5}  {:>12}  {:>9}\n",
                run.seed,
                run.false_alerts,
                shown(quantile(&delays, 0.5)),
                shown(quantile(&delays, 0.9)),
            ));
        }
        let summary = &self.summary;
        text.push_str(&format!(
            "\nscenario {}, {} runs, q = {}\n\
             false alerts per run      {:.2}\n\
             runs with a false alert   {:.0} %\n\
             realised FDR              {:.3}   promised: at most {}\n\
             found                     {:.2} of {}\n\
             delay in windows          median {}, 90th percentile {}\n\
             site alerts per run       {:.2}; false on groups {:.2}\n\
             camera windows a second   {:.0} on one core\n",
            summary.scenario,
            summary.runs,
            summary.q,
            summary.false_alerts_per_run,
            100.0 * summary.runs_with_false_alert,
            summary.realised_fdr,
            summary.q,
            summary.found,
            summary.drifting,
            shown(summary.delay_median),
            shown(summary.delay_p90),
            summary.site_alerts,
            summary.false_group_alerts,
            summary.windows_per_second,
        ));
        text
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| String::from("-"), |value| format!("{value:.0}"))
}

/// The value below or at which a share of them lies; `None` of nothing.
fn quantile(sorted: &[u32], share: f64) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(index).map(|&value| f64::from(value))
}
