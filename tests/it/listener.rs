//! The listener over real sockets: who gets in, what a call carries, what broken callers get.

use crate::fake::echo;
use crate::support::{BOUND, Ca, Server, draft, eventually, key_of, metric, refused, tls_of};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use skproxy::{
    listener::{Limits, REQUEST_ID_HEADER},
    pb::v1,
    transport::{channel, connect},
};
use std::{fs, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::{Code, Request, Status, codec::CompressionEncoding, transport::Channel};
use tonic_types::StatusExt as _;
use v1::{
    invoice_service_client::InvoiceServiceClient, platform_service_client::PlatformServiceClient,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_carries_its_certificate_its_bytes_and_its_deadline_and_gets_a_request_id() {
    let server = Server::start(Limits::default()).await;
    let pair = server.ca.issue("platform-a", 2090);
    let channel = server.channel(&tls_of(&server.ca.pem(), &pair)).await;
    let mut client = InvoiceServiceClient::new(channel);

    let message = draft("S1", "hello".into());
    let len = prost::Message::encoded_len(&message);
    let response = client.issue_invoice(message).await.unwrap();
    let id = response.metadata().get(REQUEST_ID_HEADER).unwrap().to_str().unwrap().to_owned();
    assert_eq!(id.len(), 16);
    let echoed = echo(response.into_inner().outcome);
    assert_eq!(echoed.code, key_of(&pair).hex());
    assert_eq!((echoed.number, echoed.reason.as_str()), (len.to_string(), "hello"));

    let mut request =
        Request::new(v1::ResolveInvoiceRequest { taxpayer_id: "T".into(), serial: "S2".into() });
    request.set_timeout(Duration::from_secs(30));
    let resolved = echo(client.resolve_invoice(request).await.unwrap().into_inner().outcome);
    assert_eq!((resolved.code.as_str(), resolved.number.as_str()), ("T", "29950"));

    let refusal = client.get_invoice(v1::GetInvoiceRequest::default()).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::NotFound, "NOT_FOUND"));
    let other = refusal.metadata().get(REQUEST_ID_HEADER).expect("refusals carry one too");
    assert_ne!(other.to_str().unwrap(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_certificate_under_our_ca_reads_why_it_is_refused() {
    let server = Server::start(Limits::default()).await;
    let mut client = PlatformServiceClient::new(server.channel(&server.client_tls("nobody")).await);
    let refusal = client.get_self(v1::GetSelfRequest {}).await.unwrap_err();
    let expect = (Code::Unauthenticated, "PLATFORM_CERT_UNKNOWN");
    assert_eq!((refusal.code(), reason(&refusal).as_str()), expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_handshake_is_counted_with_its_reason() {
    let server = Server::start(Limits::default()).await;
    let (address, ca) = (server.address.to_string(), server.ca.pem());

    let before = refused("not_tls");
    let mut garbage = TcpStream::connect(&address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    closes(garbage).await;
    eventually("not_tls is counted", || refused("not_tls") > before).await;

    let before = refused("no_certificate");
    let config = raw_config(&server, &rustls::version::TLS13).with_no_client_auth();
    assert!(raw_client(&server, Arc::new(config)).await.is_err());
    eventually("no_certificate is counted", || refused("no_certificate") > before).await;

    let (foreign_ca, namesake_ca) = (Ca::new("another CA"), Ca::new("our CA"));
    let foreign = foreign_ca.issue("foreign", 2090);
    // A CA made anew under the old name: the issuer is found, the signature is not its own.
    let namesake = namesake_ca.issue("namesake", 2090);
    let expired = server.ca.issue("expired", 2021);
    for (reason, pair) in
        [("unknown_ca", &foreign), ("bad_certificate", &namesake), ("expired", &expired)]
    {
        let before = refused(reason);
        // In TLS 1.3 the client may believe that it is connected; its first call tells.
        if let Ok(channel) = channel(&address, "localhost", &tls_of(&ca, pair)).await {
            let mut client = InvoiceServiceClient::new(channel);
            let call = client.issue_invoice(draft("S", String::new())).await;
            assert!(call.is_err(), "{reason}");
        }
        eventually(reason, || refused(reason) > before).await;
    }

    let before = refused("other");
    let mut http1 = connect(&address, "localhost", &server.client_tls("http1")).await.unwrap();
    http1.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    http1.flush().await.unwrap();
    eventually("a caller without HTTP/2 is counted", || refused("other") > before).await;
    assert!(server.api.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_resumed() {
    let server = Server::start(Limits::default()).await;
    let pair = server.ca.issue("again", 2090);
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let certificates = vec![CertificateDer::from(pair.der())];
    // rustls's client keeps whatever tickets it gets and uses them.
    let config = raw_config(&server, &rustls::version::TLS13)
        .with_client_auth_cert(certificates, key)
        .unwrap();
    let config = Arc::new(config);
    for _ in 0..3 {
        let stream = raw_client(&server, Arc::clone(&config)).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_handshake_times_out_while_others_work() {
    // Short, and yet enough for those who do speak.
    let limits = Limits { handshake_timeout: Duration::from_secs(4), ..Limits::default() };
    let server = Server::start(limits).await;
    let before = refused("timeout");
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[0x16]).await.unwrap();
    // This one finishes TLS and then never says that it speaks HTTP/2.
    let tls = server.client_tls("mute");
    let mut mute = connect(&server.address.to_string(), "localhost", &tls).await.unwrap();
    let mut client = server.client("busy").await;
    client.issue_invoice(draft("S", String::new())).await.unwrap();
    closes(silent).await;
    closes(slow).await;
    let mut rest = Vec::new();
    drop(tokio::time::timeout(BOUND, mute.read_to_end(&mut rest)).await.unwrap());
    eventually("all three are counted", || refused("timeout") >= before + 3).await;
    client.issue_invoice(draft("S", String::new())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_and_connections_over_their_bound_are_closed_and_counted() {
    for limits in [
        Limits { handshakes_max: 1, ..Limits::default() },
        Limits { connections_max: 1, ..Limits::default() },
    ] {
        let server = Server::start(limits).await;
        let before = refused("too_many");
        let silent = TcpStream::connect(server.address).await.unwrap();
        closes(TcpStream::connect(server.address).await.unwrap()).await;
        assert!(refused("too_many") > before);
        drop(silent);
        let tls = server.client_tls("late");
        let mut tries = tokio::time::interval(Duration::from_millis(5));
        let bound = tokio::time::timeout(BOUND, async {
            while channel(&server.address.to_string(), "localhost", &tls).await.is_err() {
                tries.tick().await;
            }
        });
        bound.await.expect("a place that is free again is given away");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_oversized_messages_are_refused_and_the_connection_lives() {
    let server = Server::start(Limits::default()).await;
    let channel = server.channel(&server.client_tls("broken")).await;
    let mut client = InvoiceServiceClient::new(channel.clone());

    let long = client.issue_invoice(draft("S", "x".repeat(2 << 20))).await.unwrap_err();
    let mut packing = client.clone().send_compressed(CompressionEncoding::Gzip);
    let bomb = packing.issue_invoice(draft("S", "x".repeat(2 << 20))).await.unwrap_err();
    let broken = wrong_message(channel.clone()).await.unwrap_err();
    for (what, status) in [("long", long), ("bomb", bomb), ("broken", broken)] {
        let found = (status.code(), reason(&status));
        assert_eq!(found, (Code::InvalidArgument, "MALFORMED_MESSAGE".into()), "{what}: {status}");
    }
    assert!(server.api.seen.lock().unwrap().is_empty(), "no handler saw them");

    let before = metric("skproxy_listener_panics_total");
    let panicked = client.issue_invoice(draft("panic", String::new())).await.unwrap_err();
    assert_eq!((panicked.code(), reason(&panicked).as_str()), (Code::Internal, "INTERNAL"));
    assert!(metric("skproxy_listener_panics_total") > before);

    let request = v1::WatchDeliveriesRequest::default();
    let unbuilt = client.watch_deliveries(request).await.unwrap_err();
    assert_eq!((unbuilt.code(), reason(&unbuilt).as_str()), (Code::Unimplemented, "NOT_BUILT"));

    let packed = packing.issue_invoice(draft("S", "x".repeat(100_000))).await.unwrap();
    assert_eq!(echo(packed.into_inner().outcome).reason.len(), 100_000);
    assert_eq!(server.listener.connections().list().len(), 1, "it was one connection throughout");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_tell_what_is_served() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let server = Server::start(Limits::default()).await;
    let channel = server.channel(&server.client_tls("probe")).await;
    let mut health = HealthClient::new(channel.clone());
    let mut ask = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.unwrap().into_inner().status()
    };
    assert_eq!(ask("").await, ServingStatus::NotServing);
    server.health.serving().await;
    assert_eq!(ask("").await, ServingStatus::Serving);
    assert_eq!(ask("skproxy.v1.InvoiceService").await, ServingStatus::Serving);
    server.health.not_serving().await;
    assert_eq!(ask("skproxy.v1.InvoiceService").await, ServingStatus::NotServing);

    let listed = reflected(channel).await;
    for name in ["skproxy.v1.InvoiceService", "skproxy.v1.PlatformService", "grpc.health.v1.Health"]
    {
        assert!(listed.iter().any(|listed| listed == name), "{name} is missing: {listed:?}");
    }
    assert!(!listed.iter().any(|name| name.contains("admin")), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_a_good_certificate_and_leaves_a_bad_one() {
    let server = Server::start(Limits::default()).await;
    let files = server.ca.issue("server", 2090);
    assert!(server.tls.reload_if_changed().unwrap(), "the files changed after the start");
    assert!(!server.tls.reload_if_changed().unwrap(), "they did not change again");
    let mut client = server.client("steady").await;
    client.issue_invoice(draft("S1", String::new())).await.unwrap();
    let in_force = shown(&server).await;
    assert_eq!(in_force, files.der());

    let failed = "skproxy_listener_certificate_reloads_total{result=\"failed\"}";
    let before = metric(failed);
    let next = server.ca.issue("next", 2090);
    // Half of a change: the new certificate, the old key.
    fs::copy(&next.certificate, &files.certificate).unwrap();
    assert!(server.tls.reload_if_changed().is_err());
    fs::write(&files.certificate, "no certificate").unwrap();
    assert!(server.tls.reload().is_err());
    fs::remove_file(&files.key).unwrap();
    assert!(server.tls.reload_if_changed().is_err());
    assert_eq!(metric(failed), before + 3);
    assert_eq!(shown(&server).await, in_force, "the old one stays in use");

    fs::copy(&next.certificate, &files.certificate).unwrap();
    fs::copy(&next.key, &files.key).unwrap();
    assert!(server.tls.reload_if_changed().unwrap());
    assert_eq!(shown(&server).await, next.der());
    client.issue_invoice(draft("S2", String::new())).await.expect("open connections stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_with_large_messages_all_end() {
    let server = Server::start(Limits::default()).await;
    let client = server.client("many").await;
    let mut calls = JoinSet::new();
    for number in 0..200_usize {
        let mut client = client.clone();
        calls.spawn(async move {
            let len = 1 + (number * 7919) % 300_000;
            let message = draft(&format!("S{number}"), "x".repeat(len));
            let answer = client.issue_invoice(message).await.unwrap().into_inner();
            assert_eq!(echo(answer.outcome).reason.len(), len);
        });
    }
    let all = tokio::time::timeout(BOUND, calls.join_all());
    assert_eq!(all.await.expect("no stream is stuck").len(), 200);
    assert_eq!(server.listener.connections().count(), 1);
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Waits until the peer closes, for whatever reason it gives.
async fn closes(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(BOUND, socket.read_to_end(&mut rest)).await;
    drop(closed.expect("the server closes it"));
}

/// Connects with a configuration of its own and reads until the server closes or says something.
async fn raw_client(server: &Server, config: Arc<rustls::ClientConfig>) -> Raw {
    raw_client_of(&server.address.to_string(), config).await
}

/// A client's first bytes and the server's.
pub(crate) async fn raw_client_of(address: &str, config: Arc<rustls::ClientConfig>) -> Raw {
    let socket = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, socket).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    // The server's settings come after any ticket.
    stream.read_u8().await?;
    Ok(stream)
}

pub(crate) type Raw = io::Result<tokio_rustls::client::TlsStream<TcpStream>>;

pub(crate) type Wanted =
    rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn raw_config(server: &Server, version: &'static rustls::SupportedProtocolVersion) -> Wanted {
    raw_config_of(&server.ca.pem(), version)
}

pub(crate) fn raw_config_of(
    ca: &std::path::Path,
    version: &'static rustls::SupportedProtocolVersion,
) -> Wanted {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
}

/// Sends another call's message to IssueInvoice.
pub(crate) async fn wrong_message(channel: Channel) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    // As a nested message: field 15, 122 bytes of which there are none.
    let message = v1::GetInvoiceRequest { taxpayer_id: "z".repeat(2), serial: String::new() };
    let path = http::uri::PathAndQuery::from_static("/skproxy.v1.InvoiceService/IssueInvoice");
    let codec = tonic_prost::ProstCodec::<_, v1::IssueInvoiceResponse>::default();
    grpc.unary(Request::new(message), path, codec).await.map(drop)
}

/// The services that reflection lists.
async fn reflected(channel: Channel) -> Vec<String> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = tonic::codegen::tokio_stream::once(request);
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    match answers.message().await.unwrap().and_then(|answer| answer.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("no list: {other:?}"),
    }
}

/// The certificate that a new connection is shown, DER.
async fn shown(server: &Server) -> Vec<u8> {
    let tls = server.client_tls("looking");
    let io = connect(&server.address.to_string(), "localhost", &tls).await.unwrap();
    io.get_ref().get_ref().1.peer_certificates().unwrap()[0].to_vec()
}
