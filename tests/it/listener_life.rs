//! The end of connections: drain, age, revoked keys. No call that reached a handler is lost.

use crate::fake::Fake;
use crate::support::{BOUND, Server, draft, eventually, key_of, metric, tls_of};
use skproxy::{
    listener::Limits,
    pb::v1::invoice_service_client::InvoiceServiceClient,
    transport::{ClientTls, channel},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet};

/// Clients that send one call after another and connect anew whenever a call fails.
struct Load {
    clients: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// Where the listener of the moment is.
type Place = Arc<Mutex<SocketAddr>>;

impl Load {
    fn start(count: usize, place: &Place, tls: &ClientTls) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for number in 0..count {
            let (tls, place) = (tls.clone(), Arc::clone(place));
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            clients.spawn(async move {
                let mut failed = Vec::new();
                let mut client = reconnected(&place, &tls).await;
                for call in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let serial = format!("slow-{number}-{call}");
                    match client.issue_invoice(draft(&serial, "x".repeat(call % 5000))).await {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => {
                            failed.push(serial);
                            client = reconnected(&place, &tls).await;
                        }
                    }
                }
                failed
            });
        }
        Self { clients, stop, answered }
    }

    async fn answers(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        let what = format!("{more} more answers");
        eventually(&what, || self.answered.load(Ordering::Relaxed) >= wanted).await;
    }

    /// Stops, and checks that a call either got its answer or never reached a handler.
    async fn finish(self, api: &Fake) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = tokio::time::timeout(BOUND, self.clients.join_all()).await;
        let failed: Vec<String> = ended.expect("the clients stop").concat();
        let lost: Vec<_> = failed.iter().filter(|serial| api.saw(serial)).collect();
        assert!(lost.is_empty(), "handled, and the answer was lost: {lost:?}");
        let handled = api.seen.lock().unwrap().len();
        assert_eq!(handled, self.answered.load(Ordering::Relaxed), "one answer for each");
    }
}

async fn reconnected(
    place: &Place,
    tls: &ClientTls,
) -> InvoiceServiceClient<tonic::transport::Channel> {
    let mut tries = tokio::time::interval(Duration::from_millis(2));
    loop {
        tries.tick().await;
        let address = *place.lock().unwrap();
        if let Ok(channel) = channel(&address.to_string(), "localhost", tls).await {
            return InvoiceServiceClient::new(channel);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_under_load_loses_no_call() {
    let mut server = Server::start(Limits::default()).await;
    let tls = server.client_tls("load");
    let place = Arc::new(Mutex::new(server.address));
    let load = Load::start(8, &place, &tls);
    for _ in 0..5 {
        load.answers(200).await;
        assert_eq!(server.listener.drain(BOUND).await, 0, "nothing had to be cut");
        assert_eq!(server.listener.connections().count(), 0);
        server.stopped().await;
        server = server.again(Limits::default()).await;
        *place.lock().unwrap() = server.address;
    }
    load.answers(200).await;
    load.finish(&server.api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connections_age_loses_no_call() {
    let age = Duration::from_millis(150);
    let server = Server::start(Limits { connection_age: age, ..Limits::default() }).await;
    let place = Arc::new(Mutex::new(server.address));
    let load = Load::start(4, &place, &server.client_tls("load"));
    let connections = server.listener.connections();
    eventually("every client connected many times", || {
        connections.list().last().is_some_and(|newest| newest.id > 24)
    })
    .await;
    assert!(metric("skproxy_listener_connections_closed_total{reason=\"age\"}") >= 16);
    load.finish(&server.api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_calls_under_way_and_not_for_idle_or_silent_callers() {
    let server = Server::start(Limits::default()).await;
    let idle = server.client("idle").await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut busy = server.client("busy").await;
    let call =
        tokio::join!(async { busy.issue_invoice(draft("gate", String::new())).await }, async {
            eventually("the call is under way", || server.api.saw("gate")).await;
            let drained = server.listener.drain(BOUND);
            let open = async {
                let connections = server.listener.connections();
                eventually("the idle connection is gone", || connections.count() == 1).await;
                server.api.gate.add_permits(1);
            };
            assert_eq!(tokio::join!(drained, open).0, 0);
        });
    call.0.expect("a call under way is answered");
    drop((idle, silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_cuts_what_is_late() {
    let server = Server::start(Limits::default()).await;
    let mut busy = server.client("busy").await;
    let (call, cut) =
        tokio::join!(async { busy.issue_invoice(draft("gate", String::new())).await }, async {
            eventually("the call is under way", || server.api.saw("gate")).await;
            server.listener.drain(Duration::from_millis(200)).await
        });
    assert_eq!(cut, 1);
    assert!(call.is_err());
    assert_eq!(server.listener.connections().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_key_ends_its_connections_and_no_others() {
    let server = Server::start(Limits::default()).await;
    let revoked = server.ca.issue("revoked", 2090);
    let channel = server.channel(&tls_of(&server.ca.pem(), &revoked)).await;
    let mut revoked_client = InvoiceServiceClient::new(channel);
    let mut other = server.client("other").await;
    other.issue_invoice(draft("before", String::new())).await.unwrap();

    let connections = server.listener.connections();
    let (call, ()) = tokio::join!(
        async { revoked_client.issue_invoice(draft("gate", String::new())).await },
        async {
            eventually("the call is under way", || server.api.saw("gate")).await;
            assert_eq!(connections.close_key(&key_of(&revoked)), 1);
            eventually("its connection is gone", || connections.count() == 1).await;
            let left = connections.list();
            assert_ne!(left[0].key, key_of(&revoked));
        }
    );
    assert!(call.is_err(), "a call that hangs does not keep it open");
    other.issue_invoice(draft("after", String::new())).await.unwrap();
}
