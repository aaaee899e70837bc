//! What to do at an address, given what stands there.
//!
//! Forty bits collide, by chance and on purpose, so an address is never overwritten by other content.
//! Whose content stands there is written in its metadata.

use shared::object_ref::ETag;
use shared::store::ObjectMeta;

/// The metadata name of the upload's MD5, in lower-case hexadecimal.
pub const SOURCE_MD5: &str = "source-md5";
/// The metadata name of the recipe.
pub const RECIPE: &str = "recipe";

/// What stands at an address, as seen from one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Nothing: write, if it is still so.
    Vacant,
    /// This upload by this recipe: nothing to do.
    Unchanged,
    /// This upload by another recipe: replace exactly that object.
    Stale(ETag),
    /// Other content: go to the next code.
    Taken,
}

impl Slot {
    /// Judges what stands at an address (`None`: nothing).
    pub fn judge(standing: Option<&ObjectMeta>, source: [u8; 16], recipe: &str) -> Self {
        let Some(meta) = standing else { return Self::Vacant };
        // An object without our metadata was put there by somebody else, and is not ours to replace.
        let theirs = meta.metadata.get(SOURCE_MD5).map(String::as_str);
        if theirs != Some(hex::encode(source).as_str()) {
            Self::Taken
        } else if meta.metadata.get(RECIPE).map(String::as_str) == Some(recipe) {
            Self::Unchanged
        } else {
            Self::Stale(meta.e_tag.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 16] = [7; 16];

    fn standing(source: &str, recipe: &str) -> ObjectMeta {
        ObjectMeta {
            size: 1,
            e_tag: ETag::parse("aa").unwrap(),
            last_modified: jiff::Timestamp::UNIX_EPOCH,
            version_id: None,
            content_type: None,
            cache_control: None,
            metadata: [(SOURCE_MD5, source), (RECIPE, recipe)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            tag_count: None,
            locked_until: None,
        }
    }

    #[test]
    fn only_the_same_upload_by_another_recipe_is_replaced() {
        let ours = hex::encode(OURS);
        assert_eq!(Slot::judge(None, OURS, "r"), Slot::Vacant);
        assert_eq!(Slot::judge(Some(&standing(&ours, "r")), OURS, "r"), Slot::Unchanged);
        assert_eq!(
            Slot::judge(Some(&standing(&ours, "old")), OURS, "r"),
            Slot::Stale(ETag::parse("aa").unwrap())
        );
        assert_eq!(Slot::judge(Some(&standing(&hex::encode([8; 16]), "r")), OURS, "r"), Slot::Taken);
    }

    #[test]
    fn an_object_without_our_metadata_is_not_ours() {
        let mut foreign = standing("", "");
        foreign.metadata.clear();
        assert_eq!(Slot::judge(Some(&foreign), OURS, "r"), Slot::Taken);
    }
}
