//! One case of a file: what goes in, what is expected, and what was found wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

/// What a run came to: an error is what a function says of its input.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Computes what a case asks for and checks it.
pub(crate) type Run = fn(&Case) -> Outcome;

/// One case, and which of its expectations have been looked at.
pub(crate) struct Case<'a> {
    pub(crate) id: &'a str,
    pub(crate) body: &'a Value,
    pub(crate) seen: RefCell<BTreeSet<String>>,
    pub(crate) failures: RefCell<Vec<String>>,
}

/// How close is close enough.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) relative: f64,
    pub(crate) absolute: f64,
}

impl Case<'_> {
    pub(crate) fn fail(&self, message: &str) {
        self.failures.borrow_mut().push(format!("{}: {message}", self.id));
    }

    pub(crate) fn input(&self, name: &str) -> &Value {
        self.body["input"].get(name).unwrap_or_else(|| panic!("{} has no input {name}", self.id))
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        float(self.input(name))
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f64> {
        list(self.input(name))
    }

    pub(crate) fn counts(&self, name: &str) -> Vec<u64> {
        counts(self.input(name))
    }

    pub(crate) fn tables(&self, name: &str) -> Vec<Vec<u64>> {
        self.input(name).as_array().unwrap().iter().map(counts).collect()
    }

    pub(crate) fn parameter(&self, name: &str) -> f64 {
        float(self.setting(name))
    }

    /// A parameter that counts something.
    pub(crate) fn count<T: TryFrom<u64>>(&self, name: &str) -> T {
        let whole = self.setting(name).as_u64().and_then(|value| T::try_from(value).ok());
        whole.unwrap_or_else(|| panic!("{}: {name} is no count", self.id))
    }

    pub(crate) fn setting(&self, name: &str) -> &Value {
        self.body["params"].get(name).unwrap_or_else(|| panic!("{} has no parameter {name}", self.id))
    }

    /// An expectation that may be missing from the case, or null, which says it is undefined.
    pub(crate) fn expected(&self, name: &str) -> Option<&Value> {
        self.seen.borrow_mut().insert(name.to_owned());
        self.body["expect"].get(name).filter(|value| !value.is_null())
    }

    /// A tolerance by the name of a `tol` entry: `…rel` is relative, `abs` absolute, a bare name either.
    pub(crate) fn tolerance(&self, names: &[&str]) -> Tolerance {
        let mut tolerance = Tolerance { relative: 0.0, absolute: 0.0 };
        let mut known = false;
        for name in names {
            if let Some(value) = self.body["tol"].get(*name).and_then(Value::as_f64) {
                known = true;
                if *name == "abs" {
                    tolerance.absolute = value;
                } else {
                    tolerance.relative = value;
                }
            }
        }
        if !known {
            self.fail(&format!("no tolerance among {names:?}"));
        }
        tolerance
    }

    pub(crate) fn tolerance_or_zero(&self, name: &str) -> f64 {
        self.body["tol"].get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }

    pub(crate) fn close(&self, name: &str, got: f64, tolerance: Tolerance) {
        if let Some(want) = self.expected(name) {
            self.compare(name, got, float(want), tolerance);
        }
    }

    pub(crate) fn close_all(&self, name: &str, got: &[f64], tolerance: Tolerance) {
        if let Some(want) = self.expected(name) {
            let want = list(want);
            if want.len() != got.len() {
                self.fail(&format!("{name} has {} entries instead of {}", got.len(), want.len()));
            }
            for (index, (got, want)) in got.iter().zip(want).enumerate() {
                self.compare(&format!("{name}[{index}]"), *got, want, tolerance);
            }
        }
    }

    pub(crate) fn compare(&self, name: &str, got: f64, want: f64, tolerance: Tolerance) {
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        // Sums of values near 1 carry their rounding error into expectations near 0.
        let allowed = (tolerance.relative * want.abs()).max(tolerance.absolute);
        let near = want.is_finite() && (got - want).abs() <= allowed;
        if !same && !near {
            self.fail(&format!("{name} is {got:e} instead of {want:e}"));
        }
    }

    pub(crate) fn equal(&self, name: &str, got: &Value) {
        if let Some(want) = self.expected(name)
            && want != got
        {
            self.fail(&format!("{name} is {got} instead of {want}"));
        }
    }

    /// For what the reference leaves undefined: our own definition must still be a probability.
    pub(crate) fn probability(&self, name: &str, got: f64) {
        if !(0.0..=1.0).contains(&got) {
            self.fail(&format!("{name} is {got}, no probability"));
        }
    }
}

pub(crate) fn float(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap(),
        Value::String(text) => match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            other => panic!("{other} is no number"),
        },
        other => panic!("{other} is no number"),
    }
}

pub(crate) fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(float).collect()
}

pub(crate) fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
}
