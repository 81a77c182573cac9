//! `skproxy demo`: development CA, acceptance simulator and proxy on loopback; issues an invoice
//! through the real mutual-TLS port and waits for its receipt.

use super::{
    Exit,
    certs::{self, DevPki, Existing},
    client::{self, Connection},
    output::{self, Format, Names},
};
use crate::{
    admin,
    authority::{AuthoritySim, Options as SimOptions, RunningAuthority, Script, TlsFiles},
    clock::{self, Clock},
    config::{AnswerFiles, Config, DeliverySettings, Limits, Log, Tls, UpstreamTls},
    contract::sample::{self, SELLER},
    daemon::{self, Daemon},
    delivery::upstream::{SegmentRequest, Upstream},
    metrics,
    model::{InvoiceNumber, Kind},
    pb::{admin::v1 as operate, v1 as pb},
    registry::Route,
    transport::ClientTls,
};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Names of what the demo registers. All made up.
const PLATFORM: &str = "DEMO-PLATFORM";
const DEVICE: &str = "DEMO-DEVICE-1";
const MACHINE_NUMBER: &str = "000000000001";
const PROVINCE: &str = "44";
/// Numbers that the demo asks for at a time, the most that the contract allows.
const SEGMENT_LEN: u32 = 100_000;
/// How long the receipt may take.
const RECEIPT_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at the receipt.
const RECEIPT_LOOK: Duration = Duration::from_millis(50);
/// Room that a Unix socket path has, its end included. Unit: bytes.
const SOCKET_PATH_LEN_MAX: usize = 108;

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Keep everything here and go on with it next time; a temporary folder unless given
    #[arg(long)]
    dir: Option<PathBuf>,
    /// End after one invoice instead of staying up
    #[arg(long)]
    once: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(arguments: DemoArguments) -> Result<Exit> {
    super::quiet_log();
    let temporary;
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => {
            temporary = tempfile::tempdir().context("make a temporary folder")?;
            temporary.path().to_owned()
        }
    };
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let dir = std::path::absolute(&dir)?;
    let demo = Demo::start(&dir).await?;
    let shown = demo.issue_first(&arguments).await;
    if shown.is_ok() && !arguments.once {
        super::asked_to_end().await?;
    }
    demo.end().await?;
    shown
}

/// Everything that runs.
struct Demo {
    dir: PathBuf,
    daemon: Daemon,
    authority: RunningAuthority,
    admin_socket: PathBuf,
    client: certs::CertFiles,
    ca: PathBuf,
    /// Holds a socket folder of our own when the demo's path is too long for a socket.
    _socket_dir: Option<tempfile::TempDir>,
}

impl Demo {
    async fn start(dir: &Path) -> Result<Self> {
        let pki_dir = dir.join("pki");
        let pki = DevPki::at(&pki_dir);
        if !pki.ca.cert.exists() {
            certs::make_dev_pki(&pki_dir, &[], Existing::Replace)?;
        }
        let client = certs::CertFiles {
            cert: pki_dir.join("platform.pem"),
            key: pki_dir.join("platform.key"),
        };
        if !client.cert.exists() || !client.key.exists() {
            certs::issue_client(&pki_dir, "platform", Existing::Replace)?;
        }
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let authority = AuthoritySim::start(SimOptions {
            address: loopback,
            dir: dir.join("authority"),
            tls: TlsFiles {
                client_ca: pki.ca.cert.clone(),
                cert: pki.authority.cert.clone(),
                key: pki.authority.key.clone(),
            },
            region: "4400".into(),
            clock: Clock::system(),
            script: Script::default(),
        })
        .await?;
        let (admin_socket, socket_dir) = admin_socket(dir)?;
        let config = config(dir, &pki, loopback, &admin_socket)?;
        let daemon = daemon::start(&config, metrics::install()?, Clock::system()).await?;
        if let Some(why) = &daemon.report.read_only {
            bail!("{} cannot go on: {why}", dir.display());
        }
        let demo = Self {
            dir: dir.to_owned(),
            daemon,
            authority,
            admin_socket,
            client,
            ca: pki.ca.cert.clone(),
            _socket_dir: socket_dir,
        };
        demo.register(&pki).await?;
        Ok(demo)
    }

    /// Registers platform, taxpayer, device and numbers through the operators' socket, as far as a
    /// run before has not done it.
    async fn register(&self, pki: &DevPki) -> Result<()> {
        let mut admin = admin::client::connect(&self.admin_socket).await?;
        let route = Route {
            province: "*".into(),
            address: self.authority.address.to_string(),
            server_name: "localhost".into(),
            receipt_key: self.authority.receipt_key_der.clone(),
        };
        admin
            .add_route(operate::AddRouteRequest {
                route: Some(operate::Route {
                    province: route.province.clone(),
                    address: route.address.clone(),
                    server_name: route.server_name.clone(),
                    receipt_key: route.receipt_key.clone(),
                }),
            })
            .await?;
        let registry = self.daemon.numbering().registry();
        if registry.platform_by_id(PLATFORM).is_none() {
            self.register_parties(&mut admin).await?;
        }
        let proxy = &pki.proxy_client;
        let tls = ClientTls::load(&pki.ca.cert, &proxy.cert, &proxy.key)?;
        self.stock_up(&mut admin, &Upstream::new(&route, &tls)?).await
    }

    async fn register_parties(&self, admin: &mut Admin) -> Result<()> {
        admin
            .add_platform(operate::AddPlatformRequest {
                platform_id: PLATFORM.into(),
                name: "示例电子发票服务平台".into(),
            })
            .await?;
        admin
            .add_certificate(operate::AddCertificateRequest {
                platform_id: PLATFORM.into(),
                certificate: super::operate::read_certificate(&self.client.cert)?,
            })
            .await?;
        let taxpayer = operate::Taxpayer {
            taxpayer_id: SELLER.taxpayer_id.into(),
            name: SELLER.name.into(),
            province: PROVINCE.into(),
            ..Default::default()
        };
        admin.add_taxpayer(operate::AddTaxpayerRequest { taxpayer: Some(taxpayer) }).await?;
        let binding = operate::Binding {
            platform_id: PLATFORM.into(),
            taxpayer_id: SELLER.taxpayer_id.into(),
            operations: Vec::new(),
        };
        admin.add_binding(operate::AddBindingRequest { binding: Some(binding) }).await?;
        let device = operate::Device {
            device_id: DEVICE.into(),
            taxpayer_id: SELLER.taxpayer_id.into(),
            machine_number: MACHINE_NUMBER.into(),
            backend: operate::DeviceBackend::SoftwareP256.into(),
            kinds: vec![pb::InvoiceKind::ENormal.into()],
            profile: "baiwang".into(),
            test: true,
            ..operate::Device::default()
        };
        admin.add_device(operate::AddDeviceRequest { device: Some(device) }).await?;
        Ok(())
    }

    /// Acquires a segment from the acceptance side when the device has no number left.
    async fn stock_up(&self, admin: &mut Admin, upstream: &Upstream) -> Result<()> {
        let request = operate::ListSeriesRequest { device_id: DEVICE.into() };
        let series = admin.list_series(request).await?.into_inner().series;
        if series.iter().any(|series| series.left > 0) {
            return Ok(());
        }
        let registry = self.daemon.numbering().registry();
        let device = registry.device_by_id(DEVICE).context("the demo's device is gone")?;
        upstream.register_device(device, SELLER.taxpayer_id).await?;
        let wanted = SegmentRequest {
            id: clock::random(),
            device: DEVICE.into(),
            kind: Kind::ENormal,
            count: SEGMENT_LEN,
        };
        let acquired = upstream.acquire(&wanted).await?;
        upstream.confirm_segment(wanted.id).await?;
        let segment = operate::Segment {
            device_id: DEVICE.into(),
            kind: pb::InvoiceKind::ENormal.into(),
            code: acquired.first.code.clone(),
            first: InvoiceNumber::number_text(&acquired.first),
            last: acquired.last.number_text(),
            left: 0,
        };
        admin.add_segment(operate::AddSegmentRequest { segment: Some(segment) }).await?;
        Ok(())
    }

    fn connection(&self, format: Format) -> Connection {
        Connection {
            address: self.daemon.platform_address.to_string(),
            server_name: None,
            ca: self.ca.clone(),
            cert: self.client.cert.clone(),
            key: self.client.key.clone(),
            format,
        }
    }

    /// Issues one invoice through the platform port, waits for its receipt, and prints what is to
    /// be seen.
    async fn issue_first(&self, arguments: &DemoArguments) -> Result<Exit> {
        let mut client = client::connect(&self.connection(arguments.format)).await?;
        let serial = format!("DEMO{}", clock::random_text(16));
        let draft = sample::draft(&serial, SELLER);
        let outcome = client::issue(&mut client, draft.clone()).await?;
        let mut issued = issued(outcome)?;
        let begun = clock::monotonic();
        while issued.delivery.as_ref().is_none_or(|delivery| delivery.receipt.is_none()) {
            ensure!(begun.elapsed() < RECEIPT_LIMIT, "no receipt after {RECEIPT_LIMIT:?}");
            tokio::time::sleep(RECEIPT_LOOK).await;
            let (taxpayer_id, serial) = (SELLER.taxpayer_id.into(), serial.clone());
            let answer = client.get_invoice(pb::GetInvoiceRequest { taxpayer_id, serial }).await?;
            issued = self::issued(answer.into_inner().outcome)?;
        }
        let draft_path = self.dir.join("draft.json");
        let json = output::to_json("skproxy.v1.InvoiceDraft", &draft, Names::Canonical)?;
        fs::write(&draft_path, format!("{json:#}\n"))?;
        self.show(arguments, &serial, &issued)?;
        Ok(Exit::Done)
    }

    fn client_command(&self) -> String {
        let quoted =
            |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        format!(
            "skproxy client issue --address {} --ca {} --cert {} --key {} --draft {} \
             --fresh-serial",
            self.daemon.platform_address,
            quoted(&self.ca),
            quoted(&self.client.cert),
            quoted(&self.client.key),
            quoted(&self.dir.join("draft.json")),
        )
    }

    fn show(&self, arguments: &DemoArguments, serial: &str, issued: &pb::Issued) -> Result<()> {
        let invoice = issued.invoice.clone().unwrap_or_default();
        let receipt = issued.delivery.clone().and_then(|delivery| delivery.receipt);
        let receipt = receipt.unwrap_or_default();
        let mut value = serde_json::json!({
            "outcome": "ISSUED",
            "serial": serial,
            "invoice_code": invoice.code,
            "invoice_number": invoice.number,
            "issue_time": invoice.issue_time,
            "check_code": invoice.check_code,
            "receipt": {"id": receipt.id, "index": receipt.index, "verified": receipt.verified},
        });
        if arguments.format == Format::Json {
            if !arguments.once
                && let (Some(shown), serde_json::Value::Object(more)) =
                    (value.as_object_mut(), self.addresses())
            {
                shown.extend(more);
            }
            return output::say_json(&value);
        }
        output::say(&format!(
            "ISSUED {} {} at {}\n  check code {}\n  receipt {} index {}, verified",
            invoice.code,
            invoice.number,
            invoice.issue_time,
            invoice.check_code,
            receipt.id,
            receipt.index
        ))?;
        if arguments.once {
            return Ok(());
        }
        output::say(&format!(
            "\nplatforms   {}\nlegacy      {}\nops         http://{}/metrics /readyz\n\
             admin       {}\nCA          {}\ncertificate {}\nkey         {}\n\n\
             another invoice:\n  {}\n\nCtrl-C ends it",
            self.daemon.platform_address,
            self.daemon.legacy_address.map_or_else(String::new, |address| format!(
                "https://{address}/SKServer/SKDo /interface"
            )),
            self.daemon.ops_address,
            self.admin_socket.display(),
            self.ca.display(),
            self.client.cert.display(),
            self.client.key.display(),
            self.client_command()
        ))
    }

    fn addresses(&self) -> serde_json::Value {
        serde_json::json!({
            "dir": self.dir,
            "pid": std::process::id(),
            "platform_address": self.daemon.platform_address.to_string(),
            "legacy_address": self.daemon.legacy_address.map(|address| address.to_string()),
            "ops_address": self.daemon.ops_address.to_string(),
            "authority_address": self.authority.address.to_string(),
            "admin_socket": self.admin_socket,
            "ca": self.ca,
            "client_certificate": self.client.cert,
            "client_key": self.client.key,
            "platform_id": PLATFORM,
            "taxpayer_id": SELLER.taxpayer_id,
            "seller_name": SELLER.name,
            "device_id": DEVICE,
            "client_command": self.client_command(),
        })
    }

    async fn end(self) -> Result<()> {
        self.daemon.drain().await;
        self.authority.stop().await?;
        Ok(())
    }
}

type Admin = operate::admin_service_client::AdminServiceClient<tonic::transport::Channel>;

fn issued(outcome: Option<pb::Outcome>) -> Result<pb::Issued> {
    match outcome.and_then(|outcome| outcome.result) {
        Some(pb::outcome::Result::Issued(issued)) => Ok(issued),
        other => bail!("the invoice was not issued: {other:?}"),
    }
}

/// The admin socket is in the demo's folder, or in a short one of its own when the path is too
/// long.
fn admin_socket(dir: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let path = dir.join("admin.sock");
    if path.as_os_str().len() < SOCKET_PATH_LEN_MAX {
        return Ok((path, None));
    }
    let short = tempfile::tempdir_in("/tmp").context("make a folder for the admin socket")?;
    Ok((short.path().join("admin.sock"), Some(short)))
}

fn config(dir: &Path, pki: &DevPki, loopback: SocketAddr, admin_socket: &Path) -> Result<Config> {
    let passphrase_file = dir.join("passphrase");
    if !passphrase_file.exists() {
        let mut options = fs::OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(&passphrase_file);
        std::io::Write::write_all(&mut file?, clock::random_text(32).as_bytes())?;
    }
    let data_dir = dir.join("data");
    Ok(Config {
        watermark_path: data_dir.join("watermark"),
        data_dir,
        platform_address: loopback,
        legacy_address: Some(loopback),
        ops_address: loopback,
        admin_socket: admin_socket.to_owned(),
        profiles_dir: None,
        tls: Tls {
            server_cert: pki.server.cert.clone(),
            server_key: pki.server.key.clone(),
            client_ca: pki.ca.cert.clone(),
        },
        // A folder of an earlier version has none.
        legacy_answer: pki.legacy_answer.cert.exists().then(|| AnswerFiles {
            cert: pki.legacy_answer.cert.clone(),
            key: pki.legacy_answer.key.clone(),
        }),
        upstream: UpstreamTls {
            ca: pki.ca.cert.clone(),
            cert: pki.proxy_client.cert.clone(),
            key: pki.proxy_client.key.clone(),
        },
        passphrase_file,
        limits: Limits::default(),
        store_reserve_bytes: 64 << 20,
        delivery: DeliverySettings { interval: Duration::from_millis(100), ..Default::default() },
        log: Log::default(),
        notes: Vec::new(),
    })
}
