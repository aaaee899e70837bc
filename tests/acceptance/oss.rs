//! The adapter for OSS, where the contract suite does not look: what it does instead of conditions, and
//! what it says to whoever has to act.

use aws_credential_types::Credentials;
use bytes::Bytes;
use harness::s3::{BucketOptions, Dialect, Fault, FaultRule, Options, Server, Versioning};
use shared::credentials::{KeySlot, Keys};
use shared::env::Environment;
use shared::object_ref::{ETag, ObjectRef};
use shared::store::{
    self, CopyOptions, DeleteItem, Metadata, ObjectStore, Precondition, PutOptions, S3Config, S3Store,
    StoreErrorKind,
};

const BUCKET: &str = "files";

async fn oss() -> (Server, S3Config) {
    let options = Options { dialect: Dialect::Oss, region: "cn-hangzhou".to_owned(), ..Options::default() };
    let server = Server::start(options).await.unwrap();
    server.create_bucket(BUCKET, BucketOptions::default());
    let keys = server.credentials();
    let config = S3Config {
        dialect: store::Dialect::Oss,
        endpoint: Some(server.endpoint()),
        region: Some(server.region().to_owned()),
        keys: Some(KeySlot::new(Some(Keys {
            id: keys.access_key_id,
            secret: keys.secret_access_key,
            token: Some("token".to_owned()),
        }))),
        ..S3Config::default()
    };
    (server, config)
}

fn options(precondition: Precondition) -> PutOptions {
    PutOptions { precondition, ..PutOptions::default() }
}

async fn put(
    store: &S3Store,
    object: &ObjectRef,
    body: &'static str,
    when: Precondition,
) -> Result<ETag, StoreErrorKind> {
    let result = store.put(object, Bytes::from_static(body.as_bytes()), options(when)).await;
    result.map(|result| result.e_tag).map_err(|error| error.kind)
}

#[tokio::test]
async fn what_was_replaced_is_neither_replaced_nor_deleted() {
    let (server, config) = oss().await;
    let store = S3Store::new(config);
    assert!(!store.capabilities().conditional_delete && !store.capabilities().conditional_replace);
    let object = ObjectRef::new(BUCKET, "u/a b+c.png");
    let first = put(&store, &object, "first", Precondition::None).await.unwrap();
    let second = put(&store, &object, "second", Precondition::IfMatch(first.clone())).await.unwrap();
    let stale = put(&store, &object, "third", Precondition::IfMatch(first.clone())).await;
    assert_eq!(stale, Err(StoreErrorKind::PreconditionFailed));
    let stale = store.delete(&object, Some(&first)).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::PreconditionFailed);
    assert_eq!(server.object(BUCKET, &object.key).unwrap().body.bytes(), "second");
    store.delete(&object, Some(&second)).await.unwrap();
    assert_eq!(store.delete(&object, Some(&second)).await.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_batch_spares_what_was_replaced_and_answers_in_order() {
    let (server, config) = oss().await;
    let store = S3Store::new(config);
    let mut e_tags = Vec::new();
    for key in ["a", "b", "c", "d"] {
        let e_tag = put(&store, &ObjectRef::new(BUCKET, key), "first", Precondition::None).await.unwrap();
        e_tags.push((key, e_tag));
    }
    let mut items: Vec<_> = e_tags
        .iter()
        .map(|(key, e_tag)| DeleteItem { if_match: Some(e_tag.borrowed()), ..DeleteItem::any(key) })
        .collect();
    items[3].if_match = None;
    put(&store, &ObjectRef::new(BUCKET, "b"), "second", Precondition::None).await.unwrap();
    let results = store.delete_batch(BUCKET, items.iter().copied()).await.unwrap();
    let kinds: Vec<_> = results.into_iter().map(|result| result.err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [None, Some(StoreErrorKind::PreconditionFailed), None, None]);
    assert_eq!(server.keys(BUCKET), ["b"]);
}

#[tokio::test]
async fn a_versioned_bucket_is_refused_before_anything_is_overwritten() {
    let (server, config) = oss().await;
    for versioning in [Versioning::Enabled, Versioning::Suspended] {
        server.set_versioning(BUCKET, versioning);
        let store = S3Store::new(config.clone());
        let object = ObjectRef::new(BUCKET, "avatar");
        for (what, error) in [
            ("put", store.put(&object, Bytes::new(), options(Precondition::IfAbsent)).await.unwrap_err()),
            ("copy", {
                let create = CopyOptions { precondition: Precondition::IfAbsent, ..CopyOptions::default() };
                store.copy(&object, &object, create).await.unwrap_err()
            }),
        ] {
            assert_eq!(error.kind, StoreErrorKind::Invalid, "{what}");
            assert!(error.to_string().contains("x-oss-forbid-overwrite"), "{error}");
        }
        assert_eq!(server.keys(BUCKET), Vec::<String>::new());
        let mut environment = Environment::from_iter([("AVATAR_BUCKET", BUCKET)]);
        store.check_create_only(&mut environment, "AVATAR_BUCKET", BUCKET).await;
        let refused = environment.finish(()).unwrap_err().to_string();
        assert!(refused.contains("AVATAR_BUCKET=\"files\"") && refused.contains("versioning"), "{refused}");
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_asked_about_is_found_out_by_its_answer() {
    let (server, config) = oss().await;
    server.set_versioning(BUCKET, Versioning::Enabled);
    server.inject(FaultRule::new(Fault::AccessDenied).operation("GetBucketVersioning"));
    let store = S3Store::new(config);
    let mut environment = Environment::from_iter([("AVATAR_BUCKET", BUCKET)]);
    store.check_create_only(&mut environment, "AVATAR_BUCKET", BUCKET).await;
    environment.finish(()).unwrap();
    let object = ObjectRef::new(BUCKET, "avatar");
    let refused = store.put(&object, Bytes::new(), options(Precondition::IfAbsent)).await.unwrap_err();
    assert!(refused.to_string().contains("x-oss-forbid-overwrite"), "{refused}");
}

#[tokio::test]
async fn an_underscore_in_metadata_is_refused_before_it_is_sent() {
    let (server, config) = oss().await;
    let metadata = Metadata::from([("source_md5".to_owned(), "x".to_owned())]);
    let options = PutOptions { metadata, ..PutOptions::default() };
    let error =
        S3Store::new(config).put(&ObjectRef::new(BUCKET, "a"), Bytes::new(), options).await.unwrap_err();
    assert!(error.to_string().contains("source_md5"), "{error}");
    assert_eq!(server.take_requests(), Vec::new());
}

#[tokio::test]
async fn a_store_that_was_set_up_as_s3_is_told_what_to_set() {
    let (server, config) = oss().await;
    let keys = server.credentials();
    let keys = Credentials::new(keys.access_key_id, keys.secret_access_key, None, None, "test");
    let as_s3 = |path_style| S3Config {
        dialect: store::Dialect::S3,
        path_style,
        // By its address, since only the adapter for OSS knows names below localhost.
        endpoint: Some(format!("http://127.0.0.1:{}", server.port())),
        keys: None,
        ..config.clone()
    };
    let object = ObjectRef::new(BUCKET, "a");
    let in_path = S3Store::with_credentials(as_s3(true), keys);
    let error = in_path.put(&object, Bytes::new(), PutOptions::default()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Invalid);
    assert!(error.to_string().contains("remove STORE_PATH_STYLE and set STORE_DIALECT=oss"), "{error}");
}

#[tokio::test]
async fn missing_permissions_are_named_as_ram_names_them() {
    let (server, config) = oss().await;
    server.inject(FaultRule::new(Fault::AccessDenied).operation("GetObjectTagging"));
    let store = S3Store::new(config);
    let object = ObjectRef::new(BUCKET, "a");
    put(&store, &object, "a", Precondition::None).await.unwrap();
    let error = store.get_tags(&object).await.unwrap_err().to_string();
    assert!(error.contains("oss:GetObjectTagging on acs:oss:*:*:files/a"), "{error}");
}

#[tokio::test]
async fn keys_that_have_expired_are_noted_and_can_be_replaced() {
    let (server, config) = oss().await;
    let keys = config.keys.clone().unwrap();
    let store = S3Store::new(config);
    let object = ObjectRef::new(BUCKET, "a");
    put(&store, &object, "a", Precondition::None).await.unwrap();
    let fault = server.inject(FaultRule::new(Fault::ExpiredToken));
    // A HEAD cannot say it: a GET is asked for the reason.
    let error = store.head(&object).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::ExpiredCredentials, "{error}");
    assert!(keys.is_expired());
    server.heal(fault);
    let other = keys.current().map(|keys| Keys { token: Some("newer".to_owned()), ..keys }).unwrap();
    keys.replace(other);
    assert!(!keys.is_expired());
    store.head(&object).await.unwrap();
}
