//! Meshes and routers in virtual time, with everything that can go wrong between them, by thousands of seeds.
//!
//! ```text
//!   Mesh A ◄──► pipe ◄──► router (its table, its outboxes) ◄──► pipe ◄──► Mesh B
//!               each delays, cuts, loses and doubles what is in it, as the seed says
//! ```
//!
//! What must hold, whatever happens: of two instances that live, each gets what the other sent, once and in order, but for
//! what its sender was told had failed; each kept message is answered once, and settled as its recipient said; nobody waits
//! for ever for one that has died; and in the end nothing is left of it in anybody's memory.

mod instance;
mod network;
mod world;

use self::world::World;

/// So many by default; more by `STARLING_SEEDS=100000`.
const SEEDS: u64 = 1000;

fn run(seeds: u64, faults: world::Faults) {
    let asked = std::env::var("STARLING_SEEDS").ok().and_then(|text| text.parse().ok());
    let only = std::env::var("STARLING_SEED").ok().and_then(|text| text.parse().ok());
    for seed in only.map_or_else(|| 0..asked.unwrap_or(seeds), |seed| seed..seed + 1) {
        World::new(seed, faults).run();
    }
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_on_a_good_network() {
    run(SEEDS / 10, world::Faults::NONE);
}

#[test]
fn nor_when_batches_are_lost_doubled_and_overtake_each_other() {
    run(SEEDS, world::Faults { batches: true, ..world::Faults::NONE });
}

#[test]
fn nor_when_routers_and_connections_come_and_go() {
    run(SEEDS, world::Faults { routers: true, ..world::Faults::NONE });
}

#[test]
fn nobody_waits_for_an_instance_that_has_died_and_one_that_comes_back_is_not_heard() {
    run(SEEDS, world::Faults { instances: true, ..world::Faults::NONE });
}

#[test]
fn nor_when_all_of_it_happens_at_once() {
    run(SEEDS, world::Faults { batches: true, routers: true, instances: true });
}
