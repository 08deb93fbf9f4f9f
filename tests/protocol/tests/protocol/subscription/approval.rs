//! RFC 6121 §3.4: approval before it is asked for.

use super::{lovers, nothing, presence};
use crate::{
    romeo,
    roster::{act, came, interest},
    verona,
};

#[tokio::test]
async fn rfc6121_3_4_who_is_approved_of_before_need_not_wait() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    // §3.4.2: noted, and not told to him.
    assert_eq!(act(&mut juliet, &presence("romeo", "subscribed")).await, ["push romeo@localhost none approved"]);
    assert_eq!(came(&mut romeo).await, nothing());
    assert_eq!(interest(&mut juliet).await, ["romeo@localhost none approved"]);
    // §3.4.3: answered for her.
    let expected = [
        "push juliet@localhost none ask",
        "subscribed juliet@localhost",
        "push juliet@localhost to",
        "available juliet@localhost/balcony",
    ];
    assert_eq!(act(&mut romeo, &presence("juliet", "subscribe")).await, expected);
    assert_eq!(came(&mut juliet).await, ["push romeo@localhost from approved"]);
}

#[tokio::test]
async fn rfc6121_3_4_approval_holds_for_who_asks_while_one_is_away() {
    let server = verona().start().await;
    let (mut juliet, asking) = lovers(&server).await;
    asking.close().await;
    act(&mut juliet, &presence("romeo", "subscribed")).await;
    juliet.close().await;
    let mut asking = romeo(&server, "orchard").await;
    interest(&mut asking).await;
    let expected = ["push juliet@localhost none ask", "push juliet@localhost to"];
    let told = act(&mut asking, &presence("juliet", "subscribe")).await;
    assert_eq!(
        told.iter().filter(|line| line.starts_with("push")).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn rfc6121_3_4_2_approval_can_be_taken_back_before_and_after() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    act(&mut juliet, &presence("romeo", "subscribed")).await;
    assert_eq!(act(&mut juliet, &presence("romeo", "unsubscribed")).await, ["push romeo@localhost none"]);
    assert_eq!(came(&mut romeo).await, nothing());
    assert_eq!(act(&mut romeo, &presence("juliet", "subscribe")).await, ["push juliet@localhost none ask"]);
    assert_eq!(came(&mut juliet).await, ["subscribe romeo@localhost"]);
    // Now it is an answer.
    assert_eq!(act(&mut juliet, &presence("romeo", "subscribed")).await, ["push romeo@localhost from"]);
    assert_eq!(act(&mut juliet, &presence("romeo", "unsubscribed")).await, ["push romeo@localhost none"]);
    // And after it was used.
    act(&mut juliet, &presence("romeo", "subscribed")).await;
    act(&mut romeo, &presence("juliet", "subscribe")).await;
    came(&mut juliet).await;
    assert_eq!(act(&mut juliet, &presence("romeo", "unsubscribed")).await, ["push romeo@localhost none"]);
    act(&mut romeo, &presence("juliet", "subscribe")).await;
    assert_eq!(came(&mut juliet).await, ["subscribe romeo@localhost"]);
}

/// §3.4.2: one who has it is not approved of again.
#[tokio::test]
async fn rfc6121_3_4_2_approval_of_what_is_so_changes_nothing() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = lovers(&server).await;
    act(&mut romeo, &presence("juliet", "subscribe")).await;
    act(&mut juliet, &presence("romeo", "subscribed")).await;
    came(&mut romeo).await;
    assert_eq!(act(&mut juliet, &presence("romeo", "subscribed")).await, nothing());
    assert_eq!(came(&mut romeo).await, nothing());
    assert_eq!(interest(&mut juliet).await, ["romeo@localhost from"]);
}
