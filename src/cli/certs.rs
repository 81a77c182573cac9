//! `skproxy certs`: a throw-away CA for development, demos and tests. P-256 throughout.
//!
//! It never replaces a file unasked, writes each file whole or not at all, and keeps keys at mode
//! 0600. What it makes proves nothing in production.

use crate::clock::Clock;
use chrono::{Datelike as _, Days, NaiveDate};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Names in every server certificate.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Leaves last a year, long enough for a development machine. Unit: days.
const LEAF_DAYS: u64 = 365;
/// The CA outlives its leaves. Unit: days.
const CA_DAYS: u64 = 3650;
/// Longest name of a client. Unit: bytes; the limit of a common name (RFC 5280, ub-common-name).
const NAME_LEN_MAX: usize = 64;
/// The CA's and the servers' own names.
const RESERVED: [&str; 5] = ["ca", "server", "authority", "proxy-client", "legacy-answer"];

/// `skproxy certs …`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CertsCommand {
    /// Make a CA and the certificates of proxy, acceptance simulator, proxy client and answers
    Init {
        /// Where to write them
        #[arg(long)]
        dir: PathBuf,
        /// Host name or address that the servers get besides localhost; may be repeated
        #[arg(long = "name")]
        names: Vec<String>,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
    /// Issue a platform's client certificate
    Issue {
        /// Where the CA is
        #[arg(long)]
        dir: PathBuf,
        /// Name of the platform; becomes the file's name
        #[arg(long)]
        name: String,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
}

/// Runs `skproxy certs …`.
pub(super) fn run(command: &CertsCommand) -> anyhow::Result<super::Exit> {
    let existing = |force: bool| if force { Existing::Replace } else { Existing::Keep };
    let made = match command {
        CertsCommand::Init { dir, names, force } => {
            make_dev_pki(dir, names, existing(*force)).map(|pki| {
                vec![pki.ca, pki.server, pki.authority, pki.proxy_client, pki.legacy_answer]
            })
        }
        CertsCommand::Issue { dir, name, force } => {
            issue_client(dir, name, existing(*force)).map(|files| vec![files])
        }
    };
    match made {
        Ok(files) => {
            for files in files {
                super::output::say(&format!("{}  {}", files.cert.display(), files.key.display()))?;
            }
            Ok(super::Exit::Done)
        }
        Err(
            error @ (CertsError::Exists { .. } | CertsError::NoCa { .. } | CertsError::Name { .. }),
        ) => {
            eprintln!("skproxy: {error}");
            Ok(super::Exit::Usage)
        }
        Err(error) => Err(error.into()),
    }
}

/// What to do with files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Stop before anything is written.
    Keep,
    /// Replace them (`--force`).
    Replace,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// The key, PKCS#8, mode 0600.
    pub key: PathBuf,
}

impl CertFiles {
    fn named(dir: &Path, name: &str) -> Self {
        Self { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
    }
}

/// Where the files of a development CA are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevPki {
    /// The CA.
    pub ca: CertFiles,
    /// What the proxy shows to platforms.
    pub server: CertFiles,
    /// What the acceptance simulator shows to proxies.
    pub authority: CertFiles,
    /// Who the proxy is to the acceptance side.
    pub proxy_client: CertFiles,
    /// What signs the legacy interface's answers in CA mode.
    pub legacy_answer: CertFiles,
}

impl DevPki {
    /// The files of the CA in `dir`, whether or not they exist.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self {
            ca: CertFiles::named(dir, "ca"),
            server: CertFiles::named(dir, "server"),
            authority: CertFiles::named(dir, "authority"),
            proxy_client: CertFiles::named(dir, "proxy-client"),
            legacy_answer: CertFiles::named(dir, "legacy-answer"),
        }
    }
}

/// Why certificates were not made; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file would have been replaced.
    #[error("{} exists; add --force to replace it, or choose another directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// No CA to issue from.
    #[error("no CA in {}; run `skproxy certs init --dir {}` first", dir.display(), dir.display())]
    NoCa {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The name cannot be a file name.
    #[error(
        "name {name:?} cannot be used; take 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', beginning \
         with a letter or digit, and none of ca, server, authority, proxy-client, legacy-answer"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A file was not read.
    #[error("read {}; check that you may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was not written.
    #[error("write {}; check that the directory may be written and has space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate was not made.
    #[error("make the certificate of {name}; check the host names and the CA's files")]
    Make {
        /// Whose.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// Makes a CA in `dir` and the certificates of a whole development set-up. `names` are host names
/// or addresses that the servers get besides localhost.
///
/// # Errors
/// When a file exists (nothing is written then), a name is none, or a file cannot be written.
pub fn make_dev_pki(
    dir: &Path,
    names: &[String],
    existing: Existing,
) -> Result<DevPki, CertsError> {
    let pki = DevPki::at(dir);
    let all = [&pki.ca, &pki.server, &pki.authority, &pki.proxy_client, &pki.legacy_answer];
    refuse_existing(&all, existing)?;
    fs::create_dir_all(dir).map_err(write_error(dir))?;

    let key = new_key("ca")?;
    let params = ca_params()?;
    let cert = params.self_signed(&key).map_err(make_error("ca"))?;
    save(&pki.ca, &cert.pem(), &key, existing)?;

    let issuer = Issuer::new(params, key);
    let hosts: Vec<String> =
        LOCAL_NAMES.into_iter().map(str::to_owned).chain(names.iter().cloned()).collect();
    let server = [ExtendedKeyUsagePurpose::ServerAuth];
    let client = [ExtendedKeyUsagePurpose::ClientAuth];
    // What `openssl cms -verify` asks of a signer unless told otherwise.
    let answer = [ExtendedKeyUsagePurpose::EmailProtection];
    for (files, name, hosts, usage) in [
        (&pki.server, "server", hosts.clone(), server.clone()),
        (&pki.authority, "authority", hosts, server),
        (&pki.proxy_client, "proxy-client", Vec::new(), client),
        (&pki.legacy_answer, "legacy-answer", Vec::new(), answer),
    ] {
        let key = new_key(name)?;
        let params = leaf_params(name, hosts, &usage)?;
        let cert = params.signed_by(&key, &issuer).map_err(make_error(name))?;
        save(files, &cert.pem(), &key, existing)?;
    }
    Ok(pki)
}

/// Issues a platform's client certificate from the CA in `dir`: `NAME.pem` and `NAME.key` beside
/// it.
///
/// # Errors
/// When there is no CA, the name cannot be a file name or is one of the CA's own, or a file exists.
pub fn issue_client(dir: &Path, name: &str, existing: Existing) -> Result<CertFiles, CertsError> {
    if !is_usable(name) {
        return Err(CertsError::Name { name: name.to_owned() });
    }
    let files = CertFiles::named(dir, name);
    refuse_existing(&[&files], existing)?;
    let issuer = load_ca(dir)?;
    let key = new_key(name)?;
    let params = leaf_params(name, Vec::new(), &[ExtendedKeyUsagePurpose::ClientAuth])?;
    let cert = params.signed_by(&key, &issuer).map_err(make_error(name))?;
    save(&files, &cert.pem(), &key, existing)?;
    Ok(files)
}

fn is_usable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

fn refuse_existing(all: &[&CertFiles], existing: Existing) -> Result<(), CertsError> {
    let paths = all.iter().flat_map(|files| [&files.cert, &files.key]);
    match existing {
        Existing::Replace => Ok(()),
        Existing::Keep => match paths.into_iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) => Err(CertsError::Exists { path: path.clone() }),
            None => Ok(()),
        },
    }
}

fn load_ca(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertsError> {
    let ca = DevPki::at(dir).ca;
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CertsError::NoCa { dir: dir.to_owned() },
            _ => CertsError::Read { path: path.to_owned(), source },
        })
    };
    let key = KeyPair::from_pem(&read(&ca.key)?).map_err(make_error("ca"))?;
    Issuer::from_ca_cert_pem(&read(&ca.cert)?, key).map_err(make_error("ca"))
}

fn ca_params() -> Result<CertificateParams, CertsError> {
    let mut params = params("ca", "skproxy development CA", Vec::new(), CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(
    name: &str,
    hosts: Vec<String>,
    usage: &[ExtendedKeyUsagePurpose],
) -> Result<CertificateParams, CertsError> {
    let mut params = params(name, name, hosts, LEAF_DAYS)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usage.to_vec();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(
    name: &str,
    common_name: &str,
    hosts: Vec<String>,
    days: u64,
) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(hosts).map_err(make_error(name))?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day early, so that neither time zones nor a slow clock make a fresh certificate invalid.
    let first = Clock::system().now().day() - Days::new(1);
    let part = |value: u32| u8::try_from(value).expect("a month or day is below 32");
    let midnight =
        |day: NaiveDate| rcgen::date_time_ymd(day.year(), part(day.month()), part(day.day()));
    params.not_before = midnight(first);
    params.not_after = midnight(first + Days::new(days.saturating_add(1)));
    Ok(params)
}

fn new_key(name: &str) -> Result<KeyPair, CertsError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make_error(name))
}

/// The key goes first: a certificate without its key would look complete.
fn save(
    files: &CertFiles,
    cert: &str,
    key: &KeyPair,
    existing: Existing,
) -> Result<(), CertsError> {
    let key = crate::secret::Secret::new(key.serialize_pem());
    write_whole(&files.key, key.expose(), 0o600, existing)?;
    write_whole(&files.cert, cert, 0o644, existing)
}

/// Writes a file under another name, syncs it and moves it into place.
fn write_whole(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), CertsError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file =
            tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        match existing {
            Existing::Keep => file.persist_noclobber(path)?,
            Existing::Replace => file.persist(path)?,
        };
        File::open(dir)?.sync_all()
    };
    write().map_err(write_error(path))
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> CertsError {
    move |source| CertsError::Write { path: path.to_owned(), source }
}

fn make_error(name: &str) -> impl FnOnce(rcgen::Error) -> CertsError {
    move |source| CertsError::Make { name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn openssl(arguments: &[&str]) -> (bool, String) {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn openssl_accepts_every_certificate_for_its_purpose_only() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["proxy.test".to_owned(), "192.0.2.7".to_owned()];
        let pki = make_dev_pki(dir.path(), &names, Existing::Keep).unwrap();
        let shop = issue_client(dir.path(), "shop", Existing::Keep).unwrap();
        let ca = text(&pki.ca.cert);
        for (files, purpose, expect) in [
            (&pki.server, "sslserver", true),
            (&pki.server, "sslclient", false),
            (&pki.authority, "sslserver", true),
            (&pki.proxy_client, "sslclient", true),
            (&pki.proxy_client, "sslserver", false),
            (&pki.legacy_answer, "smimesign", true),
            (&pki.legacy_answer, "sslclient", false),
            (&shop, "sslclient", true),
            (&shop, "sslserver", false),
        ] {
            let cert = text(&files.cert);
            let (ok, output) =
                openssl(&["verify", "-x509_strict", "-CAfile", ca, "-purpose", purpose, cert]);
            assert_eq!(ok, expect, "{cert} as {purpose}: {output}");
        }
    }

    #[test]
    fn certificates_carry_the_names_and_the_validity_they_should() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["proxy.test".to_owned(), "192.0.2.7".to_owned()];
        let pki = make_dev_pki(dir.path(), &names, Existing::Keep).unwrap();
        for (option, expect) in [
            (["-checkhost", "localhost"], true),
            (["-checkhost", "proxy.test"], true),
            (["-checkip", "127.0.0.1"], true),
            (["-checkip", "::1"], true),
            (["-checkip", "192.0.2.7"], true),
            (["-checkhost", "other.test"], false),
        ] {
            let cert = text(&pki.server.cert);
            let (_, output) = openssl(&[&["x509", "-noout", "-in", cert], &option[..]].concat());
            assert_eq!(output.contains("does match"), expect, "{option:?}: {output}");
        }
        const DAY_S: u64 = 86_400;
        for (files, days, expect) in [
            (&pki.server, 363, true),
            (&pki.server, 366, false),
            (&pki.ca, 3648, true),
            (&pki.ca, 3651, false),
        ] {
            let seconds = (days * DAY_S).to_string();
            let (ok, _) = openssl(&["x509", "-checkend", &seconds, "-in", text(&files.cert)]);
            assert_eq!(ok, expect, "{files:?} in {days} days");
        }
        let (_, output) = openssl(&["x509", "-noout", "-text", "-in", text(&pki.ca.cert)]);
        assert!(output.contains("Certificate Sign") && output.contains("CA:TRUE"), "{output}");
    }

    #[test]
    fn keys_are_for_their_owner_only_and_belong_to_their_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let pki = make_dev_pki(dir.path(), &[], Existing::Keep).unwrap();
        for files in [&pki.ca, &pki.server, &pki.authority, &pki.proxy_client, &pki.legacy_answer] {
            let mode = fs::metadata(&files.key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{files:?}");
            let (_, of_key) = openssl(&["pkey", "-pubout", "-in", text(&files.key)]);
            let (_, of_cert) = openssl(&["x509", "-noout", "-pubkey", "-in", text(&files.cert)]);
            assert_eq!(of_key, of_cert);
        }
    }

    #[test]
    fn an_existing_file_is_kept_unless_replacing_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let authority_key = dir.path().join("authority.key");
        fs::write(&authority_key, "mine").unwrap();
        let error = make_dev_pki(dir.path(), &[], Existing::Keep).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is written");

        make_dev_pki(dir.path(), &[], Existing::Replace).unwrap();
        assert_ne!(fs::read_to_string(&authority_key).unwrap(), "mine");
        issue_client(dir.path(), "shop", Existing::Keep).unwrap();
        let error = issue_client(dir.path(), "shop", Existing::Keep).unwrap_err();
        assert!(matches!(error, CertsError::Exists { .. }), "{error}");
    }

    #[test]
    fn a_client_needs_a_ca_and_a_name_that_is_a_file_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = issue_client(dir.path(), "shop", Existing::Keep).unwrap_err();
        assert!(error.to_string().contains("certs init"), "{error}");
        make_dev_pki(dir.path(), &[], Existing::Keep).unwrap();
        let long = "a".repeat(65);
        for name in ["", ".", "../x", "a/b", "-a", "ca", "CA", "server", "票", &long] {
            let error = issue_client(dir.path(), name, Existing::Replace).unwrap_err();
            assert!(matches!(error, CertsError::Name { .. }), "{name}: {error}");
        }
        for name in ["shop", "shop-2.test", "7"] {
            issue_client(dir.path(), name, Existing::Keep).unwrap();
        }
    }
}
