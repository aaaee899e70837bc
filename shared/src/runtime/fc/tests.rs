//! The server, called over HTTP as FC calls it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::client::conn::http1::{SendRequest, handshake};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

/// A connection that stays open.
struct Client(SendRequest<Full<Bytes>>);

struct Answer {
    status: u16,
    fc_status: String,
    body: Value,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        Self(sender)
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            fc_status: head.headers["x-fc-status"].to_str().unwrap().to_owned(),
            body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() },
        }
    }

    async fn invoke(&mut self, id: &str, event: &Value) -> Answer {
        self.send(Method::POST, "/invoke", &[("x-fc-request-id", id)], &event.to_string()).await
    }
}

/// Runs `test` beside a server that answers with `handle`; ends the server with it.
async fn with_server<H, HF, T, TF>(keys: KeySlot, handle: H, test: T)
where
    H: Fn(Value, Invocation) -> HF,
    HF: Future<Output = Result<Value, InvocationError>>,
    T: FnOnce(SocketAddr) -> TF,
    TF: Future<Output = ()>,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server { handle, keys, timeout: Duration::from_secs(60), expired: Notify::new() };
    let (stop, stopped) = oneshot::channel::<()>();
    let local = tokio::task::LocalSet::new();
    let tested = async {
        test(address).await;
        let _ = stop.send(());
    };
    local.run_until(async { tokio::join!(server.serve(listener, stopped.map(drop)), tested) }).await;
}

async fn echo(event: Value, invocation: Invocation) -> Result<Value, InvocationError> {
    Ok(json!({"event": event, "request_id": invocation.request_id}))
}

#[tokio::test]
async fn an_event_is_answered_with_its_outcome() {
    with_server(KeySlot::default(), echo, async |address| {
        let answer = Client::connect(address).await.invoke("id-1", &json!({"a": 1})).await;
        assert_eq!((answer.status, answer.fc_status.as_str()), (200, "200"));
        assert_eq!(answer.body, json!({"event": {"a": 1}, "request_id": "id-1"}));
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_404_in_the_status_and_in_the_header() {
    let fail = async |_, _| {
        Err(InvocationError { error_type: "Retryable", message: "throttled: slow down".to_owned() })
    };
    with_server(KeySlot::default(), fail, async |address| {
        let answer = Client::connect(address).await.invoke("1", &json!({})).await;
        assert_eq!((answer.status, answer.fc_status.as_str()), (404, "404"));
        assert_eq!(answer.body["errorType"], "Retryable");
        assert_eq!(answer.body["errorMessage"], "throttled: slow down");
    })
    .await;
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_the_server_goes_on() {
    with_server(KeySlot::default(), echo, async |address| {
        let mut client = Client::connect(address).await;
        let answer = client.send(Method::POST, "/invoke", &[], "{").await;
        assert_eq!((answer.status, &answer.body["errorType"]), (404, &json!("MalformedEvent")));
        let answer = client.send(Method::GET, "/invoke", &[], "").await;
        assert_eq!((answer.fc_status.as_str(), &answer.body["errorType"]), ("404", &json!("UnknownPath")));
        assert_eq!(client.invoke("1", &json!(1)).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_panic_fails_its_own_request_only() {
    let panics = async |event: Value, _| if event == 1 { panic!("a defect") } else { Ok(event) };
    with_server(KeySlot::default(), panics, async |address| {
        let mut client = Client::connect(address).await;
        let answer = client.invoke("1", &json!(1)).await;
        assert_eq!((answer.fc_status.as_str(), &answer.body["errorType"]), ("404", &json!("Panic")));
        assert_eq!(client.invoke("2", &json!(2)).await.body, 2);
    })
    .await;
}

#[tokio::test]
async fn the_life_cycle_is_answered() {
    with_server(KeySlot::default(), echo, async |address| {
        let mut client = Client::connect(address).await;
        let answer = client.send(Method::POST, "/initialize", &[("x-fc-request-id", "1")], "").await;
        assert_eq!((answer.status, answer.fc_status.as_str()), (200, "200"));
        assert_eq!(client.invoke("2", &json!({})).await.status, 200);
        let answer = client.send(Method::GET, "/pre-stop", &[("x-fc-request-id", "3")], "").await;
        assert_eq!((answer.status, answer.fc_status.as_str()), (200, "200"));
    })
    .await;
}

#[tokio::test]
async fn several_requests_run_at_once() {
    let arrived = Rc::new(tokio::sync::Barrier::new(3));
    let together = |event, _| {
        let arrived = arrived.clone();
        async move {
            // None of the three is answered before all are here.
            arrived.wait().await;
            Ok(event)
        }
    };
    with_server(KeySlot::default(), together, async |address| {
        let call = async |n: u8| {
            let mut client = Client::connect(address).await;
            client.invoke(&n.to_string(), &json!(n)).await.body
        };
        let all = futures::future::join3(call(1), call(2), call(3));
        let all = tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
        assert_eq!(all, (json!(1), json!(2), json!(3)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_for_long() {
    with_server(KeySlot::default(), echo, async |address| {
        let mut client = Client::connect(address).await;
        assert_eq!(client.invoke("1", &json!({})).await.status, 200);
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        assert_eq!(client.invoke("2", &json!({})).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn the_deadline_is_the_header_s_or_else_the_function_s() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = |event, invocation: Invocation| {
        seen.borrow_mut().push(invocation.remaining(SystemClock.now()).as_secs_f64().round());
        async { Ok(event) }
    };
    with_server(KeySlot::default(), note, async |address| {
        let mut client = Client::connect(address).await;
        client.invoke("1", &json!({})).await;
        client.send(Method::POST, "/invoke", &[("x-fc-function-timeout", "600")], "{}").await;
    })
    .await;
    assert_eq!(*seen.borrow(), [60.0, 600.0]);
}

#[tokio::test]
async fn keys_come_with_the_request_or_stay_as_they_were() {
    let of_environment = Keys { id: "env".to_owned(), secret: "s".to_owned(), token: Some("t".to_owned()) };
    let slot = KeySlot::new(Some(of_environment));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = |event, _| {
        let keys = slot.current().unwrap();
        seen.borrow_mut().push((keys.id, keys.token.unwrap()));
        async { Ok(event) }
    };
    with_server(slot.clone(), note, async |address| {
        let mut client = Client::connect(address).await;
        for headers in [
            &[][..],
            &[("x-fc-access-key-id", "half"), ("x-fc-access-key-secret", "s")],
            &[("x-fc-access-key-id", "1"), ("x-fc-access-key-secret", "s"), ("x-fc-security-token", "t1")],
            &[("x-fc-access-key-id", "2"), ("x-fc-access-key-secret", "s"), ("x-fc-security-token", "t2")],
        ] {
            client.send(Method::POST, "/invoke", headers, "{}").await;
        }
    })
    .await;
    let expected = [("env", "t"), ("env", "t"), ("1", "t1"), ("2", "t2")];
    assert_eq!(*seen.borrow(), expected.map(|(id, token)| (id.to_owned(), token.to_owned())));
}

#[tokio::test]
async fn expired_keys_end_the_instance_after_the_answer() {
    let slot = KeySlot::default();
    let expire = |_, _| {
        slot.expire();
        async { Err(InvocationError { error_type: "Retryable", message: "expired-credentials".to_owned() }) }
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let keys = slot.clone();
    let server = Server { handle: expire, keys, timeout: Duration::from_secs(1), expired: Notify::new() };
    let local = tokio::task::LocalSet::new();
    let served = server.serve(listener, std::future::pending());
    let call = async {
        let mut idle = Client::connect(address).await;
        idle.0.ready().await.unwrap();
        let answer = Client::connect(address).await.invoke("1", &json!({})).await;
        assert_eq!(answer.fc_status, "404");
    };
    let both = local.run_until(async { tokio::join!(served, call) });
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("the server ends by itself");
}

#[tokio::test]
async fn what_runs_is_answered_after_the_stop() {
    let (stop, stopped) = oneshot::channel::<()>();
    let stop = Cell::new(Some(stop));
    let slow = |event, _| {
        let _ = stop.take().map(|stop| stop.send(()));
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(event)
        }
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server {
        handle: slow,
        keys: KeySlot::default(),
        timeout: Duration::from_secs(1),
        expired: Notify::new(),
    };
    let local = tokio::task::LocalSet::new();
    let call = async { Client::connect(address).await.invoke("1", &json!("late")).await.body };
    let both = local.run_until(async { tokio::join!(server.serve(listener, stopped.map(drop)), call) });
    let ((), body) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    assert_eq!(body, "late");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
