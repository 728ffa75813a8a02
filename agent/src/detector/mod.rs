//! Drift detectors for one stream, each in fixed memory and O(1) or O(log n) a value.
//!
//! They say that a stream changed, not why, and each has false alarms of its own (at these defaults, per 10,000 stationary and
//! independent values: DDM 0.5 to 1.4, EDDM 10 to 25, `HDDM_A` up to 0.3, ADWIN 0, Page-Hinkley about 6, KSWIN about 11; on
//! autocorrelated values dozens). What they say is advice; the promise about false alerts does not rest on it.
//!
//! Must hold: after a drift the next value begins anew, as in river 0.26, whose answers these reproduce; a value that is no number
//! is refused and changes nothing. A detector that was read back from bytes is used only where it `is_sound`: nothing it holds can then
//! make it panic or loop.
//!
//! Deliberately absent: randomness (the positions that KSWIN draws are handed in) and thinning (whoever feeds them does it).

mod adwin;
mod ddm;
mod eddm;
mod hddm;
mod kswin;
mod mean;
mod page_hinkley;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use adwin::{Adwin, AdwinSettings, MAX_BUCKETS, MAX_ROWS};
pub use ddm::{Ddm, DdmSettings};
pub use eddm::{Eddm, EddmSettings};
pub use hddm::{Hddm, HddmSettings};
pub use kswin::{Draw, Kswin, KswinSettings};
pub use page_hinkley::{Direction, PageHinkley, PageHinkleySettings};

/// What a detector says after a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// No change.
    #[default]
    Stable,
    /// Perhaps a change.
    Warning,
    /// A change; the detector begins anew with the next value.
    Drift,
}

/// A value that is not a finite number.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("{value} is not a finite number")]
pub struct NotFinite {
    /// What it is.
    pub value: f64,
}

/// A setting outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{setting} must be {allowed}")]
pub struct SettingError {
    /// Its name.
    pub setting: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
}

const fn finite(value: f64) -> Result<f64, NotFinite> {
    if value.is_finite() { Ok(value) } else { Err(NotFinite { value }) }
}

const fn require(holds: bool, setting: &'static str, allowed: &'static str) -> Result<(), SettingError> {
    if holds { Ok(()) } else { Err(SettingError { setting, allowed }) }
}
