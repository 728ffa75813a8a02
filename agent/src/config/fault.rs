//! What is wrong with a configuration, all of it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::source::address::redact;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, with its section.
    pub key: String,
    /// The value found; empty where it is missing.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// Every fault of one file, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    file: PathBuf,
    list: Vec<Fault>,
}

impl Faults {
    /// None yet.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_path_buf(), list: Vec::new() }
    }

    /// One more. Credentials in URLs are left out of what is shown.
    pub fn add(&mut self, key: String, value: impl Into<String>, allowed: String) {
        self.list.push(Fault { key, value: redact(&value.into()), allowed });
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The faults.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.list
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { key, value, allowed }) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {key}", self.file.display())?;
            if !value.is_empty() {
                write!(f, " = {value}")?;
            }
            write!(f, ": {allowed}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
