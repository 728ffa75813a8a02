//! `detectability`: what a camera would see, and what not.

use clap::Args;
use driftglass_protocol::id::CameraId;
use serde::Deserialize;

use crate::client::{Client, ListFormat, ServerArguments};
use crate::exit::{Failure, Outcome};
use crate::fleet::say;

/// Which camera, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct DetectabilityArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
    /// The camera: SITE/DEVICE/CAMERA.
    camera: CameraId,
}

/// What is said of a camera, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Detectability {
    camera: String,
    learning: Option<Learning>,
    within_seconds: Option<f64>,
    features: Vec<Reach>,
    unseen: Vec<Unseen>,
}

#[derive(Debug, Deserialize)]
struct Learning {
    windows: u32,
    windows_missing: u32,
    remaining_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Reach {
    name: String,
    unit: String,
    up: Option<f64>,
    down: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Unseen {
    because: String,
}

impl Detectability {
    fn lines(&self) -> String {
        let mut lines = vec![format!("camera {}", self.camera)];
        if let Some(Learning { windows, windows_missing, remaining_seconds }) = &self.learning {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a stretch of time, rounded up"
            )]
            let remaining = std::time::Duration::from_secs(remaining_seconds.max(0.0).ceil() as u64);
            let remaining = humantime::format_duration(remaining);
            lines.push(format!(
                "still learning: {windows} windows so far, {remaining} and {windows_missing} windows to come; it is not judged yet"
            ));
        }
        if let Some(seconds) = self.within_seconds {
            let when = if self.learning.is_some() { ", once it has learned, from what is known so far" } else { "" };
            let minutes = seconds / 60.0;
            lines.extend([
                format!(
                    "smallest shifts of one feature that are found within {minutes:.0} minutes in most cases{when}:"
                ),
                String::new(),
                "FEATURE                          RISE       FALL UNIT".to_owned(),
            ]);
        } else {
            lines.push("too little is known of it yet".to_owned());
        }
        let size = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let features = self.features.iter();
        lines.extend(
            features.map(|Reach { name, unit, up, down }| {
                format!("{name:<26} {:>10} {:>10} {unit}", size(*up), size(*down))
            }),
        );
        if !self.unseen.is_empty() {
            lines.push(String::new());
        }
        lines.extend(self.unseen.iter().map(|Unseen { because }| because.clone()));
        lines.join("\n")
    }
}

/// Prints what a camera would see.
///
/// # Errors
/// Where the aggregator does not answer, or does not know the camera.
pub(crate) fn show(arguments: &DetectabilityArguments) -> Result<Outcome, Failure> {
    let path = format!("cameras/{}/detectability", arguments.camera.to_string().replace('/', "%2F"));
    let value: serde_json::Value = Client::new(&arguments.server)?.get(&path)?;
    match arguments.format {
        ListFormat::Json => say(&value.to_string()),
        ListFormat::Table => say(&serde_json::from_value::<Detectability>(value).map_err(Failure::job)?.lines()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_camera_shows_its_shifts_and_a_learning_one_how_long_it_learns() {
        let watched = r#"{"camera":"s/d/c","learning":null,"in_force":true,"within_seconds":3600,
            "features":[{"name":"luma_mean","unit":"level","up":9.5,"down":null}],
            "unseen":[{"cause":"dark","because":"dark would not be seen: luma_mean cannot show enough here"}]}"#;
        let lines = serde_json::from_str::<Detectability>(watched).expect("reads").lines();
        assert!(lines.contains("found within 60 minutes in most cases:\n"), "{lines}");
        assert!(lines.contains("luma_mean                       9.500          - level"), "{lines}");
        assert!(lines.ends_with("dark would not be seen: luma_mean cannot show enough here"), "{lines}");
        let young = r#"{"camera":"s/d/c","learning":{"since":null,"windows":3,"windows_missing":27,"remaining_seconds":5400.0},
            "in_force":false,"within_seconds":null,"features":[],"unseen":[]}"#;
        let lines = serde_json::from_str::<Detectability>(young).expect("reads").lines();
        assert!(lines.contains("3 windows so far, 1h 30m and 27 windows to come"), "{lines}");
        assert!(lines.ends_with("too little is known of it yet"), "{lines}");
    }
}
