//! Packages at the acceptance side: a package of batches is checked as a whole, then judged batch
//! by batch as over a line; the receipts go back in a file. Works on the books directly, whether
//! the simulator runs or not.

use super::{
    AuthorityError,
    batch::Orders,
    books::{Books, BooksError, Setting},
    receipt::ReceiptKey,
    script::Script,
    verify::RegisteredDevice,
};
use crate::{
    clock::Clock,
    package::{self, PackageError, Records, framed},
    pb::authority::v1::{PackageHeader, SubmitBatchRequest, package_record::Record},
};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    path::Path,
};

/// Why a package was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The simulator's directory.
    #[error(transparent)]
    Authority(AuthorityError),
    /// The package.
    #[error("read the package")]
    Package(#[source] PackageError),
    /// A file.
    #[error("{doing}")]
    File {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The books.
    #[error("judge the package")]
    Books(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What came of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedPackage {
    /// Batches judged.
    pub batches: u64,
    /// Receipts written.
    pub receipts: u64,
}

/// Judges every batch of a package with the books in `dir`, and writes their receipts to `out`. The
/// same package again gets the same receipts.
///
/// # Errors
/// When the package is not whole, nothing of it was judged. When anything else fails, the same
/// package can be handed in again.
pub fn import_package(
    package: &Path,
    dir: &Path,
    out: &Path,
    clock: &Clock,
) -> Result<ImportedPackage, ImportError> {
    let open = || {
        let doing = format!("open {}", package.display());
        let file = File::open(package).map_err(|source| ImportError::File { doing, source })?;
        Ok::<_, ImportError>(BufReader::new(file))
    };
    package::check(open()?, None).map_err(ImportError::Package)?;
    let receipt_key = ReceiptKey::open(dir).map_err(ImportError::Authority)?;
    // No code is handed out here: the region does not matter.
    let (script, region) = (Script::default(), "4400".to_owned());
    let (monitors, skew_s) = (script.monitors, script.clock_skew_s);
    let setting = Setting { clock: clock.clone(), region, monitors, skew_s };
    let books = Books::open(dir, receipt_key, setting);
    let mut books = books.map_err(failed)?;
    let written = |source| ImportError::File { doing: format!("write {}", out.display()), source };
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(written)?;
    let imported = judge(open()?, &mut books, &mut BufWriter::new(&mut file), &written)?;
    file.as_file().sync_all().map_err(written)?;
    file.persist(out).map_err(|error| written(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(written)?;
    Ok(imported)
}

fn failed(error: BooksError) -> ImportError {
    ImportError::Books(Box::new(error))
}

fn judge(
    from: impl io::Read,
    books: &mut Books,
    out: &mut impl io::Write,
    written: &impl Fn(io::Error) -> ImportError,
) -> Result<ImportedPackage, ImportError> {
    let mut records = Records::new(from);
    let header = records.header().map_err(ImportError::Package)?;
    let header = PackageHeader { statement_key: Vec::new(), ..header };
    out.write_all(&framed(Record::Header(header))).map_err(written)?;
    let mut imported = ImportedPackage { batches: 0, receipts: 0 };
    while let Some(record) = records.next_record().map_err(ImportError::Package)? {
        match record {
            Record::Device(device) => {
                let registered = RegisteredDevice {
                    taxpayer: device.taxpayer_id,
                    public_key: device.public_key,
                    draws_numbers: device.draws_numbers,
                };
                books.register(&device.device_id, &registered).map_err(failed)?;
            }
            Record::Batch(batch) => {
                let batch: SubmitBatchRequest = batch.batch.unwrap_or_default();
                let told = books.submit(&batch, Orders::default).map_err(failed)?;
                imported.batches = imported.batches.saturating_add(1);
                // One that came over the line before may still be being judged.
                let Some(receipt) = told.receipt else { continue };
                imported.receipts = imported.receipts.saturating_add(1);
                out.write_all(&framed(Record::Receipt(receipt))).map_err(written)?;
            }
            Record::Header(_) | Record::Receipt(_) | Record::Seal(_) => {}
        }
    }
    out.flush().map_err(written)?;
    Ok(imported)
}
