use proptest::prelude::*;

use super::{STARTS, ms, start};
use crate::acks::{ANNOUNCE_AT_MOST_EVERY, ANSWER_WITHIN, Inbound, Next};

/// What a registry that answers at once makes of it.
fn step(inbound: &mut Inbound, now: std::time::Instant) -> Next {
    loop {
        match inbound.next(now) {
            Next::Record(h) => inbound.recorded(h),
            next => return next,
        }
    }
}

fn receive(inbound: &mut Inbound, count: u32) {
    for _ in 0..count {
        inbound.received();
    }
}

#[test]
fn it_is_small_and_needs_no_heap() {
    assert!(size_of::<Inbound>() <= 64, "{}", size_of::<Inbound>());
    assert!(!std::mem::needs_drop::<Inbound>());
}

#[test]
fn xep0198_4_the_first_stanza_is_number_one() {
    assert_eq!(Inbound::new().received(), 1);
    assert_eq!(Inbound::resume_at(u32::MAX).received(), 0);
}

#[test]
fn a_request_is_answered_at_once_when_all_is_safe_and_recorded() {
    for base in STARTS {
        let (mut inbound, now) = (Inbound::resume_at(base), start());
        for _ in 0..2 {
            inbound.requested(now);
            assert_eq!(inbound.next(now), Next::Announce(base));
            assert_eq!(inbound.next(now), Next::Wait(None));
        }
    }
}

#[test]
fn nothing_is_announced_unasked() {
    let (mut inbound, now) = (Inbound::new(), start());
    receive(&mut inbound, 2);
    inbound.safe(2);
    assert_eq!(inbound.next(now), Next::Wait(None));
}

#[test]
fn a_number_is_recorded_before_it_is_announced() {
    for base in STARTS {
        let (mut inbound, now) = (Inbound::resume_at(base), start());
        receive(&mut inbound, 5);
        let h = base.wrapping_add(5);
        inbound.requested(now);
        assert_eq!(inbound.next(now), Next::Wait(Some(now + ANSWER_WITHIN)));
        inbound.safe(h);
        assert_eq!(inbound.next(now), Next::Record(h));
        assert_eq!(inbound.next(now), Next::Wait(Some(now + ANSWER_WITHIN)), "one at a time");
        inbound.recorded(h);
        assert_eq!(inbound.next(now), Next::Announce(h));
        assert_eq!(inbound.next(now), Next::Wait(None));
    }
}

#[test]
fn what_came_behind_the_request_does_not_hold_its_answer_up() {
    let (mut inbound, now) = (Inbound::new(), start());
    receive(&mut inbound, 2);
    inbound.requested(now);
    receive(&mut inbound, 3);
    inbound.safe(2);
    assert_eq!(step(&mut inbound, now), Next::Announce(2));
    assert_eq!(step(&mut inbound, now), Next::Wait(None));
}

#[test]
fn an_answer_comes_in_time_and_the_rest_of_it_unasked() {
    for base in STARTS {
        let (mut inbound, now) = (Inbound::resume_at(base), start());
        let h = |count: u32| base.wrapping_add(count);
        receive(&mut inbound, 9);
        inbound.requested(now);
        inbound.safe(h(4));
        assert_eq!(step(&mut inbound, now + ms(299)), Next::Wait(Some(now + ANSWER_WITHIN)));
        assert_eq!(step(&mut inbound, now + ms(300)), Next::Announce(h(4)));
        assert_eq!(step(&mut inbound, now + ms(300)), Next::Wait(None));
        inbound.safe(h(6));
        assert_eq!(step(&mut inbound, now + ms(310)), Next::Wait(Some(now + ms(300) + ANNOUNCE_AT_MOST_EVERY)));
        assert_eq!(step(&mut inbound, now + ms(350)), Next::Announce(h(6)));
        inbound.safe(h(9));
        receive(&mut inbound, 1);
        assert_eq!(step(&mut inbound, now + ms(400)), Next::Announce(h(9)));
        inbound.safe(h(10));
        assert_eq!(step(&mut inbound, now + ms(500)), Next::Wait(None), "nobody asked for the tenth");
    }
}

#[test]
fn a_client_is_answered_though_nothing_is_safe_and_the_registry_is_away() {
    let (mut inbound, now) = (Inbound::new(), start());
    receive(&mut inbound, 2);
    inbound.requested(now);
    assert_eq!(step(&mut inbound, now + ms(300)), Next::Announce(0));
    inbound.safe(2);
    assert_eq!(inbound.next(now + ms(300)), Next::Record(2));
    inbound.requested(now + ms(300));
    assert_eq!(inbound.next(now + ms(599)), Next::Wait(Some(now + ms(600))));
    assert_eq!(inbound.next(now + ms(600)), Next::Announce(0), "h stands still");
    inbound.not_recorded();
    assert_eq!(inbound.next(now + ms(601)), Next::Record(2));
    inbound.recorded(2);
    assert_eq!(inbound.next(now + ms(602)), Next::Announce(2));
}

#[test]
fn a_record_that_fails_is_not_tried_again_at_once() {
    let (mut inbound, now) = (Inbound::new(), start());
    receive(&mut inbound, 1);
    inbound.safe(1);
    inbound.requested(now);
    assert_eq!(inbound.next(now), Next::Record(1));
    inbound.not_recorded();
    assert_eq!(inbound.next(now), Next::Wait(Some(now + ANNOUNCE_AT_MOST_EVERY)));
    assert_eq!(inbound.next(now + ANNOUNCE_AT_MOST_EVERY), Next::Record(1));
}

#[test]
fn requests_that_come_together_are_answered_together() {
    let (mut inbound, now) = (Inbound::new(), start());
    for _ in 0..8 {
        inbound.received();
        inbound.requested(now);
    }
    inbound.safe(8);
    assert_eq!(step(&mut inbound, now), Next::Announce(8));
    assert_eq!(step(&mut inbound, now), Next::Wait(None));
}

#[test]
fn a_client_that_asks_after_every_stanza_is_not_kept_waiting_by_the_later_ones() {
    let (mut inbound, now) = (Inbound::new(), start());
    let mut announced = 0;
    // One stanza a millisecond, safe 5 ms later.
    for at in 1..=1000_u32 {
        let time = now + ms(u64::from(at));
        inbound.received();
        inbound.requested(time);
        if at > 5 {
            inbound.safe(at - 5);
        }
        if let Next::Announce(h) = step(&mut inbound, time) {
            announced += 1;
            assert!(at - h <= 5);
        }
    }
    assert!((19..=21).contains(&announced), "{announced} announcements in a second");
}

#[test]
fn what_a_client_sends_again_is_counted_from_the_recorded_number() {
    let (mut inbound, now) = (Inbound::new(), start());
    receive(&mut inbound, 10);
    inbound.requested(now);
    inbound.safe(5);
    assert_eq!(step(&mut inbound, now + ms(300)), Next::Announce(5));
    inbound.safe(7);
    assert_eq!(inbound.resumed(), 5);
    assert_eq!(inbound.next(now + ms(900)), Next::Wait(None), "the requests went with the stream");
    inbound.safe(10);
    assert_eq!(inbound.safe_count(), 5, "the client has not sent it on this stream");
    assert_eq!(inbound.received(), 6);
    inbound.safe(6);
    inbound.requested(now + ms(900));
    assert_eq!(step(&mut inbound, now + ms(900)), Next::Announce(6));
}

#[test]
fn a_record_that_arrives_after_a_resumption_is_not_announced() {
    let (mut inbound, now) = (Inbound::new(), start());
    receive(&mut inbound, 3);
    inbound.safe(3);
    inbound.requested(now);
    assert_eq!(inbound.next(now), Next::Record(3));
    assert_eq!(inbound.resumed(), 0);
    inbound.recorded(3);
    inbound.requested(now + ms(60));
    assert_eq!(inbound.next(now + ms(60)), Next::Announce(0));
}

#[derive(Clone, Debug)]
enum Op {
    Receive,
    Safe(u32),
    Request,
    Recorded,
    NotRecorded,
    Recorded2(u32),
    Resume,
    Time(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Receive),
        3 => (0..12_u32).prop_map(Op::Safe),
        2 => Just(Op::Request),
        3 => Just(Op::Recorded),
        1 => Just(Op::NotRecorded),
        1 => (0..40_u32).prop_map(Op::Recorded2),
        1 => Just(Op::Resume),
        4 => (0..120_u64).prop_map(Op::Time),
    ]
}

proptest! {
    /// Against a model that counts without wrapping around.
    #[test]
    fn announced_never_goes_back_and_never_exceeds_what_is_safe_and_recorded(
        base in prop_oneof![Just(0_u32), (u32::MAX - 20)..=u32::MAX, any::<u32>()],
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut now = start();
        let mut inbound = Inbound::resume_at(base);
        let (mut received, mut safe, mut recorded, mut announced) = (0_u32, 0_u32, 0_u32, 0_u32);
        let mut given: Option<u32> = None;
        let mut asked: Option<std::time::Instant> = None;
        for op in ops {
            match op {
                Op::Receive => {
                    received += 1;
                    prop_assert_eq!(inbound.received(), base.wrapping_add(received));
                }
                Op::Safe(number) => {
                    let number = (safe + number).saturating_sub(4);
                    inbound.safe(base.wrapping_add(number));
                    if number <= received {
                        safe = safe.max(number);
                    }
                }
                Op::Request => {
                    inbound.requested(now);
                    asked.get_or_insert(now);
                }
                Op::Recorded => {
                    if let Some(h) = given.take() {
                        inbound.recorded(base.wrapping_add(h));
                        if h <= safe {
                            recorded = recorded.max(h);
                        }
                    }
                }
                Op::NotRecorded => {
                    given = None;
                    inbound.not_recorded();
                }
                // One that nobody gave out cannot be told from a late one; what is not safe is never believed.
                Op::Recorded2(h) => {
                    given = None;
                    inbound.recorded(base.wrapping_add(h));
                    if h <= safe {
                        recorded = recorded.max(h);
                    }
                }
                Op::Resume => {
                    prop_assert_eq!(inbound.resumed(), base.wrapping_add(recorded));
                    (received, safe, announced) = (recorded, recorded, recorded);
                    (given, asked) = (None, None);
                }
                Op::Time(millis) => now += ms(millis),
            }
            loop {
                match inbound.next(now) {
                    Next::Record(h) => {
                        prop_assert_eq!(given.replace(h.wrapping_sub(base)), None);
                        prop_assert_eq!(h, base.wrapping_add(safe));
                    }
                    Next::Announce(h) => {
                        let h = h.wrapping_sub(base);
                        prop_assert!(announced <= h && h <= safe && h <= recorded, "{announced} {h} {safe} {recorded}");
                        announced = h;
                        asked = None;
                    }
                    Next::Wait(until) => {
                        // Never late: somebody who waits is woken in time.
                        if let Some(asked) = asked {
                            prop_assert!(now < asked + ANSWER_WITHIN);
                            prop_assert!(until.is_some_and(|until| until <= asked + ANSWER_WITHIN));
                        }
                        break;
                    }
                }
            }
            prop_assert!(inbound.is_consistent());
            prop_assert_eq!(inbound.announced(), base.wrapping_add(announced));
            prop_assert_eq!(inbound.received_count(), base.wrapping_add(received));
            prop_assert_eq!(inbound.unsafe_count(), received - safe);
        }
        // Whatever happened: once all is safe and the registry answers, the client hears of all it asked for.
        inbound.not_recorded();
        now += ms(1000);
        inbound.requested(now);
        inbound.safe(base.wrapping_add(received));
        while let Next::Wait(Some(until)) = step(&mut inbound, now) {
            now = until;
        }
        prop_assert_eq!(inbound.announced(), base.wrapping_add(received));
    }
}
