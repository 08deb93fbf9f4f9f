use super::*;

fn disco(features: &[&str]) -> Disco {
    let features: String = features.iter().map(|feature| format!("<feature var='{feature}'/>")).collect();
    let query = format!(
        "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='pc'/>{features}</query>"
    );
    Disco::parse(&query.parse().unwrap()).unwrap()
}

fn announced(disco: &Disco) -> Announced {
    let ver = Algorithm::Sha1.ver(&disco.verification_string());
    Announced { node: "urn:client".to_owned(), ver, hash: Some(Algorithm::Sha1) }
}

fn full(session: u128) -> FullJid {
    format!("user{session}@localhost/here").parse().unwrap()
}

/// A cache, its clock, and ids that count.
struct World {
    cache: Cache,
    now: Instant,
    ids: u128,
}

impl World {
    fn new() -> Self {
        Self { cache: Cache::default(), now: Instant::now(), ids: 0 }
    }

    /// Who is asked, and by which id.
    fn announce(&mut self, session: u128, announced: Announced) -> Vec<(String, u128)> {
        let ids = &mut self.ids;
        let asks = self.cache.announced(SessionId(session), &full(session), announced, self.now, || {
            *ids += 1;
            *ids
        });
        asks.into_iter().map(|ask| (ask.to.to_string(), ask.id)).collect()
    }

    /// The only one that is asked.
    fn asked(&mut self, session: u128, announced: Announced) -> u128 {
        let asks = self.announce(session, announced);
        assert_eq!(asks.len(), 1, "{asks:?}");
        assert_eq!(asks[0].0, full(session).to_string());
        asks[0].1
    }

    fn answer(&mut self, id: u128, session: u128, answer: Option<Disco>) -> Option<Option<(String, u128)>> {
        let ids = &mut self.ids;
        let taken = self.cache.answered(id, SessionId(session), &full(session), answer, self.now, || {
            *ids += 1;
            *ids
        });
        taken.map(|next| next.map(|ask| (ask.to.to_string(), ask.id)))
    }

    fn end(&mut self, session: u128) -> Option<(String, u128)> {
        let ids = &mut self.ids;
        let next = self.cache.ended(SessionId(session), self.now, || {
            *ids += 1;
            *ids
        });
        next.map(|ask| (ask.to.to_string(), ask.id))
    }

    fn features(&mut self, session: u128) -> Option<Vec<String>> {
        self.cache.of(SessionId(session)).map(|info| info.features.clone())
    }
}

fn features(features: &[&str]) -> Option<Vec<String>> {
    Some(features.iter().map(|feature| (*feature).to_owned()).collect())
}

#[test]
fn xep0115_6_2_the_first_of_a_hash_is_asked_by_its_node_and_the_others_are_known() {
    let mut world = World::new();
    let client = disco(&["urn:a", "urn:b"]);
    let announced = announced(&client);
    let asks = world.cache.announced(SessionId(1), &full(1), announced.clone(), world.now, || 7);
    let node = format!("urn:client#{}", announced.ver);
    assert_eq!(asks, [Ask { id: 7, to: full(1), node }]);
    assert!(world.announce(2, announced.clone()).is_empty(), "one at a time");
    assert!(world.announce(1, announced.clone()).is_empty(), "nor twice");
    assert_eq!(world.answer(7, 1, Some(client)), Some(None));
    assert!(world.announce(3, announced).is_empty());
    for session in 1..=3 {
        assert_eq!(world.features(session), features(&["urn:a", "urn:b"]), "{session}");
    }
}

#[test]
fn a_wrong_hash_is_believed_of_the_one_that_said_it_and_the_next_is_asked() {
    let mut world = World::new();
    let honest = disco(&["urn:a", "urn:b"]);
    let id = world.asked(1, announced(&honest));
    assert!(world.announce(2, announced(&honest)).is_empty());
    let next = world.answer(id, 1, Some(disco(&["urn:evil"]))).unwrap().unwrap();
    assert_eq!(next.0, full(2).to_string());
    assert_eq!((world.features(1), world.features(2)), (features(&["urn:evil"]), None));
    assert_eq!(world.answer(next.1, 2, Some(honest.clone())), Some(None));
    assert!(world.announce(3, announced(&honest)).is_empty());
    assert_eq!(world.features(3), features(&["urn:a", "urn:b"]));
    assert_eq!(world.features(1), features(&["urn:evil"]), "what it said of itself stays");
    assert!(world.announce(1, announced(&honest)).is_empty(), "it is not asked again");
}

#[test]
fn a_right_hash_over_an_ambiguous_answer_proves_nothing_to_others() {
    let mut world = World::new();
    let honest = disco(&["urn:a", "urn:b"]);
    let forged = Disco::parse(
        &"<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='pc'/>\
          <feature var='urn:a'/><x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>urn:b</value>\
          </field></x></query>"
            .parse()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(announced(&forged), announced(&honest), "the hash is the same");
    let id = world.asked(1, announced(&honest));
    assert_eq!(world.answer(id, 1, Some(forged)), Some(None));
    let id = world.asked(2, announced(&honest));
    assert_eq!(world.features(1), features(&["urn:a"]));
    assert_eq!(world.answer(id, 2, Some(honest)), Some(None));
    assert_eq!(world.features(2), features(&["urn:a", "urn:b"]));
}

#[test]
fn answers_count_only_from_whom_was_asked_by_the_id_that_was_asked_and_once() {
    let mut world = World::new();
    let client = disco(&["urn:a"]);
    let id = world.asked(1, announced(&client));
    world.announce(2, announced(&client));
    assert_eq!(world.answer(id, 2, Some(client.clone())), None, "another session");
    assert_eq!(world.answer(id + 1, 1, Some(client.clone())), None, "another id");
    let (now, elsewhere) = (world.now, full(2));
    let other = world.cache.answered(id, SessionId(1), &elsewhere, Some(client.clone()), now, || 99);
    assert_eq!(other, None, "another address");
    assert_eq!(world.features(1), None);
    assert_eq!(world.answer(id, 1, Some(client.clone())), Some(None));
    assert_eq!(world.answer(id, 1, Some(disco(&["urn:evil"]))), None, "a second answer");
    assert_eq!(world.features(1), features(&["urn:a"]));
}

#[test]
fn without_a_hash_that_is_known_here_each_is_asked_for_itself() {
    let mut world = World::new();
    let client = disco(&["urn:a"]);
    let old = Announced { hash: None, ..announced(&client) };
    let one = world.asked(1, old.clone());
    let two = world.asked(2, old.clone());
    assert_eq!(world.answer(one, 1, Some(client.clone())), Some(None));
    assert_eq!((world.features(1), world.features(2)), (features(&["urn:a"]), None));
    assert_eq!(world.answer(two, 2, Some(disco(&["urn:b"]))), Some(None));
    assert_eq!(world.features(2), features(&["urn:b"]));
    world.asked(3, old);
    world.asked(4, announced(&client));
}

#[test]
fn errors_ends_and_silence_pass_the_question_on() {
    let client = disco(&["urn:a"]);
    let ask = announced(&client);
    let mut world = World::new();
    let id = world.asked(1, ask.clone());
    for session in 2..=5 {
        assert!(world.announce(session, ask.clone()).is_empty());
    }
    let next = world.answer(id, 1, None).unwrap().unwrap();
    assert_eq!(next.0, full(2).to_string(), "an error");
    let next = world.end(2).unwrap();
    assert_eq!(next.0, full(3).to_string(), "its session ended");
    assert_eq!(world.end(4), None, "one that waited");
    world.now += PATIENCE;
    let asks = world.announce(6, ask);
    assert_eq!(asks.len(), 1, "too late");
    assert_eq!(asks[0].0, full(5).to_string(), "the one that waits longest, and still does");
    assert_eq!(world.answer(next.1, 3, Some(client.clone())), None, "an answer that came too late");
    assert_eq!(world.answer(asks[0].1, 5, Some(client)), Some(None));
    assert_eq!(world.features(6), features(&["urn:a"]));
    assert_eq!((world.features(1), world.features(3)), (None, None));
}

#[test]
fn who_announces_something_else_is_asked_about_that() {
    let mut world = World::new();
    let (one, two) = (disco(&["urn:a"]), disco(&["urn:b"]));
    let first = world.asked(1, announced(&one));
    assert!(world.announce(2, announced(&one)).is_empty());
    let asks = world.announce(1, announced(&two));
    let asked: Vec<_> = asks.iter().map(|(to, _)| to.clone()).collect();
    assert_eq!(asked, [full(2).to_string(), full(1).to_string()], "the one that waited, and the new question");
    assert_eq!(world.answer(first, 1, Some(one)), None);
    assert_eq!(world.answer(asks[1].1, 1, Some(two)), Some(None));
    assert_eq!(world.features(1), features(&["urn:b"]));
}

#[test]
fn memory_is_bounded_however_many_hashes_are_announced() {
    let mut world = World::new();
    let named = |at: u128| disco(&[&format!("urn:{at:06}")]);
    for at in 0..(3 * KNOWN as u128) {
        let id = world.asked(at, announced(&named(at)));
        world.answer(id, at, Some(named(at))).unwrap();
        // One is used all the time.
        assert!(world.announce(1_000_000, announced(&named(0))).is_empty(), "{at}");
        world.end(1_000_000);
        world.end(at);
    }
    assert!(world.cache.known.young.len() + world.cache.known.old.len() <= KNOWN);
    assert!(world.cache.sessions.is_empty() && world.cache.pending.is_empty() && world.cache.open.is_empty());
}

#[test]
fn questions_are_bounded_and_those_never_answered_make_room() {
    let mut world = World::new();
    let named = |at: u128| announced(&disco(&[&format!("urn:{at:06}")]));
    for at in 0..PENDING as u128 {
        world.asked(at, named(at));
    }
    assert!(world.announce(1000, named(1000)).is_empty());
    assert_eq!(world.cache.pending.len(), PENDING);
    world.now += PATIENCE;
    world.asked(1000, named(1000));
    assert_eq!(world.cache.pending.len(), 1);
    for at in (0..PENDING as u128).chain([1000]) {
        world.end(at);
    }
    assert!(world.cache.sessions.is_empty() && world.cache.pending.is_empty() && world.cache.open.is_empty());
}

#[test]
fn what_waits_for_one_answer_is_bounded_and_learns_of_it_all_the_same() {
    let mut world = World::new();
    let client = disco(&["urn:a"]);
    let id = world.asked(0, announced(&client));
    for session in 1..100 {
        assert!(world.announce(session, announced(&client)).is_empty());
    }
    assert_eq!(world.cache.pending[&id].waiters.len(), WAITERS);
    world.answer(id, 0, Some(client)).unwrap();
    assert_eq!(world.features(99), features(&["urn:a"]));
}
