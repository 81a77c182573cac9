//! What was issued in an earlier life is still to be delivered in this one.

use crate::world::{Orders, World};
use skproxy::{
    clock::Clock, contract::Profiles, daemon::open_core, numbering::Limits, secret::Secret,
    store::embedded,
};

#[tokio::test]
async fn invoices_in_no_batch_are_counted_from_the_start() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    let orders = Orders { life: 1, tasks: 1, calls: 5, device_faults: 0 };
    assert!(world.worker(orders, None).output().unwrap().status.success());
    let waiting = embedded::open(&world.options()).unwrap().loaded.outbox.len();
    assert!(waiting > 0);
    let passphrase = Secret::new("a passphrase for tests".to_owned());
    let (options, clock) = (world.options(), Clock::system());
    let profiles = Profiles::embedded();
    let core = open_core(&options, &passphrase, Limits::default(), &clock, profiles).await.unwrap();
    assert_eq!(core.numbering.counts().2, u64::try_from(waiting).unwrap());
    core.finisher.end();
    core.numbering.stop();
}
