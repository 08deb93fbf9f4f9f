//! Many instances at the same messages at the same time.

use futures_util::future::join_all;
use starling_store::{Change, MessageId, Messages, PgStore, RowState};

use super::setting::{JULIET, Setting, row, states};

const INSTANCES: [u64; 3] = [1, 2, 3];
const MESSAGES: u64 = 40;

/// A generator of Knuth's.
struct Generator(u64);

impl Generator {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Does what instances do with messages that nobody has delivered, at random. Whatever meets whatever: each is there,
/// and somebody has it, or it waits.
async fn disturb(store: PgStore, own: u64, seed: u64) {
    let mut generator = Generator(seed);
    let sets: [&[u64]; 4] = [&[1], &[2], &[3], &[1, 2, 3]];
    for _ in 0..120 {
        let result = match generator.next(8) {
            0 => store.release(INSTANCES[generator.next(3)], 10).await.map(drop),
            1 => store.release_account(JULIET, INSTANCES[generator.next(3)]).await.map(drop),
            2 | 3 => store.claim(JULIET, 1 + generator.next(9) as u32, 1000).await.map(drop),
            _ => {
                // Each message once, in any order: a group that needs more than one round may wait for another that
                // does.
                let (from, step) = (generator.next(MESSAGES as usize) as u64, [1, 3, 7][generator.next(3)]);
                let changes: Vec<_> = (0..1 + generator.next(12) as u64)
                    .map(|n| {
                        let number = (from + n * step) % MESSAGES;
                        let id = MessageId::new(number, 0, 0);
                        match generator.next(6) {
                            0 => row(number, RowState::Pending, &[]),
                            1 => row(number, RowState::InFlight, sets[generator.next(4)]),
                            2 => Change::Held { account: JULIET, id, from: INSTANCES[generator.next(3)], to: own },
                            _ => Change::Returned { account: JULIET, id, holders: sets[generator.next(4)] },
                        }
                    })
                    .collect();
                store.commit(&changes).await
            }
        };
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_whatever_is_done_to_it_at_the_same_time() {
    let setting = Setting::new().await;
    let stores = [setting.open_with_juliet(1).await, setting.open(2).await, setting.open(3).await];
    let rows: Vec<_> = (0..MESSAGES).map(|number| row(number, RowState::InFlight, &INSTANCES)).collect();
    stores[0].commit(&rows).await.unwrap();
    let tasks = (0..9).map(|seed| {
        let at = seed as usize % 3;
        tokio::spawn(disturb(stores[at].clone(), INSTANCES[at], seed + 1))
    });
    join_all(tasks).await.into_iter().for_each(|done| done.unwrap());
    let left = states(&stores[0]).await;
    assert_eq!(left.len() as u64, MESSAGES);
    assert!(left.iter().all(|(_, state)| *state != RowState::Delivered), "{left:?}");
    setting.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_while_others_are_at_it_is_delivered() {
    let setting = Setting::new().await;
    let stores = [setting.open_with_juliet(1).await, setting.open(2).await, setting.open(3).await];
    for round in 0..30_u64 {
        let numbers = 20 * round..20 * (round + 1);
        let ids: Vec<_> = numbers.clone().map(|number| MessageId::new(number, 0, 0)).collect();
        let rows: Vec<_> = numbers.clone().map(|number| row(number, RowState::InFlight, &INSTANCES[..2])).collect();
        stores[0].commit(&rows).await.unwrap();
        // Others only pass them on: a delivery that comes before or after comes to the same.
        let delivered: Vec<_> = ids.iter().map(|id| Change::Delivered { account: JULIET, id: *id }).collect();
        let returned: Vec<_> =
            ids.iter().map(|id| Change::Returned { account: JULIET, id: *id, holders: &[1, 2] }).collect();
        let held: Vec<_> =
            ids.iter().rev().map(|id| Change::Held { account: JULIET, id: *id, from: 2, to: 3 }).collect();
        let done = tokio::join!(
            stores[0].commit(&delivered),
            stores[1].commit(&returned),
            stores[2].commit(&held),
            stores[2].claim(JULIET, 7, 1_000_000),
        );
        assert!(done.0.is_ok(), "{done:?}");
        let left: Vec<_> =
            states(&stores[0]).await.into_iter().filter(|(number, _)| numbers.contains(number)).collect();
        assert!(left.iter().all(|(_, state)| *state == RowState::Delivered), "round {round}: {left:?}");
    }
    setting.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_again_and_rows_that_expire_meet() {
    let setting = Setting::new().await;
    let (a, b) = (setting.open_with_juliet(1).await, setting.open(2).await);
    for round in 0..40_u64 {
        let numbers = 10 * round..10 * (round + 1);
        let rows: Vec<_> = numbers.clone().map(|number| row(number, RowState::Delivered, &[])).collect();
        let wait: Vec<_> = numbers.clone().map(|number| row(number, RowState::Pending, &[])).collect();
        a.commit(&rows).await.unwrap();
        let (waiting, expired) = tokio::join!(a.commit(&wait), b.expire(MessageId(u128::MAX), 100));
        waiting.unwrap();
        expired.unwrap();
        let left = states(&a).await;
        let waiting = left.iter().filter(|(number, state)| numbers.contains(number) && *state == RowState::Pending);
        assert_eq!(waiting.count(), 10, "round {round}");
    }
    setting.assert_whole().await;
}
