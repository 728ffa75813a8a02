//! What we are built from: known licences, nothing banned, nothing with a known hole.
//!
//! This repeats part of what `cargo deny` checks, so that it is checked wherever the tests run.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

fn table(file: &str) -> toml::Table {
    let path = repository().join(file);
    fs::read_to_string(&path).expect("read").parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An SPDX licence expression, read word by word: OR binds weaker than AND, and a slash is the old way to write OR.
struct Expression<'a> {
    words: Vec<String>,
    place: usize,
    allowed: &'a BTreeSet<&'a str>,
}

impl Expression<'_> {
    fn satisfied(text: &str, allowed: &BTreeSet<&str>) -> bool {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+WITH+");
        let words = spaced.split_whitespace().map(|word| word.replace("+WITH+", " WITH ")).collect();
        let mut expression = Expression { words, place: 0, allowed };
        let satisfied = expression.any();
        satisfied && expression.place == expression.words.len()
    }

    fn next_is(&mut self, word: &str) -> bool {
        let found = self.words.get(self.place).is_some_and(|next| next == word);
        self.place += usize::from(found);
        found
    }

    fn any(&mut self) -> bool {
        let mut satisfied = self.all();
        while self.next_is("OR") {
            satisfied |= self.all();
        }
        satisfied
    }

    fn all(&mut self) -> bool {
        let mut satisfied = self.one();
        while self.next_is("AND") {
            satisfied &= self.one();
        }
        satisfied
    }

    fn one(&mut self) -> bool {
        if self.next_is("(") {
            let satisfied = self.any();
            return self.next_is(")") && satisfied;
        }
        let known = self.words.get(self.place).is_some_and(|word| self.allowed.contains(word.as_str()));
        self.place += 1;
        known
    }
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]);
    let good = [
        "MIT",
        "GPL-3.0-only OR MIT",
        "GPL-3.0-only/MIT",
        "(GPL-3.0-only OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
        "ISC OR GPL-3.0-only AND GPL-2.0-only",
    ];
    for text in good {
        assert!(Expression::satisfied(text, &allowed), "{text}");
    }
    let bad =
        ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "GPL-3.0-only AND (MIT OR ISC)", "MIT ISC", "(MIT", "MIT OR"];
    for text in bad {
        assert!(!Expression::satisfied(text, &allowed), "{text}");
    }
}

#[test]
fn licences_in_the_lock_are_known() {
    let deny = table("deny.toml");
    let allowed: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().expect("a list").iter().filter_map(toml::Value::as_str).collect();
    let banned: BTreeSet<&str> =
        deny["bans"]["deny"].as_array().expect("a list").iter().filter_map(|ban| ban["name"].as_str()).collect();
    assert!(!allowed.is_empty() && !banned.is_empty());
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "{} packages", packages.len());
    let mut faults = Vec::new();
    for package in packages {
        let (name, version) = (package["name"].as_str().expect("a name"), &package["version"]);
        match package["license"].as_str() {
            Some(licence) if Expression::satisfied(licence, &allowed) => {}
            licence => faults.push(format!("{name} {version}: licence {licence:?}")),
        }
        if banned.contains(name) {
            faults.push(format!("{name} {version} is banned"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // The lock also names what no feature of ours pulls in; it must not be there either.
    for (name, version) in locked() {
        assert!(!banned.contains(name.as_str()), "{name} {version} is banned");
    }
}

/// Name and version of every package in the lock.
fn locked() -> Vec<(String, String)> {
    let lock = table("Cargo.lock");
    let text = |package: &toml::Value, key: &str| package[key].as_str().expect("a text").to_owned();
    let packages = lock["package"].as_array().expect("packages");
    packages.iter().map(|package| (text(package, "name"), text(package, "version"))).collect()
}

/// A version, ordered as by SemVer 2.0.0 §11.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    /// How many of the numbers were written.
    written: usize,
    pre: Option<String>,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().split('+').next()?;
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre.to_owned())),
            None => (text, None),
        };
        let (mut numbers, mut written) = ([0; 3], 0);
        for part in core.split('.') {
            *numbers.get_mut(written)? = part.parse().ok()?;
            written += 1;
        }
        Some(Self { numbers, written, pre })
    }

    fn order(&self, other: &Self) -> Ordering {
        let pre = match (&self.pre, &other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => {
                let key = |text: &str| -> Vec<(bool, u64, String)> {
                    text.split('.')
                        .map(|part| match part.parse() {
                            Ok(number) => (false, number, String::new()),
                            Err(_) => (true, 0, part.to_owned()),
                        })
                        .collect()
                };
                key(a).cmp(&key(b))
            }
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }

    /// The first version that a caret in front of this one excludes.
    fn caret_end(&self) -> Self {
        let first = self.numbers.iter().position(|&number| number > 0).unwrap_or(2).min(self.written.saturating_sub(1));
        self.bumped(first)
    }

    fn bumped(&self, place: usize) -> Self {
        let mut numbers = [0; 3];
        numbers[..=place].copy_from_slice(&self.numbers[..=place]);
        numbers[place] += 1;
        Self { numbers, written: 3, pre: None }
    }
}

/// Whether a version meets all comparisons of a requirement such as `>= 1.2.0, < 1.3`; `None` where that cannot be read.
fn meets(version: &Version, requirement: &str) -> Option<bool> {
    let mut met = true;
    for comparison in requirement.split(',').map(str::trim) {
        let end = comparison.find(|character: char| character.is_ascii_digit())?;
        let (operator, bound) = comparison.split_at(end);
        let bound = Version::parse(bound)?;
        let against = |other: &Version| version.order(other);
        let after = || bound.bumped(bound.written.saturating_sub(1).min(2));
        met &= match operator.trim() {
            ">=" => against(&bound).is_ge(),
            "<" => against(&bound).is_lt(),
            ">" if bound.written < 3 => against(&after()).is_ge(),
            ">" => against(&bound).is_gt(),
            "<=" if bound.written < 3 => against(&after()).is_lt(),
            "<=" => against(&bound).is_le(),
            "=" if bound.written < 3 => against(&bound).is_ge() && against(&after()).is_lt(),
            "=" => against(&bound).is_eq(),
            "^" | "" => against(&bound).is_ge() && against(&bound.caret_end()).is_lt(),
            _ => return None,
        };
    }
    Some(met)
}

#[test]
fn version_requirements_are_read_as_they_are_meant() {
    let cases = [
        ("1.2.3", ">= 1.2.3", true),
        ("1.2.2", ">= 1.2.3", false),
        ("1.10.0", ">= 1.9", true),
        ("0.5.3", ">= 0.5.0, < 0.5.4", true),
        ("0.5.4", ">= 0.5.0, < 0.5.4", false),
        ("1.9.0", "^1.2.3", true),
        ("2.0.0", "^1.2.3", false),
        ("0.2.9", "0.2.3", true),
        ("0.3.0", "^0.2.3", false),
        ("0.0.4", "^0.0.3", false),
        ("1.0.0-rc.2", ">= 1.0.0-rc.10", false),
        ("1.0.0-rc.2", "< 1.0.0", true),
        ("1.2.9", "> 1.2", false),
        ("1.2.3+spec-1", "=1.2.3", true),
    ];
    for (version, requirement, expected) in cases {
        let met = meets(&Version::parse(version).expect("a version"), requirement);
        assert_eq!(met, Some(expected), "{version} {requirement}");
    }
    let version = Version::parse("1.2.3").expect("a version");
    assert_eq!(meets(&version, "~> 1.2"), None);
    assert_eq!(meets(&version, ""), None);
}

/// Advisories that a package falls under and that have not been withdrawn.
fn hits(advisories: &[Value], packages: &[(String, String)]) -> Vec<String> {
    let mut hits = Vec::new();
    for advisory in advisories.iter().filter(|advisory| advisory["withdrawn"].is_null()) {
        for (name, version) in packages.iter().filter(|(name, _)| advisory["package"] == name.as_str()) {
            let parsed = Version::parse(version).expect("a version");
            let safe = ["patched", "unaffected"].iter().any(|key| {
                let ranges = advisory[key].as_array().expect("a list of ranges");
                // A range that cannot be read proves nothing.
                ranges.iter().any(|range| meets(&parsed, range.as_str().expect("a range")) == Some(true))
            });
            if !safe {
                hits.push(format!("{name} {version}: {} {}", advisory["id"], advisory["title"]));
            }
        }
    }
    hits
}

#[test]
fn an_advisory_hits_what_is_neither_patched_nor_unaffected() {
    let advisory = |withdrawn: Value| {
        serde_json::json!({
            "id": "RUSTSEC-0000-0000", "package": "leaky", "title": "leaks", "withdrawn": withdrawn,
            "patched": [">= 1.2.3", "^1.1.7"], "unaffected": ["< 0.9.0"]
        })
    };
    let packages = |version: &str| vec![("leaky".to_owned(), version.to_owned()), ("tight".into(), "1.0.0".into())];
    for (version, count) in [("1.2.2", 0), ("1.1.6", 1), ("1.0.0", 1), ("1.2.3", 0), ("0.8.9", 0), ("0.9.0", 1)] {
        assert_eq!(hits(&[advisory(Value::Null)], &packages(version)).len(), count, "{version}");
    }
    assert!(hits(&[advisory("2026-01-01".into())], &packages("1.0.0")).is_empty());
}

#[test]
fn advisories() {
    let path = repository().join("../shared/advisories.json");
    let Ok(text) = fs::read_to_string(&path) else {
        println!("NOTHING WAS MATCHED: there is no list of advisories at {}", path.display());
        return;
    };
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let list = list["advisories"].as_array().expect("advisories");
    assert!(list.len() > 500, "only {} advisories: the list is not whole", list.len());
    let packages = locked();
    let hits = hits(list, &packages);
    println!("{} packages matched against {} advisories of {}", packages.len(), list.len(), path.display());
    assert!(hits.is_empty(), "{}", hits.join("\n"));
}
