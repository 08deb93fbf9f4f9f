use proptest::prelude::*;

use super::{STARTS, ms, start};
use crate::{
    StreamCondition, StreamError,
    acks::{ASK_AFTER, ASK_AFTER_BYTES, ASK_AFTER_STANZAS, Ask, Outbound, TooHigh},
};

fn filled(base: u32, count: u32) -> Outbound<u32> {
    let mut outbound = Outbound::resume_at(base);
    for item in 1..=count {
        outbound.sent(item, 10);
    }
    outbound
}

fn acknowledge(outbound: &mut Outbound<u32>, h: u32) -> Result<Vec<u32>, TooHigh> {
    let mut done = Vec::new();
    outbound.acknowledge(h, |item| done.push(item)).map(|()| done)
}

#[test]
fn xep0198_4_an_answer_covers_all_up_to_its_number_in_order() {
    for base in STARTS {
        let mut outbound = filled(base, 6);
        assert_eq!(acknowledge(&mut outbound, base.wrapping_add(4)), Ok(vec![1, 2, 3, 4]));
        assert_eq!(outbound.unacknowledged().copied().collect::<Vec<_>>(), [5, 6]);
        assert_eq!((outbound.len(), outbound.bytes()), (2, 20));
        assert_eq!(acknowledge(&mut outbound, base.wrapping_add(4)), Ok(vec![]));
        assert_eq!(acknowledge(&mut outbound, base.wrapping_add(6)), Ok(vec![5, 6]));
        assert_eq!((outbound.is_empty(), outbound.bytes()), (true, 0));
    }
}

#[test]
fn an_older_answer_changes_nothing() {
    for base in STARTS {
        let mut outbound = filled(base, 6);
        acknowledge(&mut outbound, base.wrapping_add(5)).unwrap();
        assert_eq!(acknowledge(&mut outbound, base.wrapping_add(2)), Ok(vec![]));
        assert_eq!(outbound.len(), 1);
    }
}

#[test]
fn xep0198_4_more_than_was_sent_ends_the_stream() {
    for base in STARTS {
        let mut outbound = filled(base, 3);
        let (h, sent) = (base.wrapping_add(4), base.wrapping_add(3));
        assert_eq!(acknowledge(&mut outbound, h), Err(TooHigh { h, sent }));
        assert_eq!(outbound.len(), 3, "nothing is changed");
        let error = StreamError::from(TooHigh { h, sent });
        assert_eq!(error.condition, StreamCondition::UndefinedCondition);
    }
    // Before the first stanza of a session there is nothing that an old answer could mean.
    let mut fresh = filled(0, 3);
    assert_eq!(acknowledge(&mut fresh, u32::MAX), Err(TooHigh { h: u32::MAX, sent: 3 }));
}

#[test]
fn what_is_drained_comes_in_order_and_is_not_held_any_longer() {
    let mut outbound = filled(0, 3);
    assert_eq!(outbound.drain().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((outbound.len(), outbound.bytes(), outbound.should_ask(start())), (0, 0, Ask::Wait(None)));
    assert_eq!(acknowledge(&mut outbound, 3), Ok(vec![]), "a late answer is no fault");
}

#[test]
fn memory_is_given_back_after_a_peak_and_kept_without_one() {
    let mut outbound = filled(0, 1000);
    acknowledge(&mut outbound, 1000).unwrap();
    assert_eq!(outbound.capacity(), 0);
    for item in 0..8 {
        outbound.sent(item, 1);
    }
    acknowledge(&mut outbound, 1008).unwrap();
    assert!(outbound.capacity() >= 8, "small ones stay, nothing is allocated for each stanza");
}

#[test]
fn an_urgent_one_is_asked_for_at_once() {
    let (mut outbound, now) = (filled(0, 1), start());
    outbound.wrote(true, now);
    assert_eq!(outbound.should_ask(now), Ask::Now);
    assert_eq!(outbound.should_ask(now), Ask::Wait(None));
}

#[test]
fn others_are_asked_for_by_number_bytes_or_time() {
    let now = start();
    let mut many = filled(0, ASK_AFTER_STANZAS - 1);
    many.wrote(false, now);
    assert_eq!(many.should_ask(now), Ask::Wait(Some(now + ASK_AFTER)));
    many.sent(0, 10);
    many.wrote(false, now + ms(5));
    assert_eq!(many.should_ask(now + ms(5)), Ask::Now);

    let mut large = filled(0, 1);
    large.sent(0, ASK_AFTER_BYTES - 10);
    large.wrote(false, now);
    assert_eq!(large.should_ask(now), Ask::Now);

    let mut late = filled(0, 1);
    late.wrote(false, now);
    late.sent(0, 10);
    late.wrote(false, now + ms(999));
    assert_eq!(late.should_ask(now + ms(999)), Ask::Wait(Some(now + ASK_AFTER)));
    assert_eq!(late.should_ask(now + ASK_AFTER), Ask::Now);
}

#[test]
fn one_request_is_outstanding_at_a_time() {
    let (mut outbound, now) = (filled(0, 1), start());
    outbound.wrote(true, now);
    assert_eq!(outbound.should_ask(now), Ask::Now);
    for item in 1..ASK_AFTER_STANZAS {
        outbound.sent(item, 10);
        outbound.wrote(true, now);
        assert_eq!(outbound.should_ask(now + ms(5000)), Ask::Wait(None));
    }
    outbound.sent(0, 10);
    outbound.wrote(false, now);
    assert_eq!(outbound.should_ask(now), Ask::Now, "16 more went out");
    assert_eq!(outbound.should_ask(now), Ask::Wait(None));
}

#[test]
fn what_became_urgent_behind_a_request_is_asked_for_when_that_is_answered() {
    let (mut outbound, now) = (filled(0, 1), start());
    outbound.wrote(true, now);
    assert_eq!(outbound.should_ask(now), Ask::Now);
    outbound.sent(2, 10);
    outbound.wrote(true, now);
    acknowledge(&mut outbound, 1).unwrap();
    assert_eq!(outbound.should_ask(now), Ask::Now);
}

#[test]
fn a_client_that_answers_without_getting_on_is_asked_once_a_second() {
    let (mut outbound, now) = (filled(0, 100), start());
    outbound.wrote(true, now);
    let mut asked = 0;
    for at in 0..3000 {
        if outbound.should_ask(now + ms(at)) == Ask::Now {
            asked += 1;
            acknowledge(&mut outbound, 0).unwrap();
        }
    }
    assert_eq!(asked, 3);
}

#[test]
fn after_a_resumption_the_rest_is_asked_for_at_once() {
    let (mut outbound, now) = (filled(0, 3), start());
    outbound.wrote(true, now);
    assert_eq!(outbound.should_ask(now), Ask::Now);
    acknowledge(&mut outbound, 2).unwrap();
    outbound.resumed();
    assert_eq!(outbound.should_ask(now), Ask::Now);
    acknowledge(&mut outbound, 3).unwrap();
    outbound.resumed();
    assert_eq!(outbound.should_ask(now), Ask::Wait(None));
}

#[derive(Clone, Debug)]
enum Op {
    Send { bytes: usize, urgent: bool },
    Ack(i64),
    Ask,
    Time(u64),
    Resume,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..4000_usize, prop::bool::weighted(0.2)).prop_map(|(bytes, urgent)| Op::Send { bytes, urgent }),
        3 => (-3..20_i64).prop_map(Op::Ack),
        4 => Just(Op::Ask),
        2 => (0..1500_u64).prop_map(Op::Time),
        1 => Just(Op::Resume),
    ]
}

proptest! {
    /// Against a model that keeps everything that was ever sent.
    #[test]
    fn each_item_comes_back_exactly_once_and_in_order(
        base in prop_oneof![Just(0_u32), (u32::MAX - 20)..=u32::MAX],
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut now = start();
        let mut outbound = Outbound::resume_at(base);
        let (mut sizes, mut acknowledged): (Vec<usize>, usize) = (Vec::new(), 0);
        for op in ops {
            match op {
                Op::Send { bytes, urgent } => {
                    outbound.sent(sizes.len(), bytes);
                    outbound.wrote(urgent, now);
                    sizes.push(bytes);
                }
                Op::Ack(by) => {
                    let number = acknowledged as i64 + by;
                    let h = (i64::from(base) + number) as u32;
                    let mut done = Vec::new();
                    let result = outbound.acknowledge(h, |item| done.push(item));
                    if number > sizes.len() as i64 || i64::from(base) + number < 0 {
                        prop_assert!(result.is_err());
                    } else {
                        prop_assert_eq!(result, Ok(()));
                        let next = acknowledged.max(number as usize * usize::from(number >= 0));
                        prop_assert_eq!(done, (acknowledged..next).collect::<Vec<_>>());
                        acknowledged = next;
                    }
                }
                Op::Ask => match outbound.should_ask(now) {
                    Ask::Now => prop_assert!(acknowledged < sizes.len()),
                    Ask::Wait(until) => {
                        prop_assert!(until.is_none_or(|until| until > now && until <= now + ASK_AFTER));
                    }
                },
                Op::Time(millis) => now += ms(millis),
                Op::Resume => outbound.resumed(),
            }
            prop_assert_eq!(outbound.len(), sizes.len() - acknowledged);
            prop_assert_eq!(outbound.bytes(), sizes[acknowledged..].iter().sum::<usize>());
            prop_assert_eq!(outbound.sent_count(), base.wrapping_add(sizes.len() as u32));
        }
        // A client that answers is asked until all is acknowledged.
        for _ in 0..3 {
            while let Ask::Wait(Some(until)) = outbound.should_ask(now) {
                now = until;
            }
            let h = outbound.sent_count();
            outbound.acknowledge(h, |_| acknowledged += 1).unwrap();
        }
        prop_assert_eq!(acknowledged, sizes.len());
        prop_assert_eq!(outbound.should_ask(now), Ask::Wait(None));
    }
}
