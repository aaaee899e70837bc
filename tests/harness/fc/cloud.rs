//! OSS and Function Compute together: the strict stand-in for OSS, and the real functions behind FC's calls.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;
use shared::object_ref::ObjectRef;
use shared::store::{self, ObjectStore, PutOptions, S3Config, S3Store, StoreError};

use super::config::FcConfig;
use super::function::FcFunction;
use crate::cloud::{
    AUDIT, AVATAR_TRANSCODER, AVATARS, EXPIRY_SWEEPER, FILES, POLICY_KEY, QUARANTINE, UPLOAD_VALIDATOR,
    UPLOADS, binary, own_variables, policy,
};
use crate::lambda::{Credentials, InvocationResult, StartError};
use crate::s3::{self, BucketOptions, Dialect, Filter, Server};
use crate::ticket::Issuer;

/// Where the buckets are.
pub const REGION: &str = "cn-hangzhou";

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FcError {
    /// The stand-in for OSS does not start.
    #[error(transparent)]
    Oss(#[from] s3::StartError),
    /// A binary is missing.
    #[error(transparent)]
    Function(#[from] StartError),
    /// The upload was refused.
    #[error("the upload was refused: {0}")]
    Upload(#[from] StoreError),
    /// OSS sent no event.
    #[error("OSS sent no event")]
    NoEvent,
    /// There is no function of this name.
    #[error("there is no function {0}; there are avatar-transcoder, upload-validator and expiry-sweeper")]
    NoFunction(String),
}

/// OSS and the three functions. They end when it is dropped.
#[derive(Debug)]
pub struct FcCloud {
    /// The stand-in for OSS.
    pub oss: Server,
    /// Who issues tickets that the functions accept.
    pub issuer: Issuer,
    functions: BTreeMap<&'static str, FcFunction>,
    client: S3Store,
}

impl FcCloud {
    /// Starts OSS with the five buckets and a policy that plans. `variables` are the functions' own: function, name, value.
    ///
    /// # Errors
    /// A port cannot be had, or a binary is missing.
    pub async fn start(binaries: PathBuf, variables: &[(&str, &str, &str)]) -> Result<Self, FcError> {
        let names = ["local-cloud", AVATAR_TRANSCODER, UPLOAD_VALIDATOR, EXPIRY_SWEEPER];
        let keys = names.map(|name| s3::Credentials::new(name, format!("{name}-secret")));
        let oss = Server::start(s3::Options {
            credentials: keys.to_vec(),
            dialect: Dialect::Oss,
            region: REGION.to_owned(),
            ..s3::Options::default()
        })
        .await?;
        for bucket in [UPLOADS, AVATARS, FILES, QUARANTINE, AUDIT] {
            oss.create_bucket(bucket, BucketOptions::default());
        }
        oss.put(AUDIT, POLICY_KEY, policy(), s3::PutOptions::default());
        let issuer = Issuer::new("local-cloud");
        let mut functions = BTreeMap::new();
        for name in [AVATAR_TRANSCODER, UPLOAD_VALIDATOR, EXPIRY_SWEEPER] {
            let mut config = FcConfig::new(name, binary(&binaries, name))
                .with("STORE_DIALECT", "oss")
                .with("AWS_ENDPOINT_URL_S3", oss.endpoint());
            config.credentials = Credentials {
                access_key_id: name.to_owned(),
                secret_access_key: format!("{name}-secret"),
                session_token: Some(format!("{name}-token")),
            };
            for (variable, value) in own_variables(name, &issuer) {
                config = config.with(variable, value);
            }
            for (_, variable, value) in variables.iter().filter(|(function, ..)| *function == name) {
                config = config.with(*variable, *value);
            }
            functions.insert(name, FcFunction::new(config)?);
        }
        let key = oss.credentials();
        let config = S3Config {
            dialect: store::Dialect::Oss,
            endpoint: Some(oss.endpoint()),
            region: Some(REGION.to_owned()),
            ..S3Config::default()
        };
        let key = aws_credential_types::Credentials::new(
            key.access_key_id,
            key.secret_access_key,
            None,
            None,
            "local-cloud",
        );
        let client = S3Store::with_credentials(config, key);
        Ok(Self { oss, issuer, functions, client })
    }

    /// OSS, as a client reaches it.
    pub fn client(&self) -> &S3Store {
        &self.client
    }

    /// Does `upload`, and gives the event that OSS sends of it to the function behind `bucket`.
    ///
    /// # Errors
    /// The upload was refused.
    pub async fn outcome_of<T>(
        &self,
        bucket: &str,
        upload: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<InvocationResult, FcError> {
        let name = if bucket == FILES { UPLOAD_VALIDATOR } else { AVATAR_TRANSCODER };
        let mut events = self.oss.subscribe_oss(bucket, Filter::created(name));
        upload.await?;
        let event = events.recv().await.ok_or(FcError::NoEvent)?;
        Ok(self.function(name)?.invoke(&event).await)
    }

    /// The same for a plain write.
    ///
    /// # Errors
    /// The upload was refused.
    pub async fn upload(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<InvocationResult, FcError> {
        let object = ObjectRef::new(bucket, key);
        Box::pin(self.outcome_of(bucket, self.client.put(&object, Into::<Bytes>::into(body), options))).await
    }

    /// A function by its name.
    ///
    /// # Errors
    /// There is no such function.
    pub fn function(&self, name: &str) -> Result<&FcFunction, FcError> {
        self.functions.get(name).ok_or_else(|| FcError::NoFunction(name.to_owned()))
    }

    /// Puts what `event` names, gives the event to `function` as FC does, and ends the function: what
    /// `make replay … RUNTIME=fc` does.
    ///
    /// # Errors
    /// There is no such function, or the pictures cannot be read.
    pub async fn replay(
        &self,
        function: &str,
        event: &Value,
        seed: bool,
    ) -> Result<InvocationResult, Box<dyn std::error::Error + Send + Sync>> {
        let function = self.function(function)?;
        if seed {
            for object in crate::replay::seed(&self.oss, event)? {
                tracing::debug!(%object, "put");
            }
        }
        let mut result = function.invoke(event).await;
        result.logs.extend(function.shut_down().await);
        Ok(result)
    }
}
