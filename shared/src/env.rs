//! Configuration from environment variables: read once, and every mistake reported together.
//!
//! An error names the variable, its value and what is expected, because the person who reads it sits
//! before a template and not before this code. Values of variables that hold secrets are never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::credentials::KeySlot;

/// The variables of a process, or of a test.
pub struct Environment {
    variables: BTreeMap<String, String>,
    asked: Mutex<BTreeSet<String>>,
    mistakes: Vec<Mistake>,
    keys: Option<KeySlot>,
}

/// One variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value, if it has one that may be shown.
    pub value: Option<String>,
    /// What is expected instead.
    pub expected: String,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Mistake>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s)", self.0.len())?;
        for mistake in &self.0 {
            match &mistake.value {
                Some(value) => write!(f, "; {}={value:?}: expected {}", mistake.variable, mistake.expected)?,
                None => write!(f, "; {} is not set: expected {}", mistake.variable, mistake.expected)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Environment {
    /// The variables of this process. Those that are no UTF-8 are as if not set.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self::from_iter(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// The same, on a platform that hands keys to a running process.
    #[must_use]
    pub fn with_keys(self, keys: KeySlot) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// Where the platform puts the keys of the moment, if it does so.
    pub fn keys(&self) -> Option<&KeySlot> {
        self.keys.as_ref()
    }

    /// The value of `variable`; an empty one counts as not set, as templates cannot leave one out.
    pub fn get(&self, variable: &str) -> Option<&str> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(variable.to_owned());
        self.variables.get(variable).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables that were asked for so far, set or not: what a template has to set.
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether no mistake was noted so far.
    pub fn is_sound(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Notes a mistake found in a value that was read by [`Environment::get`]. The value is shown;
    /// pass `secret` as true where it must not be.
    pub fn mistake(&mut self, variable: &'static str, secret: bool, expected: impl Into<String>) {
        let value = self.get(variable).map(|v| if secret { "(hidden)".to_owned() } else { v.to_owned() });
        self.mistakes.push(Mistake { variable, value, expected: expected.into() });
    }

    /// A value that must be there. `parse` answers what is expected where the value does not fit.
    pub fn required<T: Default>(
        &mut self,
        variable: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let parsed = self.get(variable).and_then(parse);
        parsed.unwrap_or_else(|| {
            self.mistake(variable, false, expected);
            T::default()
        })
    }

    /// A value with a default.
    pub fn or<T>(
        &mut self,
        variable: &'static str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        self.optional(variable, expected, parse).unwrap_or(default)
    }

    /// A value that may be missing.
    pub fn optional<T>(
        &mut self,
        variable: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(variable)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.mistake(variable, false, expected);
        }
        parsed
    }

    /// `config`, if no mistake was noted since the start.
    ///
    /// # Errors
    /// Every mistake that was noted.
    pub fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.mistakes.is_empty() { Ok(config) } else { Err(ConfigError(self.mistakes)) }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self {
            variables: variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            asked: Mutex::default(),
            mistakes: Vec::new(),
            keys: None,
        }
    }
}

/// `true` or `false`, as every template writes them.
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A number within `range`.
pub fn number<T: FromStr + PartialOrd>(value: &str, range: std::ops::RangeInclusive<T>) -> Option<T> {
    value.parse().ok().filter(|n| range.contains(n))
}

/// A bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens (S3 User Guide, naming rules).
pub fn bucket_name(value: &str) -> Option<String> {
    let bytes = value.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let fits = (3..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b));
    fits.then(|| value.to_owned())
}

/// What [`bucket_name`] accepts, for messages.
pub const BUCKET_NAME: &str = "a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_reported_together_with_variable_value_and_expectation() {
        let mut env = Environment::from_iter([("EDGE", "huge"), ("KEEP", "yes"), ("EMPTY", "")]);
        let _: u32 = env.or("EDGE", 512, "a number from 16 to 4096", |v| number(v, 16..=4096));
        let _ = env.or("KEEP", false, "true or false", boolean);
        let _: String = env.required("BUCKET", BUCKET_NAME, bucket_name);
        assert_eq!(env.get("EMPTY"), None);
        let error = env.finish(()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the configuration has 3 mistake(s); EDGE=\"huge\": expected a number from 16 to 4096; \
             KEEP=\"yes\": expected true or false; BUCKET is not set: expected a bucket name: 3 to 63 \
             lower-case letters, digits, dots and hyphens"
        );
    }

    #[test]
    fn what_was_asked_for_is_known_whether_it_was_set_or_not() {
        let env = Environment::from_iter([("SET", "1"), ("NOT_ASKED_FOR", "1")]);
        let _ = (env.get("SET"), env.get("MISSING"));
        assert_eq!(env.asked().into_iter().collect::<Vec<_>>(), ["MISSING", "SET"]);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let mut env = Environment::from_iter([("TICKET_KEYS", "hunter2")]);
        env.mistake("TICKET_KEYS", true, "a JWKS");
        let shown = env.finish(()).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
