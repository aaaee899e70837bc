//! From an upload's key to where its avatar stands, or why it has no address.

use shared::outcome::Reason;
use shared::short_code::ShortCode;

/// The kinds of avatar that are configured, each the first folder of a key: `u` user, `z` community, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(Vec<String>);

impl Kinds {
    /// Parses `u,z,p,c`: one to three lower-case letters each, no kind twice. `None` if it is anything
    /// else; an empty list is none either, as flat keys alone need no list.
    pub fn parse(list: &str) -> Option<Self> {
        let kinds: Vec<String> = list.split(',').map(|kind| kind.trim().to_owned()).collect();
        let fits =
            |kind: &String| (1..=3).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase());
        let unique = kinds.iter().enumerate().all(|(i, kind)| !kinds[..i].contains(kind));
        (kinds.iter().all(fits) && unique).then_some(Self(kinds))
    }

    fn contains(&self, kind: &str) -> bool {
        self.0.iter().any(|known| known == kind)
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self(["u", "z", "p", "c"].map(str::to_owned).to_vec())
    }
}

/// The folder in which an upload's avatar stands: a kind, or none for a flat key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(Option<String>);

impl Folder {
    /// The folder for an upload under `key`: `{kind}/{name}`, or a flat `{name}`.
    ///
    /// # Errors
    /// `bad-key` for an empty name, `path-too-deep` below a kind, `unknown-kind` for any other folder.
    pub fn of_upload(key: &str, kinds: &Kinds) -> Result<Self, Reason> {
        let Some((kind, name)) = key.split_once('/') else {
            return if key.is_empty() { Err(no_name(key)) } else { Ok(Self(None)) };
        };
        if !kinds.contains(kind) {
            return Err(Reason::new(
                "unknown-kind",
                format!(
                    "The key starts with the folder {:?}; known kinds are {}.",
                    abridged(kind),
                    kinds.0.join(", ")
                ),
            ));
        }
        if name.is_empty() {
            return Err(no_name(key));
        }
        if name.contains('/') {
            return Err(Reason::new(
                "path-too-deep",
                format!("The key {:?} has more than one folder; upload to {kind}/<name>.", abridged(key)),
            ));
        }
        Ok(Self(Some(kind.to_owned())))
    }

    /// The kind; `None` for a flat key.
    pub fn kind(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The key of the main rendition.
    pub fn main_key(&self, code: ShortCode) -> String {
        self.prefixed(format!("{code}.webp"))
    }

    /// The key of an extra rendition of `edge` pixels.
    pub fn extra_key(&self, code: ShortCode, edge: u32) -> String {
        self.prefixed(format!("{code}@{edge}.webp"))
    }

    fn prefixed(&self, name: String) -> String {
        match &self.0 {
            Some(kind) => format!("{kind}/{name}"),
            None => name,
        }
    }
}

fn no_name(key: &str) -> Reason {
    Reason::new("bad-key", format!("The key {:?} names no file; upload to <kind>/<name>.", abridged(key)))
}

/// At most the first 80 characters: a message is for reading, and a key can have 1,024 bytes.
fn abridged(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code() -> ShortCode {
        "bn0m0anw".parse().unwrap()
    }

    fn refused(key: &str) -> &'static str {
        Folder::of_upload(key, &Kinds::default()).unwrap_err().code
    }

    #[test]
    fn an_upload_under_a_kind_has_its_avatar_under_the_same_kind() {
        let folder = Folder::of_upload("u/me.png", &Kinds::default()).unwrap();
        assert_eq!(folder.main_key(code()), "u/bn0m0anw.webp");
        assert_eq!(folder.extra_key(code(), 64), "u/bn0m0anw@64.webp");
        assert_eq!(folder.kind(), Some("u"));
    }

    #[test]
    fn a_flat_upload_has_a_flat_avatar() {
        let folder = Folder::of_upload("me at the sea.png", &Kinds::default()).unwrap();
        assert_eq!(folder.main_key(code()), "bn0m0anw.webp");
        assert_eq!(folder.kind(), None);
    }

    #[test]
    fn deeper_paths_and_unknown_kinds_are_rejected_by_name() {
        assert_eq!(refused("u/2024/me.png"), "path-too-deep");
        assert_eq!(refused("u//me.png"), "path-too-deep");
        assert_eq!(refused("x/me.png"), "unknown-kind");
        assert_eq!(refused("U/me.png"), "unknown-kind");
        assert_eq!(refused("/me.png"), "unknown-kind");
        assert_eq!(refused("../u/me.png"), "unknown-kind");
        assert_eq!(refused("u/"), "bad-key");
        assert_eq!(refused(""), "bad-key");
    }

    #[test]
    fn kinds_are_one_to_three_letters_each_and_unique() {
        assert!(Kinds::parse("u, team").is_none());
        assert!(Kinds::parse("u,u").is_none());
        assert!(Kinds::parse("").is_none());
        assert!(Kinds::parse("U").is_none());
        assert_eq!(Kinds::parse("u, z"), Some(Kinds(vec!["u".into(), "z".into()])));
    }

    proptest! {
        #[test]
        fn an_address_never_leaves_its_kind(key in "\\PC{0,40}") {
            if let Ok(folder) = Folder::of_upload(&key, &Kinds::default()) {
                let main = folder.main_key(code());
                prop_assert!(main.matches('/').count() <= 1);
                prop_assert!(main.ends_with("bn0m0anw.webp"));
            }
        }
    }
}
