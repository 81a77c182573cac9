//! The process that is crashed: concurrent clients of one proxy, each of which writes down every
//! answer before it goes on. Twins, replays, resolves, voids and callers who hang up are mixed in.

use crate::{
    ledger::{Answer, Ledger},
    world::{Live, Orders, Random, World},
};
use skproxy::signer::RandomFaults;
use std::{env, io::Write as _, path::Path, process, sync::Arc, time::Duration};

/// Exit code of a worker whose proxy did not start.
pub(crate) const NOT_STARTED: i32 = 33;
/// What the worker prints after each answer that it wrote down.
pub(crate) const ACK: &str = "told";

fn orders() -> Option<(Orders, World)> {
    let text = env::var("SKPROXY_CRASH_ORDERS").ok()?;
    let mut words = text.split(' ').map(|word| word.parse().unwrap());
    let mut next = || words.next().unwrap();
    let orders = Orders { life: next(), tasks: next(), calls: next(), device_faults: next() };
    Some((orders, World::new(Path::new(&env::var("SKPROXY_CRASH_ROOT").unwrap()))))
}

#[test]
fn the_worker_works() {
    let Some((orders, world)) = orders() else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(orders, world));
}

async fn work(orders: Orders, world: World) {
    let per_mille = u16::try_from(orders.device_faults).unwrap();
    let faults = RandomFaults { seed: orders.life, per_mille };
    let live = match world.enter(faults).await {
        Ok(live) => Arc::new(live),
        Err(why) => {
            println!("not started: {why}");
            process::exit(NOT_STARTED);
        }
    };
    if orders.tasks == 1 {
        // Whoever follows a lone client step by step wants no step but its own.
        live.know_the_next_number().await;
    }
    let ledger = Arc::new(Ledger::open(&world.ledger()));
    let mut clients = tokio::task::JoinSet::new();
    for task in 0..orders.tasks {
        let random = Random(orders.life.wrapping_mul(1000).wrapping_add(task));
        let (live, ledger) = (Arc::clone(&live), Arc::clone(&ledger));
        let client = Client { live, ledger, random, orders, task, mine: Vec::new() };
        clients.spawn(client.run());
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    Arc::into_inner(live).expect("every client has ended").leave().await;
}

struct Client {
    live: Arc<Live>,
    ledger: Arc<Ledger>,
    random: Random,
    orders: Orders,
    task: u64,
    mine: Vec<String>,
}

impl Client {
    async fn run(mut self) {
        for call in 0..self.orders.calls {
            // A lone client takes turns between the devices.
            let turn = if self.orders.tasks == 1 { call } else { self.task };
            let device = if turn % 4 == 3 { 'D' } else { 'S' };
            let serial = format!("{device}{}t{}c{call}", self.orders.life, self.task);
            let pick = if self.orders.tasks == 1 { 9 } else { self.random.below(14) };
            match pick {
                0 => self.twins(&serial).await,
                1 => self.again(&serial).await,
                2 => self.resolve(&serial).await,
                3 => self.hang_up(&serial).await,
                4 | 5 => self.void(&serial).await,
                _ => self.issue(&serial).await,
            }
            self.mine.push(serial);
        }
    }

    fn told(&self, serial: &str, answer: &Answer) {
        self.ledger.told(serial, answer);
        let mut out = std::io::stdout().lock();
        // A parent that has gone hears nothing.
        drop(out.write_all(format!("{ACK}\n").as_bytes()).and_then(|()| out.flush()));
    }

    async fn issue(&self, serial: &str) {
        self.ledger.sent(serial);
        let answer = self.live.issue(serial).await;
        self.told(serial, &answer);
    }

    async fn twins(&self, serial: &str) {
        tokio::join!(self.issue(serial), self.issue(serial));
    }

    /// A replay of an older request, or a new one where there is none.
    async fn again(&mut self, serial: &str) {
        let older = self.older().unwrap_or_else(|| serial.to_owned());
        self.issue(&older).await;
    }

    /// Resolves an older serial, or one that was never sent.
    async fn resolve(&mut self, serial: &str) {
        let older = self.older().filter(|_| self.random.below(2) == 0);
        let serial = older.unwrap_or_else(|| serial.to_owned());
        self.ledger.sent(&serial);
        let answer = self.live.resolve(&serial).await;
        self.told(&serial, &answer);
    }

    /// Voids an older invoice, and says now and then that it did not hear the answer.
    async fn void(&mut self, serial: &str) {
        let older = self.older().filter(|older| older.starts_with('S'));
        let older = older.unwrap_or_else(|| serial.to_owned());
        self.ledger.sent(&older);
        let answer = self.live.issue(&older).await;
        self.told(&older, &answer);
        let (Answer::Issued(invoice) | Answer::Voided(invoice, _)) = answer else { return };
        if older.starts_with('D') {
            return;
        }
        let repeats = if self.random.below(4) == 0 { 2 } else { 1 };
        for _ in 0..repeats {
            let answer = self.live.void(&older, &invoice).await;
            self.told(&older, &answer);
        }
    }

    async fn hang_up(&mut self, serial: &str) {
        self.ledger.sent(serial);
        let patience = Duration::from_micros(self.random.below(4000));
        if let Ok(answer) = tokio::time::timeout(patience, self.live.issue(serial)).await {
            self.told(serial, &answer);
        }
    }

    fn older(&mut self) -> Option<String> {
        let len = u64::try_from(self.mine.len()).unwrap();
        if len == 0 {
            return None;
        }
        let index = usize::try_from(self.random.below(len)).unwrap();
        self.mine.get(index).cloned()
    }
}
