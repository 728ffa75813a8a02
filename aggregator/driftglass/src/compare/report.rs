//! The report of a comparison: as a table, as JSON, as one page.

use driftglass_aggregator::alert::{Cause, Severity};
use driftglass_aggregator::batch::{BatchReport, FeatureReport};
use driftglass_aggregator::stats::{divergence, wasserstein};
use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::limit::BINS;
use serde::Serialize;

/// Everything a report says, in the form of its JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    reference: Side,
    current: Side,
    /// Whether anything drifted.
    pub(crate) drift: bool,
    cause: Option<Cause>,
    severity: Option<Severity>,
    explanation: Option<String>,
    recommended_action: Option<&'static str>,
    /// One entry per feature both sides have.
    pub(crate) features: Vec<FeatureEntry>,
}

#[derive(Debug, Serialize)]
struct Side {
    frames: usize,
}

/// One feature of the report.
#[derive(Debug, Serialize)]
pub(crate) struct FeatureEntry {
    /// Its name in the catalogue.
    pub(crate) name: &'static str,
    /// Its unit.
    pub(crate) unit: &'static str,
    ks: f64,
    /// Distance beyond margin and tolerance.
    pub(crate) distance: f64,
    p_value: f64,
    /// Adjusted over the features.
    pub(crate) p_adjusted: f64,
    psi: Option<f64>,
    js: Option<f64>,
    wasserstein: Option<f64>,
    /// Exact statistics of the reference.
    pub(crate) reference: Summary,
    /// Exact statistics of the current frames.
    pub(crate) current: Summary,
    /// Whether it drifted.
    pub(crate) drift: bool,
    /// Shares of both sides over the bins, for the drawing.
    #[serde(skip)]
    pub(crate) shares: [Vec<f64>; 2],
}

/// Exact statistics of one feature on one side.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    count: usize,
    /// Arithmetic mean.
    pub(crate) mean: f64,
    std: f64,
    min: f64,
    p25: f64,
    p50: f64,
    p75: f64,
    max: f64,
}

impl Report {
    /// Puts together what was found and the exact values of both sides.
    pub(crate) fn new(found: &BatchReport, reference: &[FeatureValues], current: &[FeatureValues]) -> Self {
        let features: Vec<FeatureEntry> =
            found.features.iter().filter_map(|feature| FeatureEntry::new(feature, reference, current)).collect();
        let diagnosis = found.diagnosis.as_ref();
        Self {
            reference: Side { frames: reference.len() },
            current: Side { frames: current.len() },
            drift: diagnosis.is_some(),
            cause: diagnosis.map(|diagnosis| diagnosis.cause),
            severity: diagnosis.map(|diagnosis| diagnosis.severity),
            explanation: diagnosis.map(|diagnosis| diagnosis.explanation.clone()),
            recommended_action: diagnosis.map(|diagnosis| diagnosis.cause.recommended_action()),
            features,
        }
    }

    /// For programs.
    ///
    /// # Errors
    /// Never in practice; what the encoder says.
    pub(crate) fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// For people at a terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let line = |text: &mut String, line: std::fmt::Arguments<'_>| {
            text.push_str(&line.to_string());
            text.push('\n');
        };
        line(
            &mut text,
            format_args!(
                "{:<22} {:>10} {:>10} {:>7} {:>8} {:>9} {:>7}  drift",
                "feature", "reference", "current", "KS", "distance", "p (adj.)", "PSI"
            ),
        );
        for feature in &self.features {
            line(
                &mut text,
                format_args!(
                    "{:<22} {:>10.3} {:>10.3} {:>7.3} {:>8.3} {:>9.2e} {:>7}  {}",
                    feature.name,
                    feature.reference.mean,
                    feature.current.mean,
                    feature.ks,
                    feature.distance,
                    feature.p_adjusted,
                    feature.psi.map_or_else(|| String::from("-"), |psi| format!("{psi:.2}")),
                    if feature.drift { "yes" } else { "" },
                ),
            );
        }
        text.push('\n');
        line(&mut text, format_args!("{}", self.verdict()));
        text
    }

    /// One sentence.
    pub(crate) fn verdict(&self) -> String {
        let frames = format!("{} frames against {}", self.current.frames, self.reference.frames);
        match (self.cause, &self.explanation, self.recommended_action) {
            (Some(cause), Some(explanation), Some(action)) => {
                let severity = match self.severity {
                    Some(Severity::Critical) => "critical",
                    Some(Severity::High) => "high",
                    Some(Severity::Medium) => "medium",
                    _ => "low",
                };
                format!("Drift, severity {severity}: {cause} ({explanation}; {frames}).\n{action}")
            }
            _ => format!("No drift ({frames})."),
        }
    }
}

impl FeatureEntry {
    fn new(found: &FeatureReport, reference: &[FeatureValues], current: &[FeatureValues]) -> Option<Self> {
        let feature = found.comparison.feature;
        let spec = feature.spec();
        let (then, now) = (found.reference.counts().as_slice(), found.current.counts().as_slice());

        let (before, after) = (exact(feature, reference), exact(feature, current));
        // The customary ten bins at the deciles of the reference; a share of nothing counts as 0.0001.
        let binned = divergence::quantile_edges(&before, 10).and_then(|edges| {
            Ok((divergence::count_by_edges(&before, &edges)?, divergence::count_by_edges(&after, &edges)?))
        });
        let (psi, js) = binned.map_or((None, None), |(before, after)| {
            let (p, q) = (shares(&before), shares(&after));
            (divergence::psi(&before, &after, 1e-4).ok(), divergence::jensen_shannon(&p, &q).ok())
        });
        let distance = if spec.axis.is_circular() {
            wasserstein::circular(spec.axis.edge(BINS), then, now).ok()
        } else {
            wasserstein::samples(&before, &after).ok().map(|transport| transport.wasserstein)
        };
        Some(Self {
            name: spec.name,
            unit: spec.unit,
            ks: found.ks,
            distance: found.comparison.distance,
            p_value: found.comparison.p,
            p_adjusted: found.p_adjusted,
            psi,
            js,
            wasserstein: distance,
            reference: Summary::of(before)?,
            current: Summary::of(after)?,
            drift: found.drift,
            shares: [shares(then), shares(now)],
        })
    }
}

fn exact(feature: Feature, frames: &[FeatureValues]) -> Vec<f64> {
    frames.iter().filter_map(|frame| frame.get(feature)).map(|value| value.to_f64()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
fn shares<C: Copy + Into<u64>>(counts: &[C]) -> Vec<f64> {
    let total = counts.iter().map(|&count| count.into()).sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| count.into() as f64 / total).collect()
}

impl Summary {
    /// Exact statistics of the values; quantiles by linear interpolation (Hyndman and Fan, type 7).
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand frames")]
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Some(Self {
            count: values.len(),
            mean,
            std: variance.sqrt(),
            min: *values.first()?,
            p25: quantile(&values, 1),
            p50: quantile(&values, 2),
            p75: quantile(&values, 3),
            max: *values.last()?,
        })
    }
}

/// The `quarter`-th quartile of sorted values.
fn quantile(sorted: &[f64], quarter: usize) -> f64 {
    let place = (sorted.len().saturating_sub(1)) * quarter;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (low, rest) = (at(place / 4), place % 4);
    if rest == 0 {
        return low;
    }
    let fraction = f64::from(u8::try_from(rest).unwrap_or(0)) / 4.0;
    (at(place / 4 + 1) - low).mul_add(fraction, low)
}
