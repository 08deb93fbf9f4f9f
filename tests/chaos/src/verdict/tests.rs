//! Made-up runs, each with one fault, and the same runs without it.

use super::*;
use crate::journal::{End, HeardBy};

/// A run that is written down by hand. Each event is a millisecond after the one before, unless time passes between.
struct Run {
    entries: Vec<Entry>,
    now: Duration,
    sessions: u32,
}

const ONE: u32 = 0;
const TWO: u32 = 1;
const LONG: Duration = Duration::from_secs(5);

const fn message(sequence: u32) -> Message {
    Message { from: ONE, to: TWO, sequence }
}

impl Run {
    /// Two users in a session each: 0 is the sender's, 1 the recipient's.
    fn new() -> Self {
        let mut run = Self { entries: Vec::new(), now: Duration::ZERO, sessions: 0 };
        run.server(Event::Started);
        run.bind(ONE);
        run.bind(TWO);
        run
    }

    fn note(&mut self, user: Option<u32>, event: Event) -> &mut Self {
        self.now += Duration::from_millis(1);
        self.entries.push(Entry { at: self.now, user, event });
        self
    }

    fn server(&mut self, event: Event) -> &mut Self {
        self.note(None, event)
    }

    fn wait(&mut self) -> &mut Self {
        self.now += LONG;
        self
    }

    fn bind(&mut self, user: u32) -> &mut Self {
        let session = Some(Session(self.sessions));
        self.sessions += 1;
        self.note(Some(user), Event::Bound { session })
    }

    fn send(&mut self, sequence: u32, session: u32, n: u32) -> &mut Self {
        self.send_copy(sequence, session, n, 0)
    }

    fn send_copy(&mut self, sequence: u32, session: u32, n: u32, copy: u32) -> &mut Self {
        let place = Some((Session(session), n));
        self.note(Some(ONE), Event::Sent { message: message(sequence), place, copy })
    }

    fn hear(&mut self, session: u32, h: u32, by: HeardBy) -> &mut Self {
        self.note(Some(ONE), Event::Heard { session: Session(session), h, by })
    }

    fn receive(&mut self, sequence: u32, session: u32, count: u32, id: &str) -> &mut Self {
        let place = Some((Session(session), count));
        let stanza_id = (!id.is_empty()).then(|| id.to_owned());
        let event = Event::Received { message: message(sequence), place, stanza_id, delayed: false, early: false };
        self.note(Some(TWO), event)
    }

    fn count(&mut self, session: u32, h: u32) -> &mut Self {
        self.note(Some(TWO), Event::Counted { session: Session(session), h })
    }

    fn gone(&mut self, user: u32, end: End) -> &mut Self {
        self.note(Some(user), Event::Gone(end))
    }

    fn kill(&mut self) -> &mut Self {
        self.server(Event::Killed).gone(ONE, End::Cut).gone(TWO, End::Cut).server(Event::Started)
    }

    fn verdict(&mut self, rows: Option<&Rows>, rules: &Rules) -> Verdict {
        for user in [ONE, TWO] {
            self.note(Some(user), Event::Settled { stuck: None });
        }
        Verdict::new(&self.entries, rows, rules)
    }

    /// The kinds of its faults.
    fn faults(&mut self) -> Vec<Kind> {
        self.verdict(None, &rules()).faults.iter().map(|fault| fault.kind).collect()
    }
}

fn rules() -> Rules {
    Rules { users: 2, without_sm: HashSet::new(), resume: HashSet::new(), archive: true, grace: Duration::from_secs(1) }
}

/// One message that is acknowledged on both sides, so that a run has something to show.
fn first(run: &mut Run) -> &mut Run {
    run.send(0, 0, 1).hear(0, 1, HeardBy::Answer).receive(0, 1, 1, "id0").count(1, 1).wait()
}

#[test]
fn a_run_in_which_all_went_well_is_good() {
    let mut run = Run::new();
    first(&mut run).kill().bind(ONE).bind(TWO).send(1, 2, 1).receive(1, 3, 1, "id1").hear(2, 1, HeardBy::Answer);
    let verdict = run.verdict(None, &rules());
    assert_eq!(verdict.faults, []);
    assert_eq!((verdict.figures.messages, verdict.figures.acknowledged, verdict.figures.received), (2, 2, 2));
    assert!(verdict.to_string().ends_with("good"), "{verdict}");
}

#[test]
fn a_run_in_which_nothing_was_acknowledged_shows_nothing() {
    assert_eq!(Run::new().send(0, 0, 1).receive(0, 1, 1, "id").faults(), [Kind::Trouble]);
    assert_eq!(Run::new().faults(), [Kind::Trouble]);
}

#[test]
fn what_was_acknowledged_and_is_nowhere_is_lost() {
    for by in [HeardBy::Answer, HeardBy::Resumed, HeardBy::Failed] {
        let mut run = Run::new();
        let verdict = first(&mut run).send(1, 0, 2).hear(0, 2, by).verdict(None, &rules());
        assert_eq!(verdict.faults.len(), 1);
        assert_eq!((verdict.faults[0].kind, verdict.faults[0].message), (Kind::Lost, Some(message(1))), "{by:?}");
    }
}

#[test]
fn what_was_not_acknowledged_is_not_lost() {
    assert_eq!(first(&mut Run::new()).send(1, 0, 2).faults(), []);
}

#[test]
fn an_h_counts_in_its_own_session_alone() {
    assert_eq!(
        first(&mut Run::new()).send(1, 0, 2).bind(ONE).send(2, 2, 1).hear(2, 1, HeardBy::Answer).faults(),
        [Kind::Lost]
    );
    assert_eq!(
        first(&mut Run::new())
            .send(1, 0, 2)
            .bind(ONE)
            .note(Some(ONE), Event::Said { session: Session(2), n: 2 })
            .hear(2, 2, HeardBy::Answer)
            .faults(),
        []
    );
}

#[test]
fn what_came_back_as_an_error_is_not_lost() {
    let returned = Event::Returned { message: message(1), error: "wait/resource-constraint".to_owned() };
    let mut run = Run::new();
    let verdict =
        first(&mut run).send(1, 0, 2).hear(0, 2, HeardBy::Answer).note(Some(ONE), returned).verdict(None, &rules());
    assert_eq!(verdict.faults, []);
    assert_eq!(verdict.figures.errors["wait/resource-constraint"], 1);
}

#[test]
fn a_row_says_whether_somebody_will_get_it() {
    let faults = |kept, rules: &Rules| {
        let rows = Rows::from([(message(0), Kept::Archived), (message(1), kept)]);
        let mut run = Run::new();
        let verdict = first(&mut run).send(1, 0, 2).hear(0, 2, HeardBy::Answer).verdict(Some(&rows), rules);
        verdict.faults.iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(faults(Kept::Archived, &rules()), [Kind::ArchiveOnly]);
    assert_eq!(faults(Kept::Waiting, &rules()), [Kind::LeftPending]);
    // Without stream management the connection took it.
    let without = Rules { without_sm: HashSet::from([TWO]), ..rules() };
    assert_eq!(faults(Kept::Archived, &without), []);
    assert_eq!(faults(Kept::Waiting, &without), [Kind::LeftPending]);
}

#[test]
fn to_those_without_stream_management_a_loss_is_told_with_the_archive_on_alone() {
    let faults = |archive| {
        let rules = Rules { without_sm: HashSet::from([TWO]), archive, ..rules() };
        let mut run = Run::new();
        let verdict = first(&mut run).send(1, 0, 2).hear(0, 2, HeardBy::Answer).verdict(Some(&Rows::new()), &rules);
        (verdict.count(Kind::Lost), verdict.figures.without_sm_lost)
    };
    assert_eq!((faults(true), faults(false)), ((1, 0), (0, 1)));
}

#[test]
fn a_row_that_waits_although_it_was_acknowledged_is_kept_too_long() {
    let verdict = |kept| first(&mut Run::new()).verdict(Some(&Rows::from([(message(0), kept)])), &rules());
    assert_eq!(verdict(Kept::Waiting).count(Kind::KeptTooLong), 1);
    assert_eq!(verdict(Kept::Archived).faults, []);
    let without_row = first(&mut Run::new()).verdict(Some(&Rows::new()), &rules());
    assert_eq!((without_row.faults, without_row.figures.received_without_row), (vec![], 1));
}

#[test]
fn what_was_in_flight_at_a_kill_may_come_twice() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").kill().bind(TWO).receive(1, 2, 1, "id1");
    let verdict = run.verdict(None, &rules());
    assert_eq!(verdict.faults, []);
    assert_eq!((verdict.figures.doubled, verdict.figures.doubled_by_id, verdict.figures.in_flight), (1, 1, 1));
}

#[test]
fn what_was_acknowledged_right_before_a_kill_may_come_twice_and_long_before_may_not() {
    let run = |wait: bool| {
        let mut run = Run::new();
        first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").count(1, 2);
        if wait {
            run.wait();
        }
        run.kill().bind(TWO).receive(1, 2, 1, "id1").faults()
    };
    assert_eq!((run(false), run(true)), (vec![], vec![Kind::Doubled]));
}

#[test]
fn what_was_acknowledged_again_by_a_resumption_may_not_come_twice() {
    let run = |resumes: bool| {
        let mut run = Run::new();
        first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").count(1, 2).gone(TWO, End::Cut);
        if resumes {
            run.note(Some(TWO), Event::Resumed { session: Session(1) }).count(1, 2);
        }
        run.wait().kill().bind(TWO).receive(1, 2, 1, "id1").faults()
    };
    assert_eq!((run(false), run(true)), (vec![], vec![Kind::Doubled]));
}

#[test]
fn while_the_disk_is_full_an_acknowledgement_is_not_on_it() {
    let mut run = Run::new();
    first(&mut run).server(Event::FaultBegins("full")).send(1, 0, 2).receive(1, 1, 2, "id1").count(1, 2).wait();
    run.kill().server(Event::FaultEnds).bind(TWO).receive(1, 2, 1, "id1");
    assert_eq!(run.faults(), []);
}

#[test]
fn the_same_stanza_twice_in_one_session_is_doubled() {
    assert_eq!(first(&mut Run::new()).receive(0, 1, 2, "id0").faults(), [Kind::Doubled]);
    // Also if it was not acknowledged: the server counts too.
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").gone(TWO, End::Cut).receive(1, 1, 3, "id1");
    assert_eq!(run.faults(), [Kind::Doubled]);
}

#[test]
fn a_resend_may_come_twice_with_an_id_of_its_own() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").count(1, 2).wait();
    run.bind(ONE).send_copy(1, 2, 1, 1).receive(1, 1, 3, "id2");
    assert_eq!(run.faults(), []);
    run.receive(1, 1, 4, "id3");
    assert_eq!(run.faults(), [Kind::Doubled]);
}

#[test]
fn a_second_id_without_a_resend_is_doubled_also_in_flight() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").kill().bind(TWO).receive(1, 2, 1, "id2");
    assert_eq!(run.faults(), [Kind::Doubled]);
}

#[test]
fn copies_without_ids_are_counted_against_resends() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).receive(1, 1, 2, "").count(1, 2).wait();
    run.bind(ONE).send_copy(1, 2, 1, 1).receive(1, 1, 3, "");
    assert_eq!(run.faults(), []);
    assert_eq!(run.receive(1, 1, 4, "").faults(), [Kind::Doubled]);
}

#[test]
fn what_comes_behind_a_later_one_is_out_of_order() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).send(2, 0, 3).send(3, 0, 4);
    let mut other = Run { entries: run.entries.clone(), now: run.now, sessions: run.sessions };
    run.receive(1, 1, 2, "id1").receive(2, 1, 3, "id2").receive(3, 1, 4, "id3");
    assert_eq!(run.faults(), []);
    other.receive(2, 1, 2, "id2").receive(1, 1, 3, "id1").receive(3, 1, 4, "id3");
    assert_eq!(other.faults(), [Kind::OutOfOrder]);
}

#[test]
fn what_came_to_a_resource_before_it_was_available_may_come_before_what_waited_for_that() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).send(2, 0, 3).send(3, 0, 4).receive(3, 1, 2, "id3");
    let mut other = Run { entries: run.entries.clone(), now: run.now, sessions: run.sessions };
    if let Some(Entry { event: Event::Received { early, .. }, .. }) = run.entries.last_mut() {
        *early = true;
    }
    assert_eq!(run.receive(1, 1, 3, "id1").receive(2, 1, 4, "id2").faults(), []);
    // The others still have their order.
    assert_eq!(other.receive(2, 1, 3, "id2").receive(1, 1, 4, "id1").faults(), [Kind::OutOfOrder, Kind::OutOfOrder]);
}

#[test]
fn without_stream_management_order_ends_with_the_connection() {
    let send = |run: &mut Run, sequence| {
        run.note(Some(ONE), Event::Sent { message: message(sequence), place: None, copy: 0 });
    };
    let faults = |binds: bool| {
        let mut run = Run::new();
        first(&mut run).gone(ONE, End::Cut).note(Some(ONE), Event::Bound { session: None });
        send(&mut run, 1);
        if binds {
            run.gone(ONE, End::Cut).note(Some(ONE), Event::Bound { session: None });
        }
        send(&mut run, 2);
        run.receive(2, 1, 2, "id2").receive(1, 1, 3, "id1").faults()
    };
    assert_eq!((faults(false), faults(true)), (vec![Kind::OutOfOrder], vec![]));
}

#[test]
fn what_had_to_be_sent_again_may_come_behind_what_was_first_sent_before_that_and_nothing_else() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).send(2, 0, 3).receive(2, 1, 2, "id2").kill().bind(ONE).bind(TWO);
    run.send_copy(1, 2, 1, 1).send(3, 2, 2);
    let mut other = Run { entries: run.entries.clone(), now: run.now, sessions: run.sessions };
    assert_eq!(run.receive(1, 3, 1, "id1").receive(3, 3, 2, "id3").faults(), []);
    assert_eq!(other.receive(3, 3, 1, "id3").receive(1, 3, 2, "id1").faults(), [Kind::OutOfOrder]);
}

#[test]
fn a_second_copy_is_not_out_of_order() {
    let mut run = Run::new();
    first(&mut run).send(1, 0, 2).send(2, 0, 3).receive(1, 1, 2, "id1").receive(2, 1, 3, "id2").kill().bind(TWO);
    assert_eq!(run.receive(1, 2, 1, "id1").receive(2, 2, 2, "id2").faults(), []);
}

#[test]
fn an_h_below_an_earlier_one_went_back() {
    for by in [HeardBy::Answer, HeardBy::Resumed] {
        let mut run = Run::new();
        first(&mut run).send(1, 0, 2).receive(1, 1, 2, "id1").hear(0, 2, HeardBy::Answer).hear(0, 2, by);
        assert_eq!(run.faults(), []);
        assert_eq!(run.hear(0, 1, by).faults(), [Kind::HBack]);
    }
}

#[test]
fn an_h_above_what_was_sent_is_too_high() {
    assert_eq!(first(&mut Run::new()).hear(0, 2, HeardBy::Answer).faults(), [Kind::HTooHigh]);
}

#[test]
fn a_client_that_does_not_come_to_rest_is_stuck() {
    let mut run = Run::new();
    first(&mut run).note(Some(ONE), Event::Settled { stuck: Some("waits".to_owned()) });
    let verdict = Verdict::new(&run.entries, None, &rules());
    assert_eq!(
        verdict.faults.iter().map(|fault| (fault.kind, fault.user)).collect::<Vec<_>>(),
        [(Kind::Stuck, Some(ONE)), (Kind::Stuck, Some(TWO))]
    );
}

#[test]
fn a_message_at_another_client_or_from_nobody_is_astray() {
    let place = Some((Session(0), 1));
    let received = |message| Event::Received { message, place, stanza_id: None, delayed: false, early: false };
    assert_eq!(first(&mut Run::new()).send(1, 0, 2).note(Some(ONE), received(message(1))).faults(), [Kind::Astray]);
    assert_eq!(first(&mut Run::new()).receive(7, 1, 2, "id").faults(), [Kind::Astray]);
}

#[test]
fn trouble_fails_a_run() {
    let mut run = Run::new();
    let verdict = first(&mut run).server(Event::Trouble("panicked".to_owned())).verdict(None, &rules());
    assert_eq!(verdict.faults.len(), 1);
    assert!(verdict.to_string().ends_with("FAILED"), "{verdict}");
}
