//! `skproxy resume`: an operator's act that ends a read-only state, above the highest number that
//! any witness knows. Works on the books of a daemon that is not running.
//!
//! Nothing is written before every witness was heard, and nothing without the operator's yes.

use crate::{
    clock::Clock,
    config::Config,
    delivery::upstream::{RouteError, Upstream, UpstreamError},
    model::{InvoiceNumber, Kind},
    numbering::{Book, Limits, SeriesWitness, Skipped},
    refusal::Refusal,
    registry::Registry,
    store::{
        CommitError, Store as _, StoreError,
        embedded::{self, Options},
    },
    transport::{ClientTls, TlsError},
};
use std::collections::BTreeMap;

/// A number that an operator knows of, for example from a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHead {
    /// Virtual device id.
    pub device_id: String,
    /// The kind.
    pub kind: Kind,
    /// The highest number known under its code.
    pub number: InvoiceNumber,
}

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Why the books may be taken as they are; goes into the audit log.
    pub reason: String,
    /// Who asks.
    pub actor: String,
    /// Numbers known from elsewhere.
    pub heads: Vec<KnownHead>,
    /// Whether to go on when an acceptance does not answer.
    pub without_acceptance: bool,
    /// Whether to write; else only the plan is made.
    pub write: bool,
}

/// What was, or would be, done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Why the books are read-only; none when they are not, and nothing is to be done.
    pub read_only: Option<String>,
    /// Numbers left out.
    pub skipped: Vec<Skipped>,
    /// Series that an acceptance was asked about.
    pub compared: usize,
    /// Acceptances that were not asked or did not answer, with what they said.
    pub silent: Vec<String>,
    /// Whether it was written.
    pub written: bool,
}

/// Why the books cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The books.
    #[error("open the books")]
    Store(#[source] StoreError),
    /// TLS towards the acceptance.
    #[error("prepare TLS towards the acceptance")]
    Tls(#[source] TlsError),
    /// A route cannot be used.
    #[error("the route of province {province} cannot be used")]
    Route {
        /// Which.
        province: String,
        /// Why.
        #[source]
        source: RouteError,
    },
    /// The best witness is missing.
    #[error(
        "the acceptance of province {province} does not say what it holds; make it reachable, or \
         add --without-acceptance when it will never answer"
    )]
    Silent {
        /// Which.
        province: String,
        /// What it said.
        #[source]
        source: UpstreamError,
    },
    /// A province has no acceptance.
    #[error("province {province} has no route; add --without-acceptance when it needs none")]
    NoRoute {
        /// Which.
        province: String,
    },
    /// A number was named for a device or kind that the books do not know.
    #[error("--head names device {device}, kind {kind:03}, which the books do not know")]
    UnknownSeries {
        /// Device id.
        device: String,
        /// Kind.
        kind: u16,
    },
    /// The witnesses do not add up.
    #[error("the witnesses do not add up")]
    Witnesses(#[source] Refusal),
    /// The change could not be made durable.
    #[error("write the resumption")]
    Commit(#[source] CommitError),
}

/// Hears every witness, and resumes above them when asked to write.
///
/// # Errors
/// When the books cannot be opened, a witness is silent or does not add up, or writing fails.
pub async fn resume(config: &Config, wish: &Wish) -> Result<Plan, ResumeError> {
    let options = Options {
        dir: config.data_dir.clone(),
        watermark: config.watermark_path.clone(),
        reserve_bytes: config.store_reserve_bytes,
    };
    let mut opened = embedded::open(&options).map_err(ResumeError::Store)?;
    let mut plan = Plan {
        read_only: opened.report.read_only.clone(),
        skipped: Vec::new(),
        compared: 0,
        silent: Vec::new(),
        written: false,
    };
    if plan.read_only.is_none() {
        return Ok(plan);
    }
    let mut book = Book::new(&opened.loaded, Limits::default());
    let mut witnesses = Witnesses::default();
    for head in &wish.heads {
        witnesses.named(&book.registry, head)?;
    }
    let upstream = &config.upstream;
    let tls = ClientTls::load(&upstream.ca, &upstream.cert, &upstream.key);
    let tls = tls.map_err(ResumeError::Tls)?;
    witnesses.acceptances(&book.registry, &tls, wish.without_acceptance, &mut plan).await?;
    let now = Clock::system().now();
    let store = &mut opened.store;
    let mut round = book.round(store, now, Ok(()));
    let said = (wish.actor.as_str(), wish.reason.as_str());
    plan.skipped = round.resume(said, &witnesses.all()).map_err(ResumeError::Witnesses)?;
    let (batch, change) = round.finish();
    if wish.write {
        store.take_as_is().map_err(ResumeError::Store)?;
        store.commit(batch).map_err(ResumeError::Commit)?;
        book.absorb(change);
        plan.written = true;
    }
    Ok(plan)
}

/// What was heard, by device and kind.
#[derive(Default)]
struct Witnesses(BTreeMap<(crate::model::DeviceNo, Kind), SeriesWitness>);

impl Witnesses {
    fn series(&mut self, device: crate::model::DeviceNo, kind: Kind) -> &mut SeriesWitness {
        let fresh = || SeriesWitness { device, kind, count: 0, heads: Vec::new() };
        self.0.entry((device, kind)).or_insert_with(fresh)
    }

    fn named(&mut self, registry: &Registry, head: &KnownHead) -> Result<(), ResumeError> {
        let device = registry.device_by_id(&head.device_id);
        let device = device.filter(|device| device.kinds.contains(&head.kind));
        let unknown = || ResumeError::UnknownSeries {
            device: head.device_id.clone(),
            kind: head.kind.legacy_code(),
        };
        let device = device.ok_or_else(unknown)?.no;
        self.series(device, head.kind).heads.push(head.number.clone());
        Ok(())
    }

    /// Asks every acceptance about every series of its province.
    async fn acceptances(
        &mut self,
        registry: &Registry,
        tls: &ClientTls,
        without: bool,
        plan: &mut Plan,
    ) -> Result<(), ResumeError> {
        let mut upstreams: BTreeMap<String, Upstream> = BTreeMap::new();
        let mut silent = |province: &str, error: ResumeError| {
            let text = format!("{province}: {}", crate::refusal::chain(&error));
            plan.silent.push(text);
            if without { Ok(()) } else { Err(error) }
        };
        let mut given_up = std::collections::BTreeSet::new();
        for device in registry.devices.values() {
            let province = registry.province(device.no).to_owned();
            if given_up.contains(&province) {
                continue;
            }
            let upstream = match upstreams.get(&province) {
                Some(upstream) => upstream.clone(),
                None => match connect(registry, tls, &province) {
                    Ok(upstream) => {
                        upstreams.insert(province.clone(), upstream.clone());
                        upstream
                    }
                    Err(error) => {
                        silent(&province, error)?;
                        given_up.insert(province);
                        continue;
                    }
                },
            };
            for kind in device.kinds.iter().copied() {
                match upstream.series_head(&device.id, kind).await {
                    Ok(head) => {
                        let witness = self.series(device.no, kind);
                        witness.count = head.count;
                        witness.heads.extend(head.heads);
                        plan.compared = plan.compared.saturating_add(1);
                    }
                    Err(source) => {
                        let error = ResumeError::Silent { province: province.clone(), source };
                        silent(&province, error)?;
                        given_up.insert(province.clone());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Every series with its heads ascending, so that ranges of one code are left out in order.
    fn all(self) -> Vec<SeriesWitness> {
        let sorted = |mut witness: SeriesWitness| {
            witness.heads.sort();
            witness
        };
        self.0.into_values().map(sorted).collect()
    }
}

fn connect(registry: &Registry, tls: &ClientTls, province: &str) -> Result<Upstream, ResumeError> {
    let province = province.to_owned();
    let Some(route) = registry.route(&province) else {
        return Err(ResumeError::NoRoute { province });
    };
    Upstream::new(route, tls).map_err(|source| ResumeError::Route { province, source })
}
