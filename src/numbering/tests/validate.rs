//! Dry runs: refused with what an assignment would be refused with, and nothing is spent.

use super::house::{D1, House, drawn, number, ours, refused};
use crate::{
    model::{Kind, SeriesNo},
    numbering::Limits,
    refusal::Reason,
};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn whatever_would_refuse_a_claim_refuses_the_dry_run() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let dry = |serial: &str| house.numbering.validate(ours(serial));
    refused(dry("S1").await, Reason::DeviceUnavailable);
    house.plug();
    dry("S1").await.unwrap();

    house.disk.scarce.store(true, Ordering::SeqCst);
    refused(dry("S1").await, Reason::StoreFull);
    house.disk.scarce.store(false, Ordering::SeqCst);

    house.clock.shift(3600);
    refused(dry("S1").await, Reason::ClockSkew);
    house.clock.shift(-3600);

    house.change(|round| round.enable_device("t", "D1", false).map(drop)).await.unwrap().unwrap();
    refused(dry("S1").await, Reason::DeviceUnavailable);
    house.change(|round| round.enable_device("t", "D1", true).map(drop)).await.unwrap().unwrap();

    let freeze = house.change(|round| round.freeze_series((SeriesNo(1), None), "for the test"));
    freeze.await.unwrap();
    refused(dry("S1").await, Reason::SeriesFrozen);
    let opened = |round: &mut crate::numbering::Round<'_>| {
        round.unfreeze("t", ("D1", Kind::ENormal), "for the test").map(drop)
    };
    house.change(opened).await.unwrap().unwrap();

    let special = super::house::to("S1", D1, Kind::ESpecial);
    refused(house.numbering.validate(special).await, Reason::NoNumbers);

    dry("S1").await.unwrap();
    let before = house.numbering.counts().0;
    for serial in 0..20 {
        dry(&format!("S{serial}")).await.unwrap();
    }
    assert_eq!(house.numbering.counts().0, before, "nothing is committed");
    assert!(house.found("S1").is_none(), "nothing is bound");
    assert_eq!(number(house.issue(ours("S1")).await), 1, "nothing is spent");
    house.end();
}

#[tokio::test]
async fn a_device_that_draws_numbers_must_have_said_its_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    refused(house.numbering.validate(drawn("S1")).await, Reason::DeviceUnavailable);
    let device = tempfile::tempdir().unwrap();
    drop(house.plug_simulated(device.path()).await);
    house.numbering.validate(drawn("S1")).await.unwrap();
    house.end();
}
