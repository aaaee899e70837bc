//! The catalogs of the files bucket, and what is accepted in each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use shared::short_code::ShortCode;
use shared::ticket::matches_type;

/// The largest size that can be configured, in bytes: the largest object of S3.
pub const MAX_SIZE: u64 = 5 << 40;

/// The most pixels that can be configured.
pub const MAX_PIXELS: u64 = 1 << 32;

/// What is accepted in a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, at least.
    pub min_size: u64,
    /// Bytes, at most.
    pub max_size: u64,
    /// Pixels of a picture, at most.
    pub max_pixels: u64,
    /// Frames of an animation, at most, as far as its first bytes show them.
    pub max_frames: u32,
    /// Media types, `image/png` or `image/*`; none means any.
    pub content_types: Vec<String>,
    /// Whether an upload needs a ticket.
    pub ticket_required: bool,
    /// For how long an upload is kept; the sweeper ends it then.
    pub retention: Option<Duration>,
}

impl Limits {
    /// Whether content of the media type `found` is accepted; `None` is content that nobody knows.
    pub fn accepts(&self, found: Option<&str>) -> bool {
        self.content_types.is_empty()
            || self.content_types.iter().any(|accepted| match found {
                Some(found) => matches_type(accepted, found),
                None => accepted == "*/*",
            })
    }
}

/// All catalogs: those that are named, and the short codes that are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogs {
    named: BTreeMap<String, Limits>,
    /// The limits of a short code without an entry of its own; `None`: there is no such catalog.
    others: Option<Limits>,
    /// What holds where no catalog is known.
    defaults: Limits,
}

impl Catalogs {
    /// Any short code, with these limits.
    pub fn any(defaults: Limits) -> Self {
        Self { named: BTreeMap::new(), others: Some(defaults.clone()), defaults }
    }

    /// Reads the document of `CATALOGS`; what a catalog leaves out is as in `defaults`.
    ///
    /// # Errors
    /// Every mistake, with its path.
    pub fn parse(json: &str, defaults: Limits) -> Result<Self, Vec<String>> {
        let document: Value = serde_json::from_str(json).map_err(|error| {
            vec![format!("a JSON document (line {}, column {}: {error})", error.line(), error.column())]
        })?;
        let mut reader = Reader { defaults: &defaults, mistakes: Vec::new() };
        let (named, others) = reader.document(&document);
        let mistakes = reader.mistakes;
        if mistakes.is_empty() { Ok(Self { named, others, defaults }) } else { Err(mistakes) }
    }

    /// The catalog that the first segment of a key names, and its limits: exactly a configured name, or a short code
    /// in the one spelling that it is printed in. People may confuse letters, keys do not: another spelling is
    /// another key, and must not be a way around a catalog's limits.
    pub fn find(&self, segment: &str) -> Option<(String, &Limits)> {
        if let Some((name, limits)) = self.named.get_key_value(segment) {
            return Some((name.clone(), limits));
        }
        let code = segment.parse::<ShortCode>().ok()?.to_string();
        self.others.as_ref().filter(|_| code == segment).map(|limits| (code, limits))
    }

    /// What holds for a key whose catalog is not known.
    pub fn defaults(&self) -> &Limits {
        &self.defaults
    }

    /// Whether any catalog needs tickets.
    pub fn need_tickets(&self) -> bool {
        self.named.values().chain(&self.others).any(|limits| limits.ticket_required)
    }

    /// The largest size that any catalog accepts, in bytes.
    pub fn largest_size(&self) -> u64 {
        self.named.values().chain(&self.others).map(|limits| limits.max_size).max().unwrap_or(0)
    }
}

/// Reads the document and notes mistakes on its way.
struct Reader<'a> {
    defaults: &'a Limits,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn expect(&mut self, path: &str, expected: &str) {
        let place = if path.is_empty() { "the document" } else { path };
        self.mistakes.push(format!("{place}: {expected}"));
    }

    fn object<'v>(&mut self, path: &str, value: &'v Value, names: &[&str]) -> Option<&'v Map<String, Value>> {
        let Some(fields) = value.as_object() else {
            self.expect(path, "an object");
            return None;
        };
        for name in fields.keys().filter(|name| !names.is_empty() && !names.contains(&name.as_str())) {
            self.expect(&joined(path, name), &format!("no such field; there are {}", names.join(", ")));
        }
        Some(fields)
    }

    fn document(&mut self, value: &Value) -> (BTreeMap<String, Limits>, Option<Limits>) {
        let mut named = BTreeMap::new();
        let mut others = Some(self.defaults.clone());
        let Some(fields) = self.object("", value, &["version", "catalogs", "other_short_codes"]) else {
            return (named, others);
        };
        if fields.get("version") != Some(&Value::from(1)) {
            self.expect("version", "1");
        }
        if let Some(catalogs) = fields.get("catalogs") {
            for (name, limits) in self.object("catalogs", catalogs, &[]).into_iter().flatten() {
                let path = joined("catalogs", name);
                if !is_name(name) {
                    self.expect(
                        &path,
                        "a name of 1 to 63 letters a to z, digits, dots, hyphens and underscores",
                    );
                }
                let limits = self.limits(&path, limits);
                named.insert(name.clone(), limits);
            }
        }
        match fields.get("other_short_codes") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => others = None,
            Some(limits) => others = Some(self.limits("other_short_codes", limits)),
        }
        if others.is_none() && named.is_empty() {
            self.expect("other_short_codes", "anything but false where no catalog is named");
        }
        (named, others)
    }

    fn limits(&mut self, path: &str, value: &Value) -> Limits {
        const NAMES: [&str; 6] =
            ["min_size", "max_size", "max_pixels", "content_types", "ticket_required", "retention"];
        let mut limits = self.defaults.clone();
        let Some(fields) = self.object(path, value, &NAMES) else { return limits };
        for (name, value) in fields {
            let path = joined(path, name);
            match name.as_str() {
                "min_size" => {
                    limits.min_size = self.number(&path, value, MAX_SIZE, "a number of bytes, at least 1");
                }
                "max_size" => {
                    limits.max_size = self.number(&path, value, MAX_SIZE, "a number of bytes, at least 1");
                }
                "max_pixels" => {
                    limits.max_pixels =
                        self.number(&path, value, MAX_PIXELS, "a number of pixels, at least 1");
                }
                "content_types" => limits.content_types = self.content_types(&path, value),
                "ticket_required" => match value {
                    Value::Bool(required) => limits.ticket_required = *required,
                    _ => self.expect(&path, "true or false"),
                },
                "retention" => {
                    limits.retention = value.as_str().and_then(duration);
                    if limits.retention.is_none() {
                        self.expect(&path, "a time such as 90m, 24h, 30d or 2w");
                    }
                }
                _ => {}
            }
        }
        // The limit of the whole function is a promise to whoever pays for it.
        if limits.max_size > self.defaults.max_size {
            let most = self.defaults.max_size;
            self.expect(&joined(path, "max_size"), &format!("at most MAX_UPLOAD_BYTES, which is {most}"));
        }
        if limits.max_pixels > self.defaults.max_pixels {
            let most = self.defaults.max_pixels;
            self.expect(&joined(path, "max_pixels"), &format!("at most MAX_PIXELS, which is {most}"));
        }
        if limits.min_size > limits.max_size {
            self.expect(
                &joined(path, "min_size"),
                &format!("at most max_size, which is {}", limits.max_size),
            );
        }
        limits
    }

    fn number(&mut self, path: &str, value: &Value, most: u64, expected: &str) -> u64 {
        let number = value.as_u64().filter(|number| (1..=most).contains(number));
        number.unwrap_or_else(|| {
            self.expect(path, expected);
            1
        })
    }

    fn content_types(&mut self, path: &str, value: &Value) -> Vec<String> {
        let Some(elements) = value.as_array().filter(|elements| !elements.is_empty()) else {
            self.expect(path, "a list of media types, at least one");
            return Vec::new();
        };
        let mut types = Vec::new();
        for (i, element) in elements.iter().enumerate() {
            match element.as_str().filter(|text| is_media_type(text)) {
                Some(text) => types.push(text.to_owned()),
                None => self.expect(&format!("{path}[{i}]"), "a media type such as image/png or image/*"),
            }
        }
        types
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(fits)
        && name.bytes().all(|b| fits(b) || b"._-".contains(&b))
}

/// `type/subtype`, `type/*` or `*/*`, in lower case, without parameters.
fn is_media_type(text: &str) -> bool {
    let fits = |part: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&^_.+-".contains(&b);
        !part.is_empty() && part.bytes().all(allowed)
    };
    text.split_once('/').is_some_and(|(family, subtype)| match (family, subtype) {
        ("*", "*") => true,
        (family, "*") => fits(family),
        (family, subtype) => fits(family) && fits(subtype),
    })
}

/// A time as people write it: a number and `m`, `h`, `d` or `w`.
fn duration(text: &str) -> Option<Duration> {
    let unit = match text.bytes().last()? {
        b'm' => 60,
        b'h' => 3600,
        b'd' => 24 * 3600,
        b'w' => 7 * 24 * 3600,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let plain = number.len() <= 5 && !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
    let count: u64 = number.parse().ok().filter(|_| plain)?;
    Some(Duration::from_secs(count * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Limits {
        Limits {
            min_size: 1,
            max_size: 10 << 20,
            max_pixels: 50_000_000,
            max_frames: 200,
            content_types: Vec::new(),
            ticket_required: true,
            retention: None,
        }
    }

    fn parse(json: &str) -> Catalogs {
        Catalogs::parse(json, defaults()).unwrap()
    }

    #[test]
    fn a_catalog_overrides_what_it_names_and_keeps_the_rest() {
        let catalogs = parse(
            r#"{"version": 1, "catalogs": {"tempcato": {"max_size": 1000, "content_types": ["image/*"],
                "ticket_required": false, "retention": "24h"}}}"#,
        );
        let (name, limits) = catalogs.find("tempcato").unwrap();
        assert_eq!(name, "tempcato");
        assert_eq!((limits.max_size, limits.min_size, limits.ticket_required), (1000, 1, false));
        assert_eq!(limits.retention, Some(Duration::from_secs(24 * 3600)));
        assert!(limits.accepts(Some("image/png")));
        assert!(!limits.accepts(Some("application/pdf")));
        assert!(!limits.accepts(None));
        assert_eq!(catalogs.find("bn0m0anw").unwrap().1, &defaults());
        assert!(catalogs.need_tickets());
    }

    #[test]
    fn no_spelling_of_a_catalog_escapes_its_limits() {
        let catalogs = parse(
            r#"{"version": 1, "catalogs": {"bn0m0anw": {"max_size": 7}, "tempcato": {"max_size": 8}}}"#,
        );
        for (name, size) in [("bn0m0anw", 7), ("tempcato", 8), ("00000000", 10 << 20)] {
            let (found, limits) = catalogs.find(name).unwrap();
            assert_eq!((found.as_str(), limits.max_size), (name, size));
        }
        for none in [
            "",
            "u",
            "bn0m0anwx",
            "bn0m0anu",
            "bn0m0an-",
            "ｂn0m0an",
            "BN0M0ANW",
            "bnomoanw",
            "TEMPCATO",
            "holidays",
        ] {
            assert_eq!(catalogs.find(none), None, "{none}");
        }
    }

    #[test]
    fn short_codes_without_an_entry_can_be_closed_or_limited() {
        let closed = parse(
            r#"{"version": 1, "catalogs": {"docs": {"ticket_required": false}}, "other_short_codes": false}"#,
        );
        assert_eq!(closed.find("bn0m0anw"), None);
        assert!(!closed.need_tickets());
        let limited = parse(r#"{"version": 1, "other_short_codes": {"max_size": 9}}"#);
        assert_eq!(limited.find("bn0m0anw").unwrap().1.max_size, 9);
        assert_eq!(limited.largest_size(), 9);
    }

    #[test]
    fn every_mistake_is_listed_by_its_path() {
        let mistakes = Catalogs::parse(
            r#"{"version": 2, "catalogues": {}, "other_short_codes": 7, "catalogs": {
                "Docs": {},
                "a": {"max_size": 0, "min_size": "1", "max_pixels": -1, "content_types": [], "extra": 1},
                "b": {"max_size": 99999999999, "content_types": ["image/png", "PNG"], "ticket_required": "yes"},
                "c": {"retention": "1 day", "min_size": 20, "max_size": 10}, "d": []}}"#,
            defaults(),
        )
        .unwrap_err()
        .join("\n");
        for path in [
            "version: ",
            "catalogues: ",
            "other_short_codes: ",
            "catalogs.Docs: ",
            "catalogs.a.max_size: ",
            "catalogs.a.min_size: ",
            "catalogs.a.max_pixels: ",
            "catalogs.a.content_types: ",
            "catalogs.a.extra: ",
            "catalogs.b.max_size: ",
            "catalogs.b.content_types[1]: ",
            "catalogs.b.ticket_required: ",
            "catalogs.c.retention: ",
            "catalogs.c.min_size: ",
            "catalogs.d: ",
        ] {
            assert!(mistakes.lines().any(|line| line.starts_with(path)), "{path} is missing in\n{mistakes}");
        }
        assert!(Catalogs::parse("{", defaults()).unwrap_err()[0].contains("line 1"));
        assert!(Catalogs::parse("[]", defaults()).is_err());
    }
}
