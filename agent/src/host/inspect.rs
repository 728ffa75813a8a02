//! `inspect`: what is, or was, sent; every field of every record, and nothing that is not in it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use driftglass_protocol::feature::Feature;
use driftglass_protocol::prediction::Predictions;
use driftglass_protocol::sketch::{EncodedHistogram, EncodedLabels, LabelCounts};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Kind, Record, parse_frame};
use serde_json::{Map, Value, json};

use crate::spool::{Item, scan};

/// How records are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Largest file read.
const FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The segments of a spool folder, in order.
///
/// # Errors
/// Where the folder cannot be listed.
pub fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "segment") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Prints every record of the files; false where some bytes are none.
///
/// # Errors
/// Where a file cannot be read or `out` takes nothing.
pub fn inspect(files: &[PathBuf], format: Format, out: &mut impl Write) -> io::Result<bool> {
    let mut whole = true;
    for path in files {
        let length = fs::metadata(path)?.len();
        if length > FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{}: {length} bytes", path.display())));
        }
        let bytes = fs::read(path)?;
        let found = scan(&bytes);
        for located in &found.items {
            let Some(frame) = bytes.get(located.range.clone()) else { continue };
            match (&located.item, parse_frame(frame)) {
                (Item::Record { .. }, Ok(frame)) if frame.kind == Kind::Record => {
                    if let Ok(record) = Record::parse(frame) {
                        match format {
                            Format::Json => writeln!(out, "{}", object(&record, frame.length))?,
                            Format::Text => text(&record, frame.length, out)?,
                        }
                    }
                }
                // Heads and checkpoints stay on this machine.
                _ => {}
            }
        }
        if found.whole < bytes.len() || !found.damaged.is_empty() {
            whole = false;
            tracing::warn!(file = %path.display(), damaged = ?found.damaged, whole_up_to = found.whole, length, "not all of it is whole frames");
        }
    }
    Ok(whole)
}

fn time(time: UnixMillis) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(time.0).unwrap_or(0));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

fn feature_name(number: u8) -> String {
    Feature::from_number(number).map_or_else(|| format!("feature {number}"), |feature| feature.name().into())
}

fn bins(bytes: &[u8]) -> Vec<(u8, u32)> {
    EncodedHistogram::parse(bytes).map(|histogram| histogram.iter().collect()).unwrap_or_default()
}

fn predicted(predictions: &Predictions<'_>) -> Value {
    let labels = EncodedLabels::parse(predictions.labels).map(|encoded| {
        let mut counts = LabelCounts::new();
        counts.merge(encoded);
        let mut named = Map::new();
        for one in counts.iter() {
            named.insert(one.label.into(), one.count.into());
        }
        json!({ "exact": counts.is_exact(), "total": counts.total(), "unnamed": counts.unnamed(), "named": named })
    });
    let advisories: Vec<Value> = predictions
        .advisories
        .iter()
        .map(|advisory| match advisory.known() {
            Some((detector, stream, level)) => {
                json!({ "detector": detector.name(), "stream": stream.name(), "level": level.name(), "at": time(advisory.at) })
            }
            None => json!(advisory),
        })
        .collect();
    json!({
        "frames": predictions.frames, "judged": predictions.judged, "wrong": predictions.wrong, "labels": labels.ok(),
        "advisories": advisories, "further_advisories": predictions.further_advisories,
    })
}

fn predicted_text(predictions: &Predictions<'_>, out: &mut impl Write) -> io::Result<()> {
    let Predictions { frames, judged, wrong, further_advisories, .. } = predictions;
    write!(out, "    predictions of {frames} frames, {judged} judged, {wrong} wrong; labels")?;
    if let Ok(encoded) = EncodedLabels::parse(predictions.labels) {
        let mut counts = LabelCounts::new();
        counts.merge(encoded);
        for named in counts.iter() {
            write!(out, " {:?} {}", named.label, named.count)?;
        }
        write!(
            out,
            "; {} without a name{}",
            counts.unnamed(),
            if counts.is_exact() { "" } else { "; counts are estimates" }
        )?;
    }
    writeln!(out)?;
    for advisory in &predictions.advisories {
        match advisory.known() {
            Some((detector, stream, level)) => {
                writeln!(
                    out,
                    "    {} of {} on {} at {}",
                    level.name(),
                    detector.name(),
                    stream.name(),
                    time(advisory.at)
                )?;
            }
            None => writeln!(out, "    {advisory:?}")?,
        }
    }
    if *further_advisories > 0 {
        writeln!(out, "    and {further_advisories} more pieces of advice")?;
    }
    Ok(())
}

fn object(record: &Record<'_>, bytes: usize) -> Value {
    let body = match &record.body {
        Body::Summary(summary) => {
            let sketches: Vec<Value> = summary
                .sketches
                .iter()
                .map(|sketch| {
                    json!({ "feature": feature_name(sketch.feature), "number": sketch.feature, "absent": sketch.absent,
                        "bins": bins(sketch.histogram) })
                })
                .collect();
            json!({ "summary": {
                "camera": summary.camera, "model": summary.model,
                "window": { "start": time(summary.window.start), "length_ms": summary.window.length.0, "merged": summary.window.merged },
                "first_frame": summary.first_frame.map(time), "last_frame": summary.last_frame.map(time),
                "quality": summary.quality, "sketches": sketches,
                "predictions": summary.predictions.as_ref().map(predicted),
            } })
        }
        Body::Tombstone(tombstone) => json!({ "tombstone": tombstone }),
    };
    json!({ "id": record.id, "previous": record.previous, "bytes": bytes, "body": body })
}

fn text(record: &Record<'_>, bytes: usize, out: &mut impl Write) -> io::Result<()> {
    let id = record.id;
    write!(out, "{}:{}", id.epoch, id.first)?;
    if id.last != id.first {
        write!(out, "..{}", id.last)?;
    }
    match &record.body {
        Body::Tombstone(tombstone) => {
            writeln!(
                out,
                "  tombstone ({:?}) {} .. {}  {bytes} bytes",
                tombstone.cause,
                time(tombstone.from),
                time(tombstone.to)
            )
        }
        Body::Summary(summary) => {
            let quality = summary.quality;
            write!(out, "  {}  {} +{} ms", summary.camera, time(summary.window.start), summary.window.length.0)?;
            if let Some(model) = &summary.model {
                write!(out, "  model {} {}", model.name, model.version)?;
            }
            writeln!(out, "  {bytes} bytes")?;
            writeln!(
                out,
                "    frames {}  missing {}  undecodable {}  skipped {}  late {}",
                quality.frames, quality.missing, quality.undecodable, quality.skipped, quality.late
            )?;
            for sketch in &summary.sketches {
                let bins = bins(sketch.histogram);
                let total: u64 = bins.iter().map(|&(_, count)| u64::from(count)).sum();
                let lowest = bins.first().map_or(0, |&(bin, _)| bin);
                let highest = bins.last().map_or(0, |&(bin, _)| bin);
                writeln!(
                    out,
                    "    {:<22} {total:>6} values in {:>3} bins ({lowest}..{highest})  absent {}",
                    feature_name(sketch.feature),
                    bins.len(),
                    sketch.absent
                )?;
            }
            summary.predictions.as_ref().map_or(Ok(()), |predictions| predicted_text(predictions, out))
        }
    }
}
