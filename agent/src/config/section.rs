//! A table of the file, taken apart key by key; what is left over at the end is unknown.

use toml::{Table, Value};

use super::fault::Faults;

#[derive(Debug)]
pub(super) struct Section {
    table: Table,
    path: String,
}

impl Section {
    pub(super) const fn new(table: Table, path: String) -> Self {
        Self { table, path }
    }

    /// The full name of a key.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn required<T>(
        &mut self,
        key: &str,
        allowed: &str,
        faults: &mut Faults,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            faults.add(self.key(key), "", format!("is missing: {allowed}"));
            return None;
        }
        self.optional(key, allowed, faults, check)
    }

    /// A text; a check that fails with an empty text has nothing to add to what is allowed.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        allowed: &str,
        faults: &mut Faults,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.table.remove(key)?;
        let reason = match &value {
            Value::String(text) => match check(text) {
                Ok(checked) => return Some(checked),
                Err(reason) => reason,
            },
            _ => "a text in quotes is needed".into(),
        };
        let allowed =
            if reason.is_empty() { format!("allowed: {allowed}") } else { format!("{reason}; allowed: {allowed}") };
        faults.add(self.key(key), value.to_string(), allowed);
        None
    }

    pub(super) fn flag(&mut self, key: &str, faults: &mut Faults) -> Option<bool> {
        let value = self.table.remove(key)?;
        let checked = value.as_bool();
        if checked.is_none() {
            faults.add(self.key(key), value.to_string(), "allowed: true or false".into());
        }
        checked
    }

    /// An array of texts.
    pub(super) fn texts<T>(
        &mut self,
        key: &str,
        allowed: &str,
        faults: &mut Faults,
        check: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.table.remove(key)?;
        let checked = value.as_array().and_then(|entries| entries.iter().map(|entry| check(entry.as_str()?)).collect());
        if checked.is_none() {
            faults.add(self.key(key), value.to_string(), format!("allowed: {allowed}"));
        }
        checked
    }

    pub(super) fn number<T>(
        &mut self,
        key: &str,
        allowed: &str,
        faults: &mut Faults,
        check: impl FnOnce(f64) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.remove(key)?;
        let number = match &value {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
            _ => None,
        };
        let checked = number.and_then(check);
        if checked.is_none() {
            faults.add(self.key(key), value.to_string(), format!("allowed: {allowed}"));
        }
        checked
    }

    /// An array of so many numbers.
    #[cfg(feature = "inference")]
    pub(super) fn numbers<const N: usize, T>(
        &mut self,
        key: &str,
        allowed: &str,
        faults: &mut Faults,
        check: impl FnOnce([f64; N]) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.remove(key)?;
        let number =
            |value: &Value| value.as_float().or_else(|| i32::try_from(value.as_integer()?).ok().map(f64::from));
        let numbers = value.as_array().and_then(|values| values.iter().map(number).collect::<Option<Vec<_>>>());
        let checked = numbers.and_then(|numbers| numbers.try_into().ok()).and_then(check);
        if checked.is_none() {
            faults.add(self.key(key), value.to_string(), format!("allowed: {allowed}"));
        }
        checked
    }

    /// A list of texts, at least one, none with a NUL.
    pub(super) fn words(&mut self, key: &str, faults: &mut Faults) -> Option<Vec<String>> {
        let allowed = "a program and its arguments, each a text in quotes: [\"ffmpeg\", \"-i\", ...]";
        let Some(value) = self.table.remove(key) else {
            faults.add(self.key(key), "", format!("is missing: {allowed}"));
            return None;
        };
        let words = match &value {
            Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        let words = words.filter(|words: &Vec<String>| {
            words.first().is_some_and(|program| !program.is_empty()) && !words.iter().any(|word| word.contains('\0'))
        });
        if words.is_none() {
            faults.add(self.key(key), value.to_string(), format!("allowed: {allowed}"));
        }
        words
    }

    /// A table of this section; an empty one where there is none.
    pub(super) fn section(&mut self, key: &str, faults: &mut Faults) -> Self {
        let path = self.key(key);
        match self.table.remove(key) {
            None => Self::new(Table::new(), path),
            Some(Value::Table(table)) => Self::new(table, path),
            Some(other) => {
                faults.add(path.clone(), other.to_string(), "allowed: a table".into());
                Self::new(Table::new(), path)
            }
        }
    }

    /// An array of tables.
    pub(super) fn tables(&mut self, key: &str, faults: &mut Faults) -> Vec<Self> {
        let path = self.key(key);
        let Some(value) = self.table.remove(key) else { return Vec::new() };
        let Value::Array(values) = value else {
            faults.add(path, value.to_string(), format!("allowed: [[{key}]] tables"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            match value {
                Value::Table(table) => sections.push(Self::new(table, path)),
                other => faults.add(path, other.to_string(), "allowed: a table".into()),
            }
        }
        sections
    }

    /// Ignores what is left.
    pub(super) fn forget(&mut self) {
        self.table.clear();
    }

    /// Everything left over is unknown.
    pub(super) fn finish(self, faults: &mut Faults) {
        for (key, value) in &self.table {
            faults.add(self.key(key), value.to_string(), "unknown key".into());
        }
    }
}
