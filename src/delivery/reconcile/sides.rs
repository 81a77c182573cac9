//! The acceptance sides: every province's taxpayers, together with those of the other provinces
//! that the same server takes.

use crate::{
    model::TaxpayerNo,
    registry::{Registry, Route},
    report::Filter,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// One acceptance side.
#[derive(Debug)]
pub(super) struct Side {
    /// How it is reached; none for provinces without a route.
    pub(super) route: Option<Arc<Route>>,
    /// As it was when the comparison began.
    pub(super) registry: Arc<Registry>,
    provinces: BTreeSet<String>,
}

impl Side {
    /// The provinces that it takes.
    pub(super) fn name(&self) -> String {
        self.provinces.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Whether a taxpayer's invoices go there.
    pub(super) fn has(&self, taxpayer: TaxpayerNo) -> bool {
        let taxpayer = self.registry.taxpayers.get(&taxpayer);
        taxpayer.is_some_and(|taxpayer| self.provinces.contains(&taxpayer.province))
    }
}

/// The sides that the taxpayers asked for belong to. Provinces whose routes lead to one server are
/// one side: what it holds cannot be told apart by province.
pub(super) fn of(registry: &Arc<Registry>, filter: &Filter) -> Vec<Side> {
    let mut sides: BTreeMap<Option<(String, String)>, Side> = BTreeMap::new();
    let asked = |no: &TaxpayerNo| filter.taxpayer.is_none_or(|taxpayer| taxpayer == *no);
    for (_, taxpayer) in registry.taxpayers.iter().filter(|(no, _)| asked(no)) {
        let route = registry.route(&taxpayer.province);
        let server = route.map(|route| (route.address.clone(), route.server_name.clone()));
        let side = sides.entry(server).or_insert_with(|| Side {
            route: route.map(Arc::clone),
            registry: Arc::clone(registry),
            provinces: BTreeSet::new(),
        });
        side.provinces.insert(taxpayer.province.clone());
    }
    sides.into_values().collect()
}
