//! How the store is reached.

use std::time::Duration;

use crate::credentials::{KeySlot, Keys};
use crate::env::{self, Environment};
use crate::object_ref::ETag;

/// Which dialect of S3 the store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Amazon S3, and what speaks like it.
    #[default]
    S3,
    /// Alibaba Cloud OSS through its S3-compatible endpoint.
    Oss,
}

impl Dialect {
    /// The tag as a condition carries it: in quotes, and in the case in which the store made it.
    pub(super) fn quoted(self, e_tag: &ETag) -> String {
        match self {
            Self::S3 => e_tag.quoted(),
            Self::Oss => e_tag.quoted().to_ascii_uppercase(),
        }
    }
}

/// How long an answer may take. Each is per call and holds for what it says, so that a call ends well
/// inside an invocation's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// Until the head of an answer has come; a body has its own watch, see [`Timeouts::stall`].
    pub read: Duration,
    /// One attempt.
    pub attempt: Duration,
    /// All attempts of a call together.
    pub operation: Duration,
    /// The same for copies and completions, in which the store itself moves the bytes.
    pub long_operation: Duration,
    /// How long a body may stand still.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            read: Duration::from_secs(15),
            attempt: Duration::from_secs(20),
            operation: Duration::from_secs(45),
            long_operation: Duration::from_secs(300),
            stall: Duration::from_secs(10),
        }
    }
}

/// How the store is reached. What is not here (the credentials themselves, a profile, …) the SDK reads from its own
/// variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Config {
    /// The dialect.
    pub dialect: Dialect,
    /// Whether the bucket stands in the path instead of the host's name.
    pub path_style: bool,
    /// The endpoint, where it is not Amazon's own.
    pub endpoint: Option<String>,
    /// The region, where it is known; otherwise the SDK looks for it.
    pub region: Option<String>,
    /// Whether the environment holds credentials, as on Lambda it always does. Then nothing else that
    /// may have some is set up, which costs a cold start more than everything else here.
    pub credentials_in_environment: bool,
    /// Where the keys of the moment stand, instead of what the SDK finds. OSS is only reached so.
    pub keys: Option<KeySlot>,
    /// How long an answer may take.
    pub timeouts: Timeouts,
}

impl S3Config {
    /// Reads `STORE_DIALECT`, `STORE_PATH_STYLE`, `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`),
    /// `AWS_REGION` (or `AWS_DEFAULT_REGION`), and whether there are credentials. For OSS, whatever is left
    /// out follows from where Function Compute runs the function: `FC_REGION`, its internal endpoint, and
    /// the keys of the function's role.
    pub fn read(env: &mut Environment) -> Self {
        let dialect = env.or("STORE_DIALECT", Dialect::S3, "s3 or oss", |value| match value {
            "s3" => Some(Dialect::S3),
            "oss" => Some(Dialect::Oss),
            _ => None,
        });
        let path_style = env.or("STORE_PATH_STYLE", false, "true or false", env::boolean);
        let expected = "a URL that begins with http:// or https:// and ends after host and port";
        let endpoint = match env.get("AWS_ENDPOINT_URL_S3") {
            Some(_) => env.optional("AWS_ENDPOINT_URL_S3", expected, endpoint_url),
            None => env.optional("AWS_ENDPOINT_URL", expected, endpoint_url),
        };
        let region = env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")).map(str::to_owned);
        let timeouts = Timeouts::default();
        let config = Self { dialect, path_style, endpoint, region, timeouts, ..Self::default() };
        match dialect {
            Dialect::S3 => config.of_s3(env),
            Dialect::Oss => config.of_oss(env),
        }
    }

    fn of_s3(self, env: &Environment) -> Self {
        // Stores that are not Amazon's mostly do not care, but a signature needs one.
        let region = self.region.or_else(|| self.endpoint.as_ref().map(|_| "us-east-1".to_owned()));
        let credentials_in_environment =
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].iter().all(|variable| env.get(variable).is_some());
        Self { region, credentials_in_environment, ..self }
    }

    fn of_oss(self, env: &mut Environment) -> Self {
        if self.path_style {
            env.mistake("STORE_PATH_STYLE", false, "false: OSS wants the bucket in the host's name");
        }
        let region = self
            .region
            .or_else(|| env.get("FC_REGION").map(str::to_owned))
            .or_else(|| self.endpoint.as_deref().and_then(region_of_oss))
            .unwrap_or_else(|| {
                env.mistake("AWS_REGION", false, "the bucket's region, such as cn-hangzhou");
                String::new()
            });
        let endpoint =
            self.endpoint.unwrap_or_else(|| format!("https://s3.oss-{region}-internal.aliyuncs.com"));
        let keys = env
            .keys()
            .cloned()
            .unwrap_or_else(|| KeySlot::new(Keys::of_alibaba_cloud(env).or_else(|| Keys::of_sdk(env))));
        Self { region: Some(region), endpoint: Some(endpoint), keys: Some(keys), ..self }
    }
}

/// The region in the name of one of OSS's own endpoints.
fn region_of_oss(endpoint: &str) -> Option<String> {
    let host = endpoint.split_once("://")?.1;
    let region = host.strip_prefix("s3.").unwrap_or(host).strip_prefix("oss-")?.split_once('.')?.0;
    Some(region.strip_suffix("-internal").unwrap_or(region).to_owned())
}

/// An endpoint: scheme and authority, and nothing that would get lost behind them.
fn endpoint_url(value: &str) -> Option<String> {
    let authority = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"))?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let fits = !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    fits.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<S3Config, String> {
        let mut env = variables.iter().copied().collect::<Environment>();
        let config = S3Config::read(&mut env);
        env.finish(config).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_means_amazons_own() {
        assert_eq!(read(&[]).unwrap(), S3Config::default());
    }

    #[test]
    fn a_store_of_ones_own_is_named_by_its_endpoint() {
        let config = read(&[
            ("AWS_ENDPOINT_URL", "https://elsewhere"),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000"),
            ("STORE_PATH_STYLE", "true"),
        ])
        .unwrap();
        assert_eq!(config.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(config.region.as_deref(), Some("us-east-1"));
        assert!(config.path_style);
    }

    #[test]
    fn every_mistake_is_named() {
        let error = read(&[
            ("STORE_DIALECT", "gcs"),
            ("STORE_PATH_STYLE", "yes"),
            ("AWS_ENDPOINT_URL_S3", "localhost:9000"),
        ])
        .unwrap_err();
        for part in
            ["STORE_DIALECT=\"gcs\"", "STORE_PATH_STYLE=\"yes\"", "AWS_ENDPOINT_URL_S3=\"localhost:9000\""]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn oss_follows_from_where_the_function_runs() {
        let config = read(&[("STORE_DIALECT", "oss"), ("FC_REGION", "cn-hangzhou")]).unwrap();
        assert_eq!(config.endpoint.as_deref(), Some("https://s3.oss-cn-hangzhou-internal.aliyuncs.com"));
        assert_eq!(config.region.as_deref(), Some("cn-hangzhou"));
        assert!(config.keys.is_some_and(|keys| keys.current().is_none()));
        let elsewhere =
            [("AWS_ENDPOINT_URL_S3", "https://s3.oss-eu-central-1.aliyuncs.com"), ("STORE_DIALECT", "oss")];
        assert_eq!(read(&elsewhere).unwrap().region.as_deref(), Some("eu-central-1"));
    }

    #[test]
    fn oss_is_never_reached_in_path_style_and_needs_a_region() {
        let error = read(&[("STORE_DIALECT", "oss"), ("STORE_PATH_STYLE", "true")]).unwrap_err();
        assert!(error.contains("STORE_PATH_STYLE") && error.contains("AWS_REGION"), "{error}");
    }

    #[test]
    fn a_tag_is_compared_in_the_case_in_which_the_store_made_it() {
        let e_tag = ETag::parse("5D41402ABC4B2A76B9719D911017C592").unwrap();
        assert_eq!(Dialect::Oss.quoted(&e_tag), "\"5D41402ABC4B2A76B9719D911017C592\"");
        assert_eq!(Dialect::S3.quoted(&e_tag), "\"5d41402abc4b2a76b9719d911017c592\"");
    }
}
