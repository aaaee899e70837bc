//! What can be configured.

use shared::env::{self, BUCKET_NAME, Environment};
use shared::ticket::KeyReference;

use crate::catalog::{Catalogs, Limits, MAX_PIXELS, MAX_SIZE};
use crate::verdict::Policy;

/// What becomes of a rejected upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectAction {
    /// It is copied to the quarantine bucket, then deleted.
    Quarantine,
    /// It stays, tagged as rejected.
    Tag,
    /// It is deleted.
    Delete,
}

impl RejectAction {
    /// Its name in configuration and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Tag => "tag",
            Self::Delete => "delete",
        }
    }
}

/// The configuration of this function (environment variables; see the README's table).
#[derive(Debug, Clone)]
pub struct Config {
    /// What uploads are held against: `CATALOGS`, `MAX_UPLOAD_BYTES`, `MAX_PIXELS`, `MAX_FRAMES`, `ACCEPT_MULTIPART`,
    /// `TICKET_REQUIRED`.
    pub policy: Policy,
    /// `TICKET_KEYS`.
    pub ticket_keys: Option<KeyReference>,
    /// `REJECT_ACTION`.
    pub reject_action: RejectAction,
    /// `QUARANTINE_BUCKET`; there if rejected uploads go there.
    pub quarantine_bucket: Option<String>,
    /// `AUDIT_BUCKET`; there if records go there.
    pub audit_bucket: Option<String>,
    /// `RECORDS`.
    pub records: bool,
}

impl Config {
    /// Reads the configuration, noting every mistake in `environment`.
    pub fn read(environment: &mut Environment) -> Self {
        let ticket_keys = KeyReference::read(environment);
        let catalogs = catalogs(environment);
        if catalogs.need_tickets() && environment.get("TICKET_KEYS").is_none() {
            environment.mistake(
                "TICKET_KEYS",
                true,
                "the keys that tickets are checked with, or TICKET_REQUIRED=false (and no catalog that requires \
                 tickets), as otherwise every upload would be rejected",
            );
        }
        let reject_action = environment.or(
            "REJECT_ACTION",
            RejectAction::Quarantine,
            "quarantine, tag or delete",
            |v| match v {
                "quarantine" => Some(RejectAction::Quarantine),
                "tag" => Some(RejectAction::Tag),
                "delete" => Some(RejectAction::Delete),
                _ => None,
            },
        );
        let records = environment.or("RECORDS", false, "on or off", |v| match v {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        });
        let quarantine_bucket = environment.optional("QUARANTINE_BUCKET", BUCKET_NAME, env::bucket_name);
        if reject_action == RejectAction::Quarantine && environment.get("QUARANTINE_BUCKET").is_none() {
            environment.mistake(
                "QUARANTINE_BUCKET",
                false,
                format!("{BUCKET_NAME}; or REJECT_ACTION=tag or delete"),
            );
        }
        let audit_bucket = environment.optional("AUDIT_BUCKET", BUCKET_NAME, env::bucket_name);
        if records && environment.get("AUDIT_BUCKET").is_none() {
            environment.mistake("AUDIT_BUCKET", false, format!("{BUCKET_NAME}; or RECORDS=off"));
        }
        overlap(environment);
        Self {
            policy: Policy {
                catalogs,
                accept_multipart: environment.or("ACCEPT_MULTIPART", false, "true or false", env::boolean),
                check_tickets: ticket_keys.is_some(),
            },
            ticket_keys,
            reject_action,
            quarantine_bucket,
            audit_bucket,
            records,
        }
    }
}

/// Refuses to write where uploads arrive, as every copy would be an upload again, and to mix what
/// strangers sent with what is trusted.
fn overlap(environment: &mut Environment) {
    let bucket = |name| environment.get(name).map(str::to_owned);
    let (files, quarantine, audit) =
        (bucket("FILES_BUCKET"), bucket("QUARANTINE_BUCKET"), bucket("AUDIT_BUCKET"));
    if let Some(files) = &files {
        if !files.is_empty() && env::bucket_name(files).is_none() {
            environment.mistake("FILES_BUCKET", false, BUCKET_NAME);
        }
        if quarantine.as_ref() == Some(files) {
            let expected = "another bucket than FILES_BUCKET, or what is rejected would be an upload again";
            environment.mistake("QUARANTINE_BUCKET", false, expected);
        }
        if audit.as_ref() == Some(files) {
            let expected = "another bucket than FILES_BUCKET, or every record would be an upload";
            environment.mistake("AUDIT_BUCKET", false, expected);
        }
    }
    if quarantine.is_some() && quarantine == audit {
        let expected =
            "another bucket than AUDIT_BUCKET, as what was rejected must not stand among the records";
        environment.mistake("QUARANTINE_BUCKET", false, expected);
    }
}

fn catalogs(environment: &mut Environment) -> Catalogs {
    let defaults = Limits {
        min_size: 1,
        max_size: environment.or(
            "MAX_UPLOAD_BYTES",
            10 << 20,
            "a number of bytes from 1 to 5497558138880",
            |v| env::number(v, 1..=MAX_SIZE),
        ),
        max_pixels: environment.or(
            "MAX_PIXELS",
            50_000_000,
            "a number of pixels from 1 to 4294967296",
            |v| env::number(v, 1..=MAX_PIXELS),
        ),
        max_frames: environment
            .or("MAX_FRAMES", 200, "a number from 1 to 10000", |v| env::number(v, 1..=10_000)),
        content_types: Vec::new(),
        ticket_required: environment.or("TICKET_REQUIRED", true, "true or false", env::boolean),
        retention: None,
    };
    let Some(document) = environment.get("CATALOGS").map(str::to_owned) else {
        return Catalogs::any(defaults);
    };
    match Catalogs::parse(&document, defaults.clone()) {
        Ok(catalogs) => catalogs,
        Err(mistakes) => {
            environment.mistake("CATALOGS", false, mistakes.join("; "));
            Catalogs::any(defaults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"oct","kid":"a","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let mut environment: Environment = variables.iter().copied().collect();
        let config = Config::read(&mut environment);
        environment.finish(config).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_and_a_quarantine_are_enough() {
        let config = read(&[("TICKET_KEYS", KEYS), ("QUARANTINE_BUCKET", "quarantine")]).unwrap();
        let limits = config.policy.catalogs.find("bn0m0anw").unwrap().1;
        assert_eq!((limits.max_size, limits.max_pixels), (10 << 20, 50_000_000));
        assert!(limits.ticket_required && config.policy.check_tickets);
        assert!(!config.policy.accept_multipart && !config.records);
        assert_eq!(config.reject_action, RejectAction::Quarantine);
    }

    #[test]
    fn every_mistake_is_listed_with_its_variable() {
        let error = read(&[
            ("MAX_UPLOAD_BYTES", "0"),
            ("MAX_PIXELS", "many"),
            ("ACCEPT_MULTIPART", "yes"),
            ("TICKET_REQUIRED", "1"),
            ("REJECT_ACTION", "burn"),
            ("RECORDS", "true"),
            ("AUDIT_BUCKET", "A"),
            ("CATALOGS", "{}"),
        ])
        .unwrap_err();
        for variable in [
            "MAX_UPLOAD_BYTES",
            "MAX_PIXELS",
            "ACCEPT_MULTIPART",
            "TICKET_REQUIRED",
            "TICKET_KEYS",
            "REJECT_ACTION",
            "RECORDS",
            "QUARANTINE_BUCKET",
            "AUDIT_BUCKET",
            "CATALOGS=\"{}\": expected version: 1",
        ] {
            assert!(error.contains(variable), "{variable} is missing in: {error}");
        }
    }

    #[test]
    fn tickets_are_required_with_keys_only_unless_no_catalog_wants_one() {
        let delete = ("REJECT_ACTION", "delete");
        assert!(read(&[delete]).unwrap_err().contains("TICKET_KEYS"));
        assert!(read(&[delete, ("TICKET_REQUIRED", "false")]).is_ok());
        let open =
            r#"{"version": 1, "catalogs": {"docs": {"ticket_required": false}}, "other_short_codes": false}"#;
        assert!(read(&[delete, ("CATALOGS", open)]).is_ok());
        let strict = r#"{"version": 1, "catalogs": {"docs": {"ticket_required": true}}}"#;
        let error = read(&[delete, ("TICKET_REQUIRED", "false"), ("CATALOGS", strict)]).unwrap_err();
        assert!(error.contains("TICKET_KEYS"), "{error}");
    }

    #[test]
    fn a_bucket_is_needed_only_by_what_writes_there() {
        let open = ("TICKET_REQUIRED", "false");
        assert!(read(&[open, ("REJECT_ACTION", "tag")]).is_ok());
        assert!(read(&[open]).unwrap_err().contains("QUARANTINE_BUCKET"));
        assert!(
            read(&[open, ("REJECT_ACTION", "tag"), ("RECORDS", "on")]).unwrap_err().contains("AUDIT_BUCKET")
        );
    }

    #[test]
    fn buckets_must_not_overlap() {
        for (files, quarantine, audit, named) in [
            ("files", "files", "audit", "QUARANTINE_BUCKET"),
            ("files", "quarantine", "files", "AUDIT_BUCKET"),
            ("files", "both", "both", "QUARANTINE_BUCKET"),
            ("F", "quarantine", "audit", "FILES_BUCKET"),
        ] {
            let error = read(&[
                ("TICKET_REQUIRED", "false"),
                ("FILES_BUCKET", files),
                ("QUARANTINE_BUCKET", quarantine),
                ("AUDIT_BUCKET", audit),
            ])
            .unwrap_err();
            assert!(error.contains(named) && error.contains("1 mistake"), "{error}");
        }
    }
}
