//! What a model said of recorded frames, from a CSV file (RFC 4180) with a header.
//!
//! Columns are found by name. `frame` and `confidence` are needed; `label`, `truth` (the right label), `second_confidence` and
//! `latency_ms` are read where they stand there, an empty field being none, and other columns are ignored.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

use crate::prediction::{Prediction, Recorded, fixed, fixed_share};

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
    /// A figure is out of its range, or none.
    #[error("line {line}: the {column} \"{text}\" is not a number from 0 to {most}")]
    Number {
        /// Where.
        line: usize,
        /// Its column.
        column: &'static str,
        /// What stands there.
        text: String,
        /// The largest number allowed.
        most: u32,
    },
}

/// Longest latency, in milliseconds: what the fixed-point numbers of features hold.
const MOST_LATENCY: u32 = 32_767;

/// Reads a file.
///
/// # Errors
/// One variant of [`PredictionsError`] per cause.
pub fn read(path: &Path) -> Result<Recorded, PredictionsError> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes")).into());
    }
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES).read_to_string(&mut text)?;
    parse(&text)
}

/// Reads a text. Where a frame is listed more than once (several detections), the most confident is the frame's first choice, and
/// every label counts. The first choice is wrong where its row has a label and a truth and the two differ.
///
/// # Errors
/// One variant of [`PredictionsError`] per cause.
pub fn parse(text: &str) -> Result<Recorded, PredictionsError> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let header = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
    let column = |name: &'static str| header.iter().position(|field| field.trim() == name);
    let needed = |name| column(name).map(|index| (index, name)).ok_or(PredictionsError::Column { column: name });
    let (frame, confidence) = (needed("frame")?, needed("confidence")?);
    let optional = ["label", "truth", "second_confidence", "latency_ms"].map(column);
    let mut recorded = Recorded::default();
    for (index, line_text) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let line = index + 1;
        let row = fields(line_text);
        let field = |(index, column)| {
            row.get(index).map(|field: &String| field.trim()).ok_or(PredictionsError::Field { line, column })
        };
        let [label, truth, second, latency] = optional.map(|column| {
            column.and_then(|index| row.get(index)).map(|field| field.trim()).filter(|field| !field.is_empty())
        });
        let number = |column, text: &str, most: u32| {
            let number = text.parse().ok().filter(|number| (0.0..=f64::from(most)).contains(number));
            number.ok_or_else(|| PredictionsError::Number { line, column, text: text.into(), most })
        };
        let prediction = Prediction {
            confidence: fixed_share(number("confidence", field(confidence)?, 1)?),
            second_confidence: second.map(|text| number("second_confidence", text, 1)).transpose()?.map(fixed_share),
            entropy: None,
            latency: latency.map(|text| number("latency_ms", text, MOST_LATENCY)).transpose()?.map(fixed),
            wrong: label.zip(truth).map(|(label, truth)| label != truth),
        };
        recorded.add(field(frame)?.as_bytes(), prediction, label);
    }
    Ok(recorded)
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
    use driftglass_protocol::unit::Fixed;

    use super::*;

    fn of(found: &Recorded, frame: &str) -> (Prediction, Vec<String>) {
        let (prediction, labels) = found.get(frame.as_bytes()).expect("known");
        (*prediction, labels.map(Into::into).collect())
    }

    #[test]
    fn columns_are_found_by_name_and_the_best_detection_of_a_frame_is_its_first_choice() {
        let text = "label,confidence,frame,truth\r\nperson,0.5,a.jpg,person\r\n\"a, \"\"b\"\"\",0.25,\"b,c.jpg\",\r\ncar,0.75,a.jpg,person\r\n\r\n";
        let found = parse(text).expect("good");
        assert_eq!(found.len(), 2);
        let (best, labels) = of(&found, "a.jpg");
        assert_eq!((best.confidence, best.wrong), (fixed_share(0.75), Some(true)));
        assert_eq!(labels, ["person", "car"]);
        let (best, labels) = of(&found, "b,c.jpg");
        assert_eq!((best.confidence, best.wrong), (fixed_share(0.25), None));
        assert_eq!(labels, ["a, \"b\""]);
    }

    #[test]
    fn margin_and_latency_are_read_where_they_are_given() {
        let found =
            parse("frame,confidence,second_confidence,latency_ms\na,0.75,0.25,16\nb,0.5,,\nc,0.5").expect("good");
        let (best, labels) = of(&found, "a");
        assert_eq!((best.second_confidence, best.latency), (Some(fixed_share(0.25)), Some(Fixed::from_int(16))));
        assert!(labels.is_empty());
        for frame in ["b", "c"] {
            assert_eq!(of(&found, frame).0, Prediction { confidence: fixed_share(0.5), ..Prediction::default() });
        }
    }

    #[test]
    fn every_fault_says_where_it_is() {
        let shown = |text| parse(text).expect_err("faulty").to_string();
        assert!(shown("").contains("\"frame\""));
        assert!(shown("frame,score\n").contains("\"confidence\""));
        assert!(shown("frame,confidence\na,1.5").contains("line 2"));
        assert!(shown("frame,confidence\na,NaN").contains("NaN"));
        assert!(shown("frame,confidence\na,0.5\nb").contains("line 3"));
        assert!(shown("frame,confidence,latency_ms\na,0.5,40000").contains("latency_ms \"40000\""));
    }
}
