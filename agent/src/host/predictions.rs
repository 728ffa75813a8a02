//! What a model said of recorded frames, from a CSV file (RFC 4180) with a header.
//!
//! The columns `frame` and `confidence` are found by name and the others are ignored, `label` among them: label statistics are not
//! part of this release.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use driftglass_protocol::unit::Fixed;
use thiserror::Error;

use crate::pipeline::fixed_share;

/// Largest file read.
const FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Why a file is not a list of predictions.
#[derive(Debug, Error)]
pub enum PredictionsError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A needed column is missing.
    #[error("line 1: there is no column \"{column}\"")]
    Column {
        /// Its name.
        column: &'static str,
    },
    /// A row has too few fields.
    #[error("line {line}: the field \"{column}\" is missing")]
    Field {
        /// Where.
        line: usize,
        /// Its column.
        column: &'static str,
    },
    /// A confidence is not a probability.
    #[error("line {line}: the confidence \"{text}\" is not a number from 0 to 1")]
    Confidence {
        /// Where.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// Confidence by the file name of the frame.
pub type Predictions = BTreeMap<Vec<u8>, Fixed>;

/// Reads a file.
///
/// # Errors
/// One variant of [`PredictionsError`] per cause.
pub fn read(path: &Path) -> Result<Predictions, PredictionsError> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes")).into());
    }
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES).read_to_string(&mut text)?;
    parse(&text)
}

/// Reads a text. Where a frame is listed more than once (several detections), its highest confidence counts.
///
/// # Errors
/// One variant of [`PredictionsError`] per cause.
pub fn parse(text: &str) -> Result<Predictions, PredictionsError> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let header = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
    let column = |name: &'static str| {
        let found = header.iter().position(|field| field.trim() == name);
        found.map(|index| (index, name)).ok_or(PredictionsError::Column { column: name })
    };
    let (frame, confidence) = (column("frame")?, column("confidence")?);
    let mut predictions = Predictions::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = index + 1;
        let row = fields(line);
        let field = |(index, name)| {
            row.get(index)
                .map(|field: &String| field.trim())
                .ok_or(PredictionsError::Field { line: line_number, column: name })
        };
        let text = field(confidence)?;
        let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
        let Some(value) = value else {
            return Err(PredictionsError::Confidence { line: line_number, text: text.into() });
        };
        let value = fixed_share(value);
        let entry = predictions.entry(field(frame)?.as_bytes().to_vec()).or_insert(value);
        *entry = value.max(*entry);
    }
    Ok(predictions)
}

/// The fields of one line; a quoted field may hold commas and doubled quotes, not line breaks.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                if let Some(field) = fields.last_mut() {
                    field.push('"');
                }
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_the_best_detection_of_a_frame_counts() {
        let text = "label,confidence,frame\r\nperson,0.5,a.jpg\r\n\"a, \"\"b\"\"\",0.25,\"b,c.jpg\"\r\nperson,0.75,a.jpg\r\n\r\n";
        let found = parse(text).expect("good");
        assert_eq!(found.get(b"a.jpg".as_slice()), Some(&fixed_share(0.75)));
        assert_eq!(found.get(b"b,c.jpg".as_slice()), Some(&fixed_share(0.25)));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn every_fault_says_where_it_is() {
        let shown = |text| parse(text).expect_err("faulty").to_string();
        assert!(shown("").contains("\"frame\""));
        assert!(shown("frame,score\n").contains("\"confidence\""));
        assert!(shown("frame,confidence\na,1.5").contains("line 2"));
        assert!(shown("frame,confidence\na,NaN").contains("NaN"));
        assert!(shown("frame,confidence\na,0.5\nb").contains("line 3"));
    }
}
