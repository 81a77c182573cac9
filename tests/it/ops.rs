//! The ops port over real sockets.

use crate::support::{BOUND, EXPORTER};
use skproxy::health::{Ops, Readiness};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(BOUND, socket.read_to_string(&mut answer));
    read.await.expect("it answers").unwrap();
    answer
}

#[tokio::test]
async fn the_ops_port_tells_metrics_life_and_readiness() {
    let state =
        Arc::new(Mutex::new(Readiness { ready: false, reasons: vec!["recovering".into()] }));
    let probe = Arc::clone(&state);
    let ops = Ops::new(EXPORTER.clone(), Arc::new(move || probe.lock().unwrap().clone()));
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut running = JoinSet::new();
    running.spawn(ops.run(socket, async { drop(stopped.await) }));

    for (request, status, text) in [
        ("GET /livez", "200", "ok"),
        ("GET /readyz", "503", r#"{"ready":false,"reasons":["recovering"]}"#),
        ("GET /metrics", "200", "# TYPE skproxy_listener_handshakes_refused_total counter"),
        ("GET /", "404", "not found"),
        ("POST /livez", "405", "GET only"),
    ] {
        let answer = ask(address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains(text), "{request}: {answer}");
    }
    *state.lock().unwrap() = Readiness { ready: true, reasons: Vec::new() };
    let answer = ask(address, "GET /readyz").await;
    assert!(answer.ends_with(r#"{"ready":true,"reasons":[]}"#), "{answer}");

    stop.send(()).unwrap();
    running.join_all().await;
    assert!(TcpStream::connect(address).await.is_err(), "the socket is closed");
}
