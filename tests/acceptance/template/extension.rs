//! Lambda's extension "AWS Parameters and Secrets", as far as a function sees it: keys over local HTTP.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use shared::store::Permission;
use tokio::net::TcpListener;

use super::stack::{ACCOUNT, REGION};

/// An extension that holds one text under every name, and what it was asked. It ends with the test's runtime.
#[derive(Clone)]
pub(super) struct Extension {
    pub(super) port: u16,
    permissions: Arc<Mutex<BTreeSet<Permission>>>,
}

impl Extension {
    pub(super) async fn start(text: String) -> Self {
        let listener = TcpListener::bind(("localhost", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let extension = Self { port, permissions: Arc::default() };
        let served = extension.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (served, text) = (served.clone(), text.clone());
                let service = service_fn(move |request| {
                    let answer = served.answer(&request, &text);
                    async { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        extension
    }

    /// What the extension needed to be allowed, which calls AWS with the function's own role.
    pub(super) fn permissions(&self) -> BTreeSet<Permission> {
        self.permissions.lock().unwrap().clone()
    }

    fn answer(&self, request: &Request<Incoming>, text: &str) -> Response<Full<Bytes>> {
        let query = request.uri().query().unwrap_or_default();
        let asked = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.clone().find(|(key, _)| *key == name)?.1;
            Some(percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned())
        };
        let found = match request.uri().path() {
            "/systemsmanager/parameters/get" => asked("name").map(|name| {
                let arn = format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}");
                ("ssm:GetParameter", arn, json!({"Parameter": {"Name": name, "Value": text}}))
            }),
            // Secrets Manager appends six characters of its own to every secret's ARN.
            "/secretsmanager/get" => asked("secretId").map(|name| {
                let arn = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-a1B2c3");
                ("secretsmanager:GetSecretValue", arn, json!({"Name": name, "SecretString": text}))
            }),
            _ => None,
        };
        let token = request.headers().get("X-Aws-Parameters-Secrets-Token");
        let (status, body) = match found {
            _ if token.is_none_or(|token| token != "token") => (StatusCode::FORBIDDEN, Value::Null),
            Some((action, arn, body)) => {
                self.permissions.lock().unwrap().insert((action, arn));
                (StatusCode::OK, body)
            }
            None => (StatusCode::NOT_FOUND, Value::Null),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        response
    }
}
