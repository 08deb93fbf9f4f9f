//! What becomes of sessions that have no room for roster pushes.

use super::*;

const SET: &str = "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='a@example.net'/></query></iq>";

async fn wants_pushes(world: &World, client: &Client) -> bool {
    let sessions = world.service.registry().sessions(&juliet()).await.unwrap();
    sessions.iter().any(|record| record.full == client.session.full && record.roster)
}

/// A later push would say that the client knows all before it.
#[tokio::test]
async fn who_missed_a_push_gets_no_later_one_until_it_asks_again() {
    let world = World::with_room(Bounds { stanzas: 2, bytes: 1 << 20 }).await;
    let mut slow = world.client("juliet@example.com", "slow").await;
    slow.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").await;
    let mut other = world.client("juliet@example.com", "other").await;
    for _ in 0..2 {
        other.send(SET).await;
    }
    assert!(wants_pushes(&world, &slow).await);
    other.send(SET).await;
    assert!(!wants_pushes(&world, &slow).await);
    assert_eq!(slow.came().len(), 2);
    other.send(SET).await;
    assert_eq!(slow.came(), Vec::<String>::new());
    // By the version that it has it is told all that it missed.
    let answer = slow.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster' ver='2'/></iq>").await;
    assert_eq!(answer, "<iq type='result' id='r' to='juliet@example.com/slow'/>");
    assert_eq!(slow.came(), ["push a@example.net none"]);
    assert!(wants_pushes(&world, &slow).await);
}

#[tokio::test]
async fn where_there_is_no_room_for_the_changes_the_whole_roster_is_sent() {
    let world = World::with_room(Bounds { stanzas: 2, bytes: 1 << 20 }).await;
    let mut other = world.client("juliet@example.com", "other").await;
    for name in ["a", "b", "c"] {
        other.send(&SET.replace("a@", &format!("{name}@"))).await;
    }
    let mut client = world.client("juliet@example.com", "slow").await;
    let answer = client.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster' ver='0'/></iq>").await;
    assert_eq!(answer.matches("<item ").count(), 3, "{answer}");
}
