//! `skproxy outbox`: what is pending, and its way over an air gap. A package gets its name only
//! once it is whole and synced; until then it is FILE.part.

use super::{args::Target, line, refused, refused_json, report_args::OutboxCommand, show};
use crate::{
    admin::client::connect,
    cli::{
        Exit,
        output::{self, Format, Names},
    },
    package::Records,
    pb::{
        admin::v1 as pb,
        authority::v1::{Receipt, package_record::Record},
    },
};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};
use tonic::{Status, Streaming};

type Client = pb::admin_service_client::AdminServiceClient<tonic::transport::Channel>;

pub(super) async fn run(command: OutboxCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    match command {
        OutboxCommand::List { province } => list(&mut client, province, &target).await,
        OutboxCommand::Show { batch } => {
            let answer = client.get_outbox_batch(pb::GetOutboxBatchRequest { batch }).await;
            show("GetOutboxBatchResponse", answer, &target)
        }
        OutboxCommand::Key => {
            let answer = client.get_statement_key(pb::GetStatementKeyRequest {}).await;
            key(answer.map(tonic::Response::into_inner), &target)
        }
        OutboxCommand::Export { to, province } => export(&mut client, &to, province, &target).await,
        OutboxCommand::Import { file } => import(&mut client, &file, &target).await,
    }
}

async fn list(client: &mut Client, province: String, target: &Target) -> Result<Exit> {
    let answer = client.list_outbox(pb::ListOutboxRequest { province }).await;
    let mut stream = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return refused(&status, target),
    };
    let mut out = BufWriter::new(std::io::stdout());
    let (mut any, mut failed) = (false, None);
    if target.format == Format::Json {
        write!(out, "{{\"pending\":[").context("write to stdout")?;
    }
    loop {
        let row = match stream.message().await {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(status) => {
                failed = Some(status);
                break;
            }
        };
        let row = output::to_json("skproxy.admin.v1.ListOutboxResponse", &row, Names::Proto)?;
        let comma = if std::mem::replace(&mut any, true) { "," } else { "" };
        match target.format {
            Format::Json => write!(out, "{comma}\n{row}"),
            Format::Text => writeln!(out, "{}", line(&row)),
        }
        .context("write to stdout")?;
    }
    match (target.format, &failed) {
        (Format::Json, None) => writeln!(out, "\n]}}"),
        (Format::Json, Some(status)) => {
            writeln!(out, "\n],\"refused\":{}}}", refused_json(status))
        }
        (Format::Text, None) if !any => writeln!(out, "none"),
        (Format::Text, _) => Ok(()),
    }
    .and_then(|()| out.flush())
    .context("write to stdout")?;
    let Some(status) = failed else { return Ok(Exit::Done) };
    eprintln!("REFUSED {}", output::plain(status.message()));
    Ok(Exit::Refused)
}

fn key(answer: Result<pb::GetStatementKeyResponse, Status>, target: &Target) -> Result<Exit> {
    use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};
    let der = match answer {
        Ok(answer) => answer.public_key,
        Err(status) => return refused(&status, target),
    };
    let public = p256::PublicKey::from_public_key_der(&der).context("read the statement key")?;
    let pem = public.to_public_key_pem(LineEnding::LF).context("print the statement key")?;
    let hash = crate::convert::hex(&crate::convert::sha256(&der));
    match target.format {
        Format::Text => output::say(&pem)?,
        Format::Json => output::say_json(&json!({"public_key": pem, "sha256": hash}))?,
    }
    Ok(Exit::Done)
}

/// A file that gets its name only when it is whole.
struct Part {
    path: PathBuf,
    to: PathBuf,
    out: Option<BufWriter<File>>,
}

impl Part {
    /// Begins anew: what an interrupted run left is cut off, since the same batches come again.
    fn begin(to: &Path) -> Result<Self> {
        if to.exists() {
            bail!("{} exists; a package is never replaced: choose another name", to.display());
        }
        let mut path = to.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let begin = || -> std::io::Result<File> {
            let file = File::options().create(true).write(true).truncate(false).open(&path)?;
            file.try_lock().map_err(std::io::Error::from)?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = begin().with_context(|| format!("begin {}", path.display()))?;
        Ok(Self { path, to: to.to_owned(), out: Some(BufWriter::new(file)) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let out = self.out.as_mut().context("the package is written already")?;
        out.write_all(bytes).with_context(|| format!("write {}", self.path.display()))
    }

    /// Syncs it, gives it its name, and syncs that.
    fn finish(mut self) -> Result<()> {
        let what = || format!("finish {}", self.path.display());
        let out = self.out.take().context("the package is written already")?;
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error);
        let file = file.with_context(what)?;
        file.sync_all().with_context(what)?;
        fs::rename(&self.path, &self.to).with_context(what)?;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).with_context(what)?;
        folder.sync_all().with_context(what)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // What is still in memory is of no use, and a full disk takes no more of it.
            drop(out.into_parts());
            // It may be gone, or the disk read-only: then it stays, under its name of a part.
            drop(fs::remove_file(&self.path));
        }
    }
}

async fn export(client: &mut Client, to: &Path, province: String, target: &Target) -> Result<Exit> {
    let mut part = Part::begin(to)?;
    let answer = client.export_outbox(pb::ExportOutboxRequest { province }).await;
    let stream = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return refused(&status, target),
    };
    let again = "nothing is lost: its batches stay pending; run the command again";
    let exported = match received(stream, &mut part).await {
        Ok(Ok(exported)) => exported,
        Ok(Err(status)) => return refused(&status, target),
        Err(error) => return Err(error.context(format!("the package was not written; {again}"))),
    };
    if exported.batches > 0 {
        part.finish().with_context(|| format!("the package was not finished; {again}"))?;
    } else {
        eprintln!("nothing may be told now; no file was written");
    }
    super::show_message("Exported", &exported, target)
}

/// Writes every chunk; answers what the daemon says at the end.
async fn received(
    mut stream: Streaming<pb::ExportOutboxResponse>,
    part: &mut Part,
) -> Result<Result<pb::Exported, Status>> {
    loop {
        match stream.message().await {
            Ok(Some(pb::ExportOutboxResponse { exported: Some(exported), .. })) => {
                return Ok(Ok(exported));
            }
            Ok(Some(response)) => part.write(&response.chunk)?,
            Ok(None) => bail!("the daemon ended before the package was whole"),
            Err(status) => return Ok(Err(status)),
        }
    }
}

async fn import(client: &mut Client, path: &Path, target: &Target) -> Result<Exit> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut records = Records::new(BufReader::new(file));
    records.header()?;
    let (mut told, mut good) = (Vec::new(), true);
    let broken = loop {
        let receipt = match records.next_record() {
            Ok(Some(Record::Receipt(receipt))) => receipt,
            Ok(Some(_)) => break Some("it holds more than receipts".to_owned()),
            Ok(None) => break None,
            Err(error) => break Some(crate::refusal::chain(&error)),
        };
        let row = match take(client, receipt).await {
            Ok(row) => row,
            Err(status) => {
                // Whatever was taken stays; the same file can be handed in again.
                rows(&told, target)?;
                return refused(&status, target);
            }
        };
        good &= row.fate() != pb::ReceiptFate::Refused;
        told.push(output::to_json("skproxy.admin.v1.ImportReceiptResponse", &row, Names::Proto)?);
    };
    rows(&told, target)?;
    if let Some(broken) = &broken {
        eprintln!("the rest of the file is not read: {}", output::plain(broken));
    }
    Ok(if good && broken.is_none() { Exit::Done } else { Exit::Refused })
}

async fn take(client: &mut Client, receipt: Receipt) -> Result<pb::ImportReceiptResponse, Status> {
    let request = pb::ImportReceiptRequest { receipt: Some(receipt) };
    client.import_receipt(request).await.map(tonic::Response::into_inner)
}

/// A line for each receipt: there are few of them, one for a thousand invoices.
fn rows(told: &[Value], target: &Target) -> Result<()> {
    match target.format {
        Format::Json => output::say_json(&json!({ "receipts": told })),
        Format::Text if told.is_empty() => output::say("none"),
        Format::Text => told.iter().try_for_each(|row| output::say(&line(row))),
    }
}
