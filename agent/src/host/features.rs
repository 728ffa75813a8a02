//! `features`: the values the service would sketch, for single pictures.
//!
//! Each file stands for itself: features that need a reference or a previous frame are absent.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use driftglass_protocol::feature::{CATALOGUE, FeatureValues};
use serde_json::{Map, Value, json};

use crate::decode::Decoder;
use crate::source::MAX_FILE_BYTES;

/// How values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON array.
    Json,
    /// RFC 4180, one line a file.
    Csv,
}

/// Measures and prints; false where a file could not be measured.
///
/// # Errors
/// Where `out` takes nothing.
pub fn features(files: &[PathBuf], format: Format, out: &mut impl Write) -> io::Result<bool> {
    let mut decoder = Decoder::default();
    let mut complete = true;
    if format == Format::Csv {
        write!(out, "file")?;
        for spec in &CATALOGUE {
            write!(out, ",{}", spec.name)?;
        }
        writeln!(out)?;
    }
    let mut list = Vec::new();
    for path in files {
        let values = match measure(&mut decoder, path) {
            Ok(values) => values,
            Err(error) => {
                complete = false;
                tracing::error!(file = %path.display(), %error, "not measured");
                continue;
            }
        };
        match format {
            Format::Table => table(path, &values, out)?,
            Format::Csv => csv(path, &values, out)?,
            Format::Json => list.push(object(path, &values)),
        }
    }
    if format == Format::Json {
        writeln!(out, "{:#}", Value::Array(list))?;
    }
    Ok(complete)
}

fn measure(decoder: &mut Decoder, path: &Path) -> Result<FeatureValues, Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("more than {MAX_FILE_BYTES} bytes").into());
    }
    Ok(*decoder.measure(&bytes)?.values())
}

fn table(path: &Path, values: &FeatureValues, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", path.display())?;
    for (spec, value) in values.iter() {
        let shown = value.map_or_else(|| "-".into(), |value| format!("{:.4}", value.to_f64()));
        writeln!(out, "  {:<22} {shown:>12}  {}", spec.name, spec.unit)?;
    }
    Ok(())
}

fn csv(path: &Path, values: &FeatureValues, out: &mut impl Write) -> io::Result<()> {
    let name = path.display().to_string();
    if name.contains([',', '"', '\n', '\r']) {
        write!(out, "\"{}\"", name.replace('"', "\"\""))?;
    } else {
        write!(out, "{name}")?;
    }
    for (_, value) in values.iter() {
        match value {
            Some(value) => write!(out, ",{}", value.to_f64())?,
            None => write!(out, ",")?,
        }
    }
    writeln!(out)
}

fn object(path: &Path, values: &FeatureValues) -> Value {
    let mut features = Map::new();
    for (spec, value) in values.iter() {
        features.insert(spec.name.into(), json!(value.map(|value| value.to_f64())));
    }
    json!({ "file": path.display().to_string(), "features": features })
}
