//! `alert`: one alert in full.

use clap::Args;
use serde::Deserialize;

use crate::client::{Client, ListFormat, ServerArguments};
use crate::exit::{Failure, Outcome};
use crate::fleet::say;

/// Which alert, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
    /// Number of the alert.
    alert: u64,
}

/// An alert, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Alert {
    id: u64,
    subject: String,
    cause: String,
    severity: String,
    state: String,
    verdict: Option<String>,
    first_window: Option<String>,
    raised_at: Option<String>,
    recommended_action: String,
    features: Vec<Moved>,
    history: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Moved {
    name: Option<String>,
    unit: Option<String>,
    shift: f64,
    psi: Option<f64>,
    js: Option<f64>,
    wasserstein: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at: Option<String>,
    state: String,
    author: String,
    note: String,
}

impl Alert {
    fn lines(&self) -> String {
        let Self { id, subject, cause, severity, state, recommended_action, .. } = self;
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let mut lines = vec![
            format!("alert {id}: {cause}, severity {severity}, {state}"),
            format!("where     {subject}"),
            format!("began     {}", shown(&self.first_window)),
            format!("raised    {}", shown(&self.raised_at)),
            format!("verdict   {}", shown(&self.verdict)),
            format!("to do     {recommended_action}"),
        ];
        if !self.features.is_empty() {
            let heading = "MOVED                         SHIFT WASSERSTEIN UNIT          PSI     JS   (beyond chance; sizes, not tests)";
            lines.extend([String::new(), heading.to_owned()]);
        }
        let size =
            |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
        lines.extend(self.features.iter().map(|Moved { name, unit, shift, psi, js, wasserstein }| {
            let (name, unit) = (shown(name), shown(unit));
            let (wasserstein, psi, js) = (size(*wasserstein, 3), size(*psi, 2), size(*js, 3));
            format!("{name:<24} {shift:>+10.3} {wasserstein:>11} {unit:<10} {psi:>6} {js:>6}")
        }));
        lines.push(String::new());
        let history = self.history.iter();
        lines.extend(
            history.map(|Entry { at, state, author, note }| format!("{:<24} {state:<11} {author}: {note}", shown(at))),
        );
        lines.join("\n")
    }
}

/// Prints one alert.
///
/// # Errors
/// Where the aggregator does not answer, or does not know it.
pub(crate) fn show(arguments: &ShowArguments) -> Result<Outcome, Failure> {
    let value: serde_json::Value = Client::new(&arguments.server)?.get(&format!("alerts/{}", arguments.alert))?;
    match arguments.format {
        ListFormat::Json => say(&value.to_string()),
        ListFormat::Table => say(&serde_json::from_value::<Alert>(value).map_err(Failure::job)?.lines()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_stands_in_its_column_and_one_that_is_not_known_is_a_dash() {
        let text = r#"{"id":3,"subject":"s/d/c","cause":"dark","severity":"high","state":"alerting","verdict":null,
            "first_window":"2026-01-01T00:00:00Z","raised_at":null,"recommended_action":"Look.",
            "features":[{"name":"luma_mean","unit":"level","shift":-40.5,"psi":2.345,"js":0.5,"wasserstein":39.9},
                        {"name":null,"unit":null,"shift":1.0,"psi":null,"js":null,"wasserstein":null}],
            "history":[{"at":null,"state":"alerting","author":"driftglass","note":"evidence 99"}]}"#;
        let lines = serde_json::from_str::<Alert>(text).expect("reads").lines();
        assert!(lines.contains("luma_mean                   -40.500      39.900 level        2.35  0.500"), "{lines}");
        assert!(lines.contains("-                            +1.000           - -               -      -"), "{lines}");
        assert!(lines.ends_with("alerting    driftglass: evidence 99"), "{lines}");
    }
}
