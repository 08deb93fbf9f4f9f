//! RFC 6120 §7.7.2.2: two sessions that had the same full JID, one after the other.

use super::*;

/// The nurse sees Juliet's presence.
async fn watched() -> (World, Client) {
    let world = World::new().await;
    let mut nurse = world.client("nurse@example.com", "hall").await;
    nurse.send("<presence/>").await;
    let mut juliet = world.client("juliet@example.com", "other").await;
    nurse.send("<presence to='juliet@example.com' type='subscribe'/>").await;
    juliet.send("<presence to='nurse@example.com' type='subscribed'/>").await;
    nurse.came();
    (world, nurse)
}

#[tokio::test]
async fn the_older_one_shows_nothing_any_more_and_its_end_is_not_the_end() {
    let (world, mut nurse) = watched().await;
    let mut old = world.juliet().await;
    let mut new = world.juliet().await;
    assert_eq!(nurse.came(), ["- juliet@example.com/balcony -", "- juliet@example.com/balcony -"]);
    old.send("<presence><show>away</show></presence>").await;
    old.send("<presence type='unavailable'/>").await;
    old.session.end().await;
    assert_eq!(nurse.came(), Vec::<String>::new());
    new.send("<presence type='unavailable'/>").await;
    assert_eq!(nurse.came(), ["unavailable juliet@example.com/balcony -"]);
}

#[tokio::test]
async fn the_older_one_is_gone_where_the_newer_one_is_not_available() {
    let (world, mut nurse) = watched().await;
    let old = world.juliet().await;
    nurse.came();
    let new = world.client("juliet@example.com", "balcony").await;
    old.session.end().await;
    assert_eq!(nurse.came(), ["unavailable juliet@example.com/balcony -"]);
    new.session.end().await;
    assert_eq!(nurse.came(), Vec::<String>::new());
}
