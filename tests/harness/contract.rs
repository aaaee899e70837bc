//! The suite that every store adapter passes.
//!
//! A property is an async function over a [`Ground`]; it answers what it saw instead of panicking, so
//! that the same suite is a set of named tests ([`store_contract!`](crate::store_contract)) and a report
//! about a store that somebody wants to use ([`run_all`]).

use std::fmt;
use std::panic::Location;

use bytes::Bytes;
use md5::{Digest, Md5};
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{
    GetOptions, ListOptions, ListPage, ObjectStore, PutOptions, PutResult, StoreError, StoreErrorKind,
    StoreResult,
};

mod copy;
mod delete;
mod endpoint;
mod keys;
mod list;
mod multipart;
mod read;
mod versions;
mod write;

pub use endpoint::{Endpoint, subject_at};

/// A body as large as the suite ever reads at once.
const READ_LIMIT: u64 = 16 << 20;

/// A store and the two buckets that it is tried in. What the suite writes stays there.
#[derive(Debug, Clone)]
pub struct Subject<S> {
    /// The store.
    pub store: S,
    /// A bucket without versioning.
    pub plain: String,
    /// A bucket with versioning.
    pub versioned: String,
    /// What all keys of this run start with, so that runs do not meet in the same buckets.
    pub run: String,
}

/// Where one property is tried: its own prefix in the two buckets.
#[derive(Debug)]
pub struct Ground<'a, S> {
    store: &'a S,
    plain: &'a str,
    versioned: &'a str,
    prefix: String,
}

/// What a store does that it must not.
#[derive(Debug)]
pub struct Violation(String);

/// What a property answers.
pub type Verdict = Result<(), Violation>;

impl Violation {
    #[track_caller]
    fn new(what: impl fmt::Display) -> Self {
        let at = Location::caller();
        let file = at.file().rsplit('/').next().unwrap_or_default();
        Self(format!("{what} (contract/{file}:{})", at.line()))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Violation {
    #[track_caller]
    fn from(error: StoreError) -> Self {
        Self::new(format_args!("an unexpected error: {error}"))
    }
}

impl From<std::io::Error> for Violation {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Self::new(format_args!("a temporary file failed: {error}"))
    }
}

/// Ends a property where a condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::contract::Violation::new(format_args!($($what)+)));
        }
    };
}

/// Ends a property where two values differ.
macro_rules! ensure_eq {
    ($is:expr, $should:expr, $($what:tt)+) => {
        match (&$is, &$should) {
            (is, should) if is != should => {
                let what = format!($($what)+);
                let message = format_args!("{what}: is {is:?}, should be {should:?}");
                return Err($crate::contract::Violation::new(message));
            }
            _ => {}
        }
    };
}

use {ensure, ensure_eq};

/// Ends a property unless `result` is an error of one of `kinds`.
#[track_caller]
fn refused<T: fmt::Debug>(result: StoreResult<T>, kinds: &[StoreErrorKind], what: &str) -> Verdict {
    match result {
        Err(error) if kinds.contains(&error.kind) => Ok(()),
        Err(error) => {
            Err(Violation::new(format_args!("{what}: is {:?} ({error}), should be {kinds:?}", error.kind)))
        }
        Ok(value) => Err(Violation::new(format_args!("{what}: is {value:?}, should be {kinds:?}"))),
    }
}

fn md5(body: &[u8]) -> Option<ETag> {
    ETag::parse(&hex::encode(Md5::digest(body)))
}

impl<S> Subject<S> {
    /// Where `property` is tried.
    pub fn ground(&self, property: &str) -> Ground<'_, S> {
        let prefix = format!("{}{property}/", self.run);
        Ground { store: &self.store, plain: &self.plain, versioned: &self.versioned, prefix }
    }
}

impl<S: ObjectStore> Ground<'_, S> {
    fn object(&self, name: &str) -> ObjectRef {
        ObjectRef::new(self.plain, format!("{}{name}", self.prefix))
    }

    fn versioned_object(&self, name: &str) -> ObjectRef {
        ObjectRef::new(self.versioned, format!("{}{name}", self.prefix))
    }

    async fn put(&self, object: &ObjectRef, body: &[u8]) -> StoreResult<PutResult> {
        self.store.put(object, Bytes::copy_from_slice(body), PutOptions::default()).await
    }

    async fn read(&self, object: &ObjectRef) -> StoreResult<Bytes> {
        self.store.get(object, GetOptions::default()).await?.bytes(READ_LIMIT).await
    }

    /// Every page of a listing under this property's prefix, followed by `options.prefix`.
    async fn pages(&self, options: ListOptions) -> StoreResult<Vec<ListPage>> {
        let mut options = ListOptions { prefix: format!("{}{}", self.prefix, options.prefix), ..options };
        let mut pages = Vec::new();
        loop {
            let page = self.store.list(self.plain, options.clone()).await?;
            options.continuation.clone_from(&page.continuation);
            pages.push(page);
            if options.continuation.is_none() {
                return Ok(pages);
            }
        }
    }

    /// The names that a listing shows, without this property's prefix.
    async fn names(&self, options: ListOptions) -> StoreResult<Vec<String>> {
        let pages = self.pages(options).await?;
        let keys = pages.into_iter().flat_map(|page| page.objects).map(|object| self.name(&object.key));
        Ok(keys.collect())
    }

    fn name(&self, key: &str) -> String {
        key.strip_prefix(&self.prefix).unwrap_or(key).to_owned()
    }
}

macro_rules! properties {
    ($($file:ident: $($property:ident),+;)+) => {
        $(pub use $file::{$($property),+};)+

        /// Tries every property and answers how each went.
        pub async fn run_all<S: ObjectStore>(subject: &Subject<S>) -> Vec<(&'static str, Verdict)> {
            vec![$($((
                stringify!($property),
                Box::pin($property(&subject.ground(stringify!($property)))).await,
            )),+),+]
        }

        /// A module `$module` with one test per property. `$subject` is an expression that makes a
        /// future of a [`Subject`](crate::contract::Subject); each test has its own.
        #[macro_export]
        macro_rules! store_contract {
            ($module:ident, $subject:expr) => {
                mod $module {
                    #[allow(unused_imports)]
                    use super::*;
                    $($(
                        #[tokio::test]
                        async fn $property() {
                            let subject = $subject.await;
                            let ground = subject.ground(stringify!($property));
                            if let Err(violation) = Box::pin($crate::contract::$property(&ground)).await {
                                panic!("{violation}");
                            }
                        }
                    )+)+
                }
            };
        }
    };
}

properties! {
    write:
        what_is_written_is_read_back,
        an_object_may_be_empty,
        a_missing_bucket_is_told_from_a_missing_object,
        a_create_only_write_never_overwrites,
        of_many_create_only_writes_one_wins,
        a_replacement_needs_the_tag_that_stands_there,
        what_no_store_takes_is_refused_before_it_is_sent,
        tags_are_written_with_the_object_and_replaced_as_a_whole;
    read:
        a_missing_object_is_not_found,
        a_range_reads_its_bytes_only,
        a_read_may_insist_on_the_tag,
        a_body_beyond_the_limit_is_refused;
    keys:
        keys_with_signs_come_back_as_they_went_in,
        keys_with_slashes_and_dots_are_not_cleaned_up,
        keys_in_any_script_come_back_as_they_went_in,
        keys_with_control_characters_come_back_as_they_went_in,
        a_key_may_have_1024_bytes;
    list:
        a_listing_is_complete_and_in_byte_order_over_pages,
        a_listing_starts_after_a_key,
        a_delimiter_folds_each_prefix_once_over_pages,
        a_prefix_is_taken_literally,
        a_listing_of_nothing_is_empty;
    delete:
        deleting_what_is_not_there_is_no_error,
        a_conditional_delete_spares_what_was_replaced,
        a_batch_answers_for_each_object_in_order,
        a_batch_spares_what_was_replaced,
        a_batch_of_none_is_nothing_and_of_too_many_is_refused;
    copy:
        a_copy_keeps_bytes_type_metadata_and_tags,
        a_copy_may_replace_metadata_and_tags,
        a_copy_may_insist_on_the_sources_tag,
        a_copy_may_be_create_only,
        a_copy_may_replace_only_what_was_seen,
        a_copy_of_nothing_is_not_found;
    multipart:
        parts_are_put_together_in_order,
        what_waits_in_a_file_is_written_as_it_is,
        an_aborted_upload_leaves_nothing,
        pending_uploads_are_listed,
        a_completion_may_be_create_only,
        a_completion_needs_its_parts;
    versions:
        every_write_is_a_version,
        a_delete_leaves_a_marker_that_can_be_taken_away,
        a_version_is_deleted_for_good,
        a_copy_reads_the_version_that_it_names,
        a_create_only_write_succeeds_above_a_marker,
        tags_belong_to_a_version,
        without_versioning_there_is_the_null_version;
}
