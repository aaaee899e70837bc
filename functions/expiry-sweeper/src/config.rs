//! What can be configured.

use shared::env::{self, BUCKET_NAME, Environment};
use shared::object_ref::ObjectRef;

use crate::policy::{Mode, Policy};

/// Where the retention policy is.
#[derive(Debug, Clone)]
pub enum PolicySource {
    /// In `SWEEP_POLICY`.
    Inline(Box<Policy>),
    /// At `SWEEP_POLICY_URI`, read at every sweep.
    Stored(ObjectRef),
}

/// The configuration of this function (environment variables; see the README's table).
#[derive(Debug, Clone)]
pub struct Config {
    /// `AUDIT_BUCKET`, where reports, cursors and quarantined copies go.
    pub audit_bucket: String,
    /// `SWEEP_POLICY` or `SWEEP_POLICY_URI`.
    pub policy: PolicySource,
    /// `SWEEP_MODE`, which overrides the policy's.
    pub mode: Option<Mode>,
    /// `SWEEP_CONFIRM`: the ids of sweeps that the anomaly brake stopped, or of rules, separated by commas.
    pub confirmed: Vec<String>,
}

impl Config {
    /// Reads the configuration, noting every mistake in `environment`.
    pub fn read(environment: &mut Environment) -> Self {
        let audit_bucket = environment.required("AUDIT_BUCKET", BUCKET_NAME, env::bucket_name);
        let stored = environment.optional("SWEEP_POLICY_URI", "s3://bucket/key", ObjectRef::parse_uri);
        let inline = environment.get("SWEEP_POLICY").map(str::to_owned);
        let nowhere = || PolicySource::Stored(ObjectRef::new("", ""));
        let policy = match (inline, stored) {
            (None, Some(object)) => PolicySource::Stored(object),
            (Some(text), None) => match Policy::parse(&text, &audit_bucket) {
                Ok(policy) => PolicySource::Inline(Box::new(policy)),
                Err(error) => {
                    environment.mistake("SWEEP_POLICY", false, format!("a retention policy, but {error}"));
                    nowhere()
                }
            },
            (Some(_), Some(_)) => {
                environment.mistake("SWEEP_POLICY_URI", false, "nothing, because SWEEP_POLICY is set too");
                nowhere()
            }
            (None, None) => {
                if environment.get("SWEEP_POLICY_URI").is_none() {
                    let expected = "a retention policy in JSON, or SWEEP_POLICY_URI in its place";
                    environment.mistake("SWEEP_POLICY", false, expected);
                }
                nowhere()
            }
        };
        Self {
            audit_bucket,
            policy,
            mode: environment.optional("SWEEP_MODE", "plan or apply", Mode::parse),
            confirmed: environment
                .get("SWEEP_CONFIRM")
                .map(|list| list.split(',').map(|name| name.trim().to_owned()).collect())
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str =
        r#"{"version": 1, "rules": [{"id": "a", "bucket": "files", "prefix": "a/", "expire_after": "1d"}]}"#;

    fn read(variables: &[(&str, &str)]) -> Result<Config, env::ConfigError> {
        let mut environment: Environment = variables.iter().copied().collect();
        let config = Config::read(&mut environment);
        environment.finish(config)
    }

    #[test]
    fn a_policy_is_read_from_the_environment_or_from_an_object() {
        let config =
            read(&[("AUDIT_BUCKET", "audit"), ("SWEEP_POLICY", POLICY), ("SWEEP_CONFIRM", "x, y")]).unwrap();
        assert!(matches!(&config.policy, PolicySource::Inline(policy) if policy.rules.len() == 1));
        assert_eq!((config.mode, config.confirmed), (None, vec!["x".to_owned(), "y".to_owned()]));
        let config = read(&[
            ("AUDIT_BUCKET", "audit"),
            ("SWEEP_POLICY", ""),
            ("SWEEP_POLICY_URI", "s3://audit/policy.json"),
            ("SWEEP_MODE", "apply"),
        ])
        .unwrap();
        assert!(matches!(&config.policy, PolicySource::Stored(object) if object.key == "policy.json"));
        assert_eq!(config.mode, Some(Mode::Apply));
    }

    #[test]
    fn every_mistake_of_a_policy_is_told_at_the_start() {
        let policy = r#"{"version": 1, "rules": [{"id": "a", "prefix": "", "expire_after": "0h"}]}"#;
        let error = read(&[("AUDIT_BUCKET", "audit"), ("SWEEP_POLICY", policy)]).unwrap_err().to_string();
        for part in ["SWEEP_POLICY", "rules[0].bucket", "rules[0].prefix", "rules[0].expire_after"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }

    #[test]
    fn one_policy_is_expected_and_one_only() {
        let missing = read(&[("AUDIT_BUCKET", "audit")]).unwrap_err().to_string();
        assert!(missing.contains("SWEEP_POLICY is not set"), "{missing}");
        let uri = ("SWEEP_POLICY_URI", "s3://audit/policy.json");
        assert!(read(&[("AUDIT_BUCKET", "audit"), ("SWEEP_POLICY", POLICY), uri]).is_err());
        let wrong =
            read(&[("SWEEP_POLICY_URI", "policy.json"), ("SWEEP_MODE", "dry")]).unwrap_err().to_string();
        for part in ["AUDIT_BUCKET", "SWEEP_POLICY_URI=\"policy.json\"", "SWEEP_MODE=\"dry\""] {
            assert!(wrong.contains(part), "{part} is not in {wrong}");
        }
    }
}
