//! Settings taken out one by one, so that every fault is known at once and not only the first.

use std::collections::{BTreeMap, BTreeSet};

use super::Overrides;
use super::document::{Document, Entry, Fault, Value};

/// Takes settings out of the file and its overrides, and notes every fault.
pub(super) struct Reader<'a> {
    file: &'a str,
    document: Document,
    overrides: &'a Overrides,
    known: BTreeSet<&'static str>,
    /// Where each setting was given, and what it was.
    taken: BTreeMap<&'static str, Entry>,
    /// Settings that nobody gave.
    pub(super) defaults: BTreeSet<&'static str>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &str, overrides: &'a Overrides) -> Self {
        let mut faults = Vec::new();
        let document = Document::parse(file, text, &mut faults);
        Self {
            file,
            document,
            overrides,
            known: BTreeSet::new(),
            taken: BTreeMap::new(),
            defaults: BTreeSet::new(),
            faults,
        }
    }

    /// One setting. A file's value is checked even where it is overridden; `None` means that a fault has been noted.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        default: &str,
        check: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.known.insert(key);
        let in_file = self.document.keys.remove(key).map(|entry| self.accept(key, entry, &check));
        let overriding = self.overrides.get(key).map(str::to_owned).map(|text| {
            let name = key.replace('.', "_");
            let place = format!("--{} or DRIFTGLASS_{}", name.replace('_', "-"), name.to_uppercase());
            self.accept(key, Entry { place, value: Value::untyped(text) }, &check)
        });
        if let Some(value) = overriding.or(in_file) {
            return value;
        }
        self.defaults.insert(key);
        let value = Value::untyped(default.to_owned());
        self.accept(key, Entry { place: format!("{} (default)", self.file), value }, &check)
    }

    fn accept<T>(&mut self, key: &'static str, entry: Entry, check: impl Fn(&Value) -> Result<T, String>) -> Option<T> {
        let checked = check(&entry.value);
        self.taken.insert(key, entry);
        match checked {
            Ok(value) => Some(value),
            Err(allowed) => {
                self.fault_at(key, &allowed);
                None
            }
        }
    }

    /// A fault of a setting that has been taken.
    pub(super) fn fault_at(&mut self, key: &'static str, allowed: &str) {
        let (place, value) = match self.taken.get(key) {
            Some(Entry { place, value }) => (place.clone(), value.to_string()),
            None => (self.file.to_owned(), String::new()),
        };
        self.fault(place, key, value, allowed.to_owned());
    }

    pub(super) fn fault(&mut self, place: String, key: &str, value: String, allowed: String) {
        self.faults.push(Fault { place, key: key.to_owned(), value, allowed });
    }

    /// A section that exists in the documentation, and not yet in this release.
    pub(super) fn refuse(&mut self, section: &str, why: &str) {
        let place = match (self.document.tables.remove(section), self.document.keys.remove(section)) {
            (Some(place), _) | (None, Some(Entry { place, .. })) => place,
            (None, None) => return,
        };
        let prefix = format!("{section}.");
        self.document.keys.retain(|key, _| !key.starts_with(&prefix));
        self.document.tables.retain(|key, _| !key.starts_with(&prefix));
        self.fault(place, section, String::new(), why.to_owned());
    }

    /// Takes out the tables within a section, with their keys: name, where it stands, keys.
    pub(super) fn tables_of(&mut self, section: &str) -> Vec<(String, String, BTreeMap<String, Entry>)> {
        let prefix = format!("{section}.");
        let (tables, others) =
            std::mem::take(&mut self.document.tables).into_iter().partition(|(name, _)| name.starts_with(&prefix));
        self.document.tables = others;
        if self.document.tables.contains_key(section) && !self.document.keys.keys().any(|key| is_in(section, key)) {
            self.document.tables.remove(section);
        }
        let of = |table: (String, String)| {
            let keys: Vec<String> = self.document.keys.keys().filter(|key| is_in(&table.0, key)).cloned().collect();
            let taken = keys.into_iter().filter_map(|key| {
                let entry = self.document.keys.remove(&key)?;
                Some((key[table.0.len() + 1..].to_owned(), entry))
            });
            let keys = taken.collect();
            (table.0[prefix.len()..].trim_matches('"').to_owned(), table.1, keys)
        };
        let tables: BTreeMap<String, String> = tables;
        tables.into_iter().map(of).collect()
    }

    pub(super) fn finish(mut self) -> Vec<Fault> {
        let sections: BTreeSet<&str> =
            self.known.iter().filter_map(|key| key.split_once('.')).map(|(s, _)| s).collect();
        let document = std::mem::take(&mut self.document);
        for (key, place) in document.tables {
            let inner = format!("{key}.");
            let explained = document.keys.keys().any(|other| other.starts_with(&inner));
            if !sections.contains(key.as_str()) && !explained {
                self.fault(place, &key, String::new(), format!("unknown section; known are {}", list(&sections)));
            }
        }
        for (key, entry) in document.keys {
            let section = key.rsplit_once('.').map_or("", |(section, _)| section);
            let siblings: BTreeSet<&str> = self
                .known
                .iter()
                .map(|known| known.split_once('.').unwrap_or(("", known)))
                .filter(|(other, _)| *other == section)
                .map(|(_, name)| name)
                .collect();
            let allowed = if siblings.is_empty() {
                format!("unknown section; known are {}", list(&sections))
            } else if section.is_empty() {
                format!("unknown key; known here are {} and the sections {}", list(&siblings), list(&sections))
            } else {
                format!("unknown key; known in this section are {}", list(&siblings))
            };
            self.fault(entry.place, &key, entry.value.to_string(), allowed);
        }
        let line = |fault: &Fault| fault.place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok());
        self.faults.sort_by_key(|fault| line(fault).unwrap_or(usize::MAX));
        self.faults
    }
}

/// Whether a key stands in a table itself, and not in one within it.
fn is_in(table: &str, key: &str) -> bool {
    key.rsplit_once('.').is_some_and(|(section, _)| section == table)
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
