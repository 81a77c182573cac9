//! Laws of the actor's pure core: random schedules of rounds over a `MemoryStore`, with commits
//! that fail for space and crashes before and after a commit, judged by a model of its own
//! (`promises`).
//!
//! `SKPROXY_CASES` sets how many schedules are tried.

mod actor;
mod book;
mod deliveries;
mod promises;
mod reds;
mod turn;
mod voids;
mod world;

pub(super) use world::device_claim;

use proptest::{collection::vec, prelude::*};
use world::World;

/// How an answer of the device differs from its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Right,
    OtherSerial,
    OtherKind,
    OtherBuyer,
    OtherTotals,
    /// The number belongs to a claim already.
    Taken,
    /// The number lies in a segment that another series will draw from.
    InSegment,
    /// The device drew numbers that we know nothing of.
    PastUs,
    /// It has drawn another one since.
    PastUsSince,
    /// Its clock is a year back.
    OldClock,
}

/// One decision within a round. Indexes pick from small sets; `pick` picks from what is there.
#[derive(Debug, Clone)]
enum Op {
    Assign {
        platform: usize,
        serial: usize,
        content: usize,
        target: usize,
        expired: bool,
    },
    Resolve {
        platform: usize,
        serial: usize,
    },
    Sign {
        pick: usize,
    },
    Late {
        pick: usize,
    },
    Adopt {
        pick: usize,
        answer: Answer,
    },
    Release {
        pick: usize,
        unchanged: bool,
    },
    Void {
        pick: usize,
    },
    /// An operator wants a device's claim ended; the device says this of it.
    VoidDrawn {
        pick: usize,
        said: Option<Answer>,
        unchanged: bool,
    },
    /// A platform voids the invoice of a number that somebody drew.
    VoidInvoice {
        platform: usize,
        id: usize,
        pick: usize,
        reason: usize,
    },
    AddSegment {
        target: usize,
        code: usize,
        first: u32,
        len: u32,
    },
    FreezeBatch {
        count_max: usize,
    },
    Receipt {
        pick: usize,
    },
    Split {
        pick: usize,
    },
    SendAgain,
    WrittenBack {
        pick: usize,
    },
    EnableDevice {
        device: usize,
        enabled: bool,
    },
    EnablePlatform {
        platform: usize,
        enabled: bool,
    },
    DeviceNext {
        ahead: u32,
    },
    Unfreeze {
        target: usize,
    },
}

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Committed,
    Full,
    /// The process died before its commit.
    Lost,
    /// It died after its commit, before anybody was told.
    Untold,
}

#[derive(Debug, Clone)]
struct Step {
    ops: Vec<Op>,
    end: End,
    /// How far the wall clock moves before the round. Unit: seconds.
    seconds: i64,
}

fn answer() -> impl Strategy<Value = Answer> {
    use Answer::{
        InSegment, OldClock, OtherBuyer, OtherKind, OtherSerial, OtherTotals, PastUs, PastUsSince,
        Right, Taken,
    };
    prop_oneof![
        8 => Just(Right),
        1 => prop::sample::select(vec![PastUs, PastUsSince, OldClock]),
        2 => prop::sample::select(vec![
            OtherSerial, OtherKind, OtherBuyer, OtherTotals, Taken, InSegment,
        ]),
    ]
}

fn asking() -> impl Strategy<Value = Op> {
    let assign = (0..2_usize, 0..4_usize, 0..2_usize, 0..4_usize, prop::bool::weighted(0.03));
    prop_oneof![
        9 => assign.prop_map(|(platform, serial, content, target, expired)| {
            Op::Assign { platform, serial, content, target, expired }
        }),
        1 => (0..2_usize, 0..4_usize)
            .prop_map(|(platform, serial)| Op::Resolve { platform, serial }),
        3 => (0..2_usize, 0..3_usize, 0..6_usize, 0..2_usize)
            .prop_map(|(platform, id, pick, reason)| {
                Op::VoidInvoice { platform, id, pick, reason }
            }),
    ]
}

fn finishing() -> impl Strategy<Value = Op> {
    let pick = 0..8_usize;
    prop_oneof![
        8 => pick.clone().prop_map(|pick| Op::Sign { pick }),
        2 => pick.clone().prop_map(|pick| Op::Late { pick }),
        4 => (pick.clone(), answer()).prop_map(|(pick, answer)| Op::Adopt { pick, answer }),
        2 => (pick.clone(), prop::bool::weighted(0.8))
            .prop_map(|(pick, unchanged)| Op::Release { pick, unchanged }),
        2 => pick.clone().prop_map(|pick| Op::Void { pick }),
        2 => (pick, prop::option::of(answer()), any::<bool>())
            .prop_map(|(pick, said, unchanged)| Op::VoidDrawn { pick, said, unchanged }),
    ]
}

fn operating() -> impl Strategy<Value = Op> {
    let mostly = || prop::bool::weighted(0.7);
    prop_oneof![
        3 => (0..4_usize, 0..3_usize, 0..60_u32, 0..6_u32)
            .prop_map(|(target, code, first, len)| Op::AddSegment { target, code, first, len }),
        2 => (1..4_usize).prop_map(|count_max| Op::FreezeBatch { count_max }),
        2 => (0..4_usize).prop_map(|pick| Op::Receipt { pick }),
        1 => (0..4_usize).prop_map(|pick| Op::Split { pick }),
        1 => Just(Op::SendAgain),
        2 => (0..4_usize).prop_map(|pick| Op::WrittenBack { pick }),
        1 => (0..3_usize, mostly())
            .prop_map(|(device, enabled)| Op::EnableDevice { device, enabled }),
        1 => (0..2_usize, mostly())
            .prop_map(|(platform, enabled)| Op::EnablePlatform { platform, enabled }),
        3 => prop_oneof![9 => Just(0_u32), 1 => 1..3_u32]
            .prop_map(|ahead| Op::DeviceNext { ahead }),
        2 => (0..4_usize).prop_map(|target| Op::Unfreeze { target }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![5 => asking(), 4 => finishing(), 2 => operating()];
    let end = prop_oneof![
        12 => Just(End::Committed),
        1 => Just(End::Full),
        1 => Just(End::Lost),
        1 => Just(End::Untold),
    ];
    let seconds = prop_oneof![20 => 0..5_i64, 2 => -20..0_i64, 1 => Just(-45), 1 => Just(700)];
    (vec(op, 1..9), end, seconds).prop_map(|(ops, end, seconds)| Step { ops, end, seconds })
}

fn cases() -> u32 {
    std::env::var("SKPROXY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_promise_holds_through_full_disks_and_crashes(steps in vec(step(), 1..16)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step).map_err(TestCaseError::fail)?;
        }
        world.drain().map_err(TestCaseError::fail)?;
    }
}

#[test]
fn a_segment_that_is_used_up_in_the_round_that_adds_it_stays_known() {
    let add = |first| Op::AddSegment { target: 1, code: 1, first, len: 0 };
    let assign = |serial| Op::Assign { platform: 0, serial, content: 0, target: 1, expired: false };
    let step = |ops| Step { ops, end: End::Committed, seconds: 0 };
    let mut world = World::new();
    // Two numbers, both drawn at once; then the first range again.
    world.step(&step(vec![add(0), add(1), assign(0), assign(1)])).unwrap();
    world.step(&step(vec![add(0)])).unwrap();
}

#[test]
fn a_number_that_a_device_drew_for_a_void_of_the_same_round_belongs_to_no_segment() {
    let step = |ops| Step { ops, end: End::Committed, seconds: 0 };
    let asked = Op::Assign { platform: 0, serial: 0, content: 0, target: 3, expired: false };
    let mut world = World::new();
    world.step(&step(vec![Op::DeviceNext { ahead: 0 }, asked])).unwrap();
    let said = Some(Answer::OtherSerial);
    let void = Op::VoidDrawn { pick: 0, said, unchanged: false };
    let add = Op::AddSegment { target: 0, code: 2, first: 25, len: 5 };
    world.step(&step(vec![void, add])).unwrap();
}
