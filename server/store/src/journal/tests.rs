//! The journal with a database that fails, hangs and is slow, in virtual time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use async_trait::async_trait;
use prometheus::Registry;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::{Direction, MessageId, PendingRow, Row, RowState, StoredRow};

/// What the database does with a commit.
#[derive(Clone, Copy, Debug)]
enum Act {
    Take,
    Fail,
    /// Takes it so much later.
    TakeAfter(Duration),
    FailAfter(Duration),
    Hang,
    Revoke,
}

/// A database that does as it is told, and takes everything once it is told nothing more.
#[derive(Default)]
struct Database {
    plan: Mutex<VecDeque<Act>>,
    /// After the plan.
    broken: Mutex<bool>,
    /// The groups that were tried, each with when.
    tried: Mutex<Vec<(Instant, Vec<u64>)>>,
    taken: Mutex<Vec<u64>>,
}

impl Database {
    fn planned(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self { plan: Mutex::new(acts.into_iter().collect()), ..Self::default() })
    }

    fn broken() -> Arc<Self> {
        Arc::new(Self { broken: Mutex::new(true), ..Self::default() })
    }

    fn groups(&self) -> Vec<Vec<u64>> {
        self.tried.lock().unwrap().iter().map(|(_, group)| group.clone()).collect()
    }
}

#[async_trait]
impl Messages for Database {
    async fn commit(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        let number = |change: &Change<'_>| match change {
            Change::Put(row) => row.id.0 as u64,
            Change::Delivered { id, .. } | Change::Returned { id, .. } | Change::Held { id, .. } => id.0 as u64,
        };
        let group: Vec<u64> = changes.iter().map(number).collect();
        self.tried.lock().unwrap().push((Instant::now(), group.clone()));
        let default = if *self.broken.lock().unwrap() { Act::Fail } else { Act::Take };
        let act = self.plan.lock().unwrap().pop_front().unwrap_or(default);
        let takes = match act {
            Act::Take => true,
            Act::Fail => false,
            Act::TakeAfter(time) => {
                sleep(time).await;
                true
            }
            Act::FailAfter(time) => {
                sleep(time).await;
                false
            }
            Act::Hang => std::future::pending().await,
            Act::Revoke => return Err(Error::Revoked),
        };
        if !takes {
            return Err(Error::Busy(sqlx::Error::PoolTimedOut));
        }
        self.taken.lock().unwrap().extend(group);
        Ok(())
    }

    async fn pending(&self, _: &str, _: u32) -> Result<u32, Error> {
        unreachable!()
    }
    async fn claim(&self, _: &str, _: u32, _: usize) -> Result<Vec<PendingRow>, Error> {
        unreachable!()
    }
    async fn waiting(&self, _: &[&str]) -> Result<Vec<bool>, Error> {
        unreachable!()
    }
    async fn release(&self, _: u64, _: u32) -> Result<Vec<String>, Error> {
        unreachable!()
    }
    async fn claim_these(&self, _: &str, _: &[MessageId]) -> Result<Vec<PendingRow>, Error> {
        unreachable!()
    }

    async fn release_account(&self, _: &str, _: u64) -> Result<Vec<MessageId>, Error> {
        unreachable!()
    }
    async fn sent(&self, _: &str, _: u128, _: MessageId) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        unreachable!()
    }
    async fn expire(&self, _: MessageId, _: u32) -> Result<u64, Error> {
        unreachable!()
    }
    async fn rows(&self, _: &str, _: Option<MessageId>, _: u32) -> Result<Vec<StoredRow>, Error> {
        unreachable!()
    }
}

#[derive(Debug)]
struct Item {
    number: u64,
    bytes: usize,
    may_fail: bool,
    /// Once it says so, there is nothing to write.
    settled: Option<Arc<Mutex<bool>>>,
}

fn item(number: u64) -> Item {
    Item { number, bytes: 10, may_fail: true, settled: None }
}

fn settling(number: u64) -> Item {
    Item { may_fail: false, ..item(number) }
}

impl Record for Item {
    fn changes<'a>(&'a self, out: &mut Vec<Change<'a>>) {
        if self.settled.as_ref().is_some_and(|settled| *settled.lock().unwrap()) {
            return;
        }
        out.push(Change::Put(Row {
            account: "juliet@example.com",
            id: MessageId(self.number.into()),
            peer: "romeo@example.net",
            direction: Direction::Received,
            state: RowState::Pending,
            archived: true,
            holders: &[],
            origin: None,
            stanza: b"<message/>",
        }));
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn may_fail(&self) -> bool {
        self.may_fail
    }
}

#[derive(Default)]
struct Heard {
    committed: Mutex<Vec<(Instant, u64)>>,
    failed: Mutex<Vec<(Instant, u64)>>,
    revoked: Mutex<bool>,
}

impl Heard {
    fn committed(&self) -> Vec<u64> {
        self.committed.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }

    fn failed(&self) -> Vec<u64> {
        self.failed.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }
}

impl Observer<Item> for Heard {
    fn committed(&self, records: &mut Vec<Item>) {
        let now = Instant::now();
        self.committed.lock().unwrap().extend(records.drain(..).map(|item| (now, item.number)));
    }

    fn revoked(&self) {
        *self.revoked.lock().unwrap() = true;
    }

    fn failed(&self, records: &mut Vec<Item>, _: &Error) {
        let now = Instant::now();
        self.failed.lock().unwrap().extend(records.drain(..).map(|item| (now, item.number)));
    }
}

const LINGER: Duration = Duration::from_millis(4);
const GIVE_UP: Duration = Duration::from_secs(5);

struct Setting {
    database: Arc<Database>,
    heard: Arc<Heard>,
    journal: Journal<Item>,
    tasks: TaskTracker,
    metrics: JournalMetrics,
}

fn start(database: Arc<Database>, config: JournalConfig) -> Setting {
    let (heard, tasks) = (Arc::new(Heard::default()), TaskTracker::new());
    let metrics = JournalMetrics::new(&Registry::new()).unwrap();
    let store: Arc<dyn Messages> = Arc::clone(&database) as _;
    let journal = Journal::start(store, Arc::clone(&heard) as _, config, &tasks, metrics.clone());
    tasks.close();
    Setting { database, heard, journal, tasks, metrics }
}

fn small() -> JournalConfig {
    JournalConfig { group_records: 8, group_bytes: 1000, linger: LINGER, give_up: GIVE_UP, ..JournalConfig::default() }
}

impl Setting {
    fn push(&self, numbers: impl IntoIterator<Item = u64>) {
        numbers.into_iter().for_each(|number| self.journal.push(item(number)).unwrap());
    }

    /// Closes, and returns how long it took to end.
    async fn end(&self) -> Duration {
        let began = Instant::now();
        self.journal.close();
        timeout(Duration::from_secs(3600), self.tasks.wait()).await.expect("it ends");
        began.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_record_waits_for_company_and_no_longer() {
    let setting = start(Database::planned([]), small());
    let began = Instant::now();
    setting.push([1]);
    setting.journal.barrier().await;
    assert_eq!(setting.heard.committed(), [1]);
    // Tokio's timers are as fine as a millisecond.
    assert!(began.elapsed() <= LINGER + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_lingering_a_group_is_what_came_while_the_one_before_was_written() {
    let slow = Act::TakeAfter(Duration::from_millis(20));
    let setting = start(Database::planned([slow, slow]), JournalConfig { linger: Duration::ZERO, ..small() });
    setting.push([1]);
    sleep(Duration::from_millis(10)).await;
    setting.push([2, 3, 4]);
    sleep(Duration::from_millis(1)).await;
    setting.push([5]);
    setting.end().await;
    assert_eq!(setting.database.groups(), [vec![1], vec![2, 3, 4, 5]]);
    assert_eq!(setting.heard.committed(), [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn groups_are_bounded_by_records_and_by_bytes() {
    let setting = start(Database::planned([]), small());
    setting.push(1..=20);
    for number in 21..=26 {
        setting.journal.push(Item { bytes: 400, ..item(number) }).unwrap();
    }
    setting.end().await;
    let sizes: Vec<_> = setting.database.groups().iter().map(Vec::len).collect();
    // 8 records; 8; 4 of 10 bytes and 3 of 400, with which it has 1,000 bytes and more; the rest.
    assert_eq!(sizes, [8, 8, 7, 3]);
    assert_eq!(setting.heard.committed(), (1..=26).collect::<Vec<_>>());
    assert_eq!((setting.metrics.groups.get(), setting.metrics.records.get()), (4, 26));
}

#[tokio::test(start_paused = true)]
async fn a_failing_database_is_tried_again_with_back_off_and_order_is_kept() {
    let fails = [Act::Fail; 6].into_iter();
    let setting = start(Database::planned(fails), small());
    setting.push(1..=3);
    sleep(Duration::from_millis(100)).await;
    // Taken into the group that is tried, behind what is there.
    setting.push(4..=30);
    setting.journal.barrier().await;
    assert_eq!(setting.heard.committed(), (1..=30).collect::<Vec<_>>());
    assert_eq!(*setting.database.taken.lock().unwrap(), (1..=30).collect::<Vec<_>>(), "nothing twice");
    assert_eq!(setting.heard.failed(), [0; 0]);
    let tried: Vec<_> = setting.database.tried.lock().unwrap().iter().map(|(at, _)| *at).take(7).collect();
    let waits: Vec<_> = tried.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    let expected = [50, 100, 200, 400, 500, 500];
    assert!(waits.iter().zip(expected).all(|(wait, expected)| wait.abs_diff(expected) <= 1), "{waits:?}");
    assert_eq!((setting.metrics.failures.get(), setting.metrics.given_up.get()), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn what_fails_too_long_is_given_up_in_time_and_settling_records_never_are() {
    let setting = start(Database::broken(), small());
    let mut pushed = Vec::new();
    // More than a group, so that most wait behind it; settling ones fill the group in the end.
    for number in 0..100 {
        pushed.push(Instant::now());
        setting.journal.push(if number % 3 == 0 { settling(number) } else { item(number) }).unwrap();
        advance(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(60)).await;
    let mut failed = setting.heard.failed.lock().unwrap().clone();
    failed.sort_by_key(|(_, number)| *number);
    assert_eq!(failed.len(), 66, "each once");
    for (at, number) in failed {
        assert_ne!(number % 3, 0);
        let waited = at - pushed[number as usize];
        // Looked at before each attempt.
        assert!((GIVE_UP..=GIVE_UP + Duration::from_millis(502)).contains(&waited), "{number}: {waited:?}");
    }
    assert_eq!(setting.heard.committed(), [0; 0]);
    assert_eq!(setting.metrics.given_up.get(), 66);

    *setting.database.broken.lock().unwrap() = false;
    setting.journal.barrier().await;
    assert_eq!(setting.heard.committed(), (0..100).step_by(3).collect::<Vec<_>>());
    assert_eq!(setting.metrics.queued.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_a_commit_hangs_what_is_behind_it_is_given_up_in_time_and_the_group_waits() {
    let setting = start(Database::planned([Act::TakeAfter(Duration::from_secs(30))]), small());
    setting.push(1..=8);
    sleep(LINGER).await;
    let began = Instant::now();
    setting.journal.push(settling(9)).unwrap();
    setting.push(10..=12);
    sleep(Duration::from_secs(1)).await;
    setting.push([13]);
    sleep(Duration::from_secs(20)).await;
    let failed = setting.heard.failed.lock().unwrap().clone();
    let (times, numbers): (Vec<_>, Vec<_>) = failed.into_iter().map(|(at, number)| (at - began, number)).unzip();
    assert_eq!(numbers, [10, 11, 12, 13]);
    let expected = [5, 5, 5, 6].map(Duration::from_secs);
    let late = times.iter().zip(expected).map(|(time, expected)| *time - expected).max().unwrap();
    assert!(late <= Duration::from_millis(2), "{times:?}");
    assert_eq!(setting.heard.committed(), [0; 0]);
    setting.journal.barrier().await;
    assert_eq!(setting.heard.committed(), (1..=9).collect::<Vec<_>>(), "nobody was told that these failed");
    assert_eq!(setting.heard.failed().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_settled_meanwhile_writes_nothing_and_is_told_so() {
    let setting = start(Database::planned([Act::FailAfter(Duration::from_millis(10))]), small());
    let settled = Arc::new(Mutex::new(false));
    setting.journal.push(Item { settled: Some(Arc::clone(&settled)), ..item(1) }).unwrap();
    setting.push([2]);
    sleep(LINGER + Duration::from_millis(5)).await;
    *settled.lock().unwrap() = true;
    setting.journal.barrier().await;
    assert_eq!(setting.database.groups(), [vec![1, 2], vec![2]]);
    assert_eq!(setting.heard.committed(), [1, 2]);
    // Nothing to write: the database is not asked.
    *setting.database.broken.lock().unwrap() = true;
    setting.journal.push(Item { settled: Some(settled), ..item(3) }).unwrap();
    setting.journal.barrier().await;
    assert_eq!(setting.heard.committed(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_by_records_and_bytes_but_for_what_may_not_fail() {
    let config = JournalConfig { queue_records: 5, queue_bytes: 100, ..small() };
    let setting = start(Database::planned([Act::Hang]), config);
    let refused = |number, bytes| setting.journal.push(Item { bytes, ..item(number) }).map_err(|item| item.number);
    setting.push(1..=5);
    assert_eq!(refused(6, 10), Err(6), "as many records as there may be");
    setting.journal.push(settling(7)).unwrap();
    assert_eq!(setting.metrics.queued.get(), 6);
    sleep(LINGER + Duration::from_millis(1)).await;
    assert_eq!(setting.metrics.queued.get(), 0, "the group is no part of the queue");
    assert_eq!(refused(8, 99), Ok(()));
    assert_eq!(refused(9, 1), Ok(()), "the record that reaches the bound is still in");
    assert_eq!(refused(10, 1), Err(10), "as many bytes as there may be");
    setting.journal.push(settling(11)).unwrap();
    // Given up, they make room.
    sleep(GIVE_UP + Duration::from_millis(2)).await;
    assert_eq!(setting.heard.failed(), [8, 9]);
    assert_eq!(refused(12, 10), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_barrier_waits_for_all_that_was_pushed_before_and_for_nothing_else() {
    let setting = start(Database::broken(), small());
    setting.journal.barrier().await;
    setting.journal.push(settling(1)).unwrap();
    let barrier = tokio::spawn({
        let journal = setting.journal.clone();
        async move { journal.barrier().await }
    });
    sleep(Duration::from_millis(10)).await;
    // These leave before what they were pushed after.
    setting.push(2..=20);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(setting.heard.failed().len(), 19);
    assert!(!barrier.is_finished(), "the first is not written");
    *setting.database.plan.lock().unwrap() = [Act::Take, Act::Hang].into();
    sleep(Duration::from_secs(1)).await;
    assert!(barrier.is_finished());
    setting.push([21]);
    let waited = timeout(Duration::from_secs(2), setting.journal.barrier()).await;
    assert!(waited.is_err(), "what hangs is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_close_writes_everything_and_takes_no_more() {
    let slow = Act::TakeAfter(Duration::from_millis(100));
    let setting = start(Database::planned([slow, Act::Fail, slow]), small());
    setting.push(1..=30);
    setting.journal.push(settling(31)).unwrap();
    setting.journal.close();
    assert!(setting.journal.push(item(32)).is_err());
    assert!(setting.journal.push(settling(33)).is_err());
    setting.end().await;
    assert_eq!(setting.heard.committed(), (1..=31).collect::<Vec<_>>());
    assert_eq!(setting.heard.failed(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_although_the_database_takes_nothing() {
    for database in [Database::broken(), Database::planned([Act::Hang])] {
        let setting = start(database, small());
        setting.push(1..=10);
        setting.journal.push(settling(11)).unwrap();
        sleep(Duration::from_secs(1)).await;
        setting.push([12]);
        let took = setting.end().await;
        assert!((GIVE_UP..=GIVE_UP + Duration::from_millis(502)).contains(&took), "{took:?}");
        let mut failed = setting.heard.failed();
        failed.sort_unstable();
        assert_eq!(failed, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12], "whoever waits is told");
        assert_eq!(setting.heard.committed(), [0; 0]);
        assert_eq!(setting.metrics.queued.get(), 0);
        timeout(Duration::from_millis(1), setting.journal.barrier()).await.expect("nothing is left");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_database_does_each_record_ends_once_and_in_order() {
    for seed in 1..=200_u64 {
        let mut state = seed;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let acts = (0..next(60)).map(|_| {
            let time = Duration::from_millis(next(3000));
            [Act::Take, Act::Fail, Act::TakeAfter(time), Act::FailAfter(time)][next(4) as usize]
        });
        let acts: Vec<_> = acts.collect();
        let setting = start(Database::planned(acts), small());
        let mut pushed = Vec::new();
        for number in 0..next(200) {
            let may_fail = next(4) != 0;
            setting.journal.push(Item { may_fail, ..item(number) }).unwrap();
            pushed.push(may_fail);
            sleep(Duration::from_millis(next(200))).await;
        }
        setting.journal.barrier().await;
        let (committed, failed) = (setting.heard.committed(), setting.heard.failed());
        assert!(committed.is_sorted(), "seed {seed}: {committed:?}");
        assert!(failed.iter().all(|number| pushed[*number as usize]), "seed {seed}: a settling record was given up");
        assert_eq!(*setting.database.taken.lock().unwrap(), committed, "seed {seed}: told as it is");
        let mut all = [committed, failed].concat();
        all.sort_unstable();
        assert_eq!(all, (0..pushed.len() as u64).collect::<Vec<_>>(), "seed {seed}");
        setting.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_write_any_more_is_told_so() {
    let setting = start(Database::planned([Act::Fail]), small());
    setting.push([1]);
    setting.journal.barrier().await;
    assert!(!*setting.heard.revoked.lock().unwrap(), "an error like any other");
    setting.database.plan.lock().unwrap().push_back(Act::Revoke);
    setting.push([2]);
    setting.journal.barrier().await;
    assert!(*setting.heard.revoked.lock().unwrap());
}
