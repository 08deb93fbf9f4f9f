//! XEP-0054: vcard-temp.

use starling_test_support::condition;

use crate::{both, juliet, verona};

const VCARD: &str = "vcard-temp";
const JULIET: &str = "<vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN><PHOTO><TYPE>image/png</TYPE>\
                      <BINVAL>iVBORw0KGgo=</BINVAL></PHOTO></vCard>";

fn get(to: &str) -> String {
    format!("<iq type='get' id='v' {to}><vCard xmlns='{VCARD}'/></iq>")
}

#[tokio::test]
async fn xep0054_3_1_one_without_a_vcard_is_told_so() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    for to in ["", "to='juliet@localhost'"] {
        assert_eq!(condition(&client.ask(&get(to)).await).as_deref(), Some("item-not-found"));
    }
}

#[tokio::test]
async fn xep0054_3_2_and_3_3_what_its_owner_sets_everyone_may_read() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for (name, to) in [("Juliet Capulet", ""), ("Juliet Montague", "to='juliet@localhost'")] {
        let card = JULIET.replace("Juliet Capulet", name);
        let answer = juliet.ask(&format!("<iq type='set' id='s' {to}>{card}</iq>")).await;
        assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"));
        assert_eq!(answer.as_raw().children().count(), 0);
        for (client, to) in [(&mut juliet, ""), (&mut romeo, "to='juliet@localhost'")] {
            let answer = client.ask(&get(to)).await;
            let card = answer.as_raw().child("vCard", VCARD).unwrap();
            assert_eq!(card.child("FN", VCARD).unwrap().text(), name);
            let photo = card.child("PHOTO", VCARD).unwrap();
            assert_eq!(photo.child("BINVAL", VCARD).unwrap().text(), "iVBORw0KGgo=");
        }
    }
}

#[tokio::test]
async fn xep0054_3_2_somebody_elses_cannot_be_set() {
    let server = verona().start().await;
    let (mut juliet, mut romeo) = both(&server).await;
    for to in ["juliet@localhost", "nobody@localhost"] {
        let answer = romeo.ask(&format!("<iq type='set' id='s' to='{to}'>{JULIET}</iq>")).await;
        assert_eq!(condition(&answer).as_deref(), Some("forbidden"), "{to}");
    }
    assert_eq!(condition(&juliet.ask(&get("")).await).as_deref(), Some("item-not-found"));
}

#[tokio::test]
async fn xep0054_3_3_no_vcard_and_no_account_are_answered_alike() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let mut answers = Vec::new();
    for who in ["romeo", "nobody"] {
        let answer = client.ask(&get(&format!("to='{who}@localhost'"))).await;
        assert_eq!(condition(&answer).as_deref(), Some("item-not-found"));
        answers.push(answer.as_raw().as_str().replace(who, "*"));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_vcard_has_128_kib_at_most() {
    let server = verona().start().await;
    let mut client = juliet(&server, "balcony").await;
    let card = |length: usize| format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "x".repeat(length));
    let answer = client.ask(&format!("<iq type='set' id='s'>{}</iq>", card(120_000))).await;
    assert_eq!(answer.as_raw().attribute("type").as_deref(), Some("result"));
    let answer = client.ask(&format!("<iq type='set' id='s'>{}</iq>", card(140_000))).await;
    assert_eq!(condition(&answer).as_deref(), Some("resource-constraint"));
    let answer = client.ask(&get("")).await;
    let kept = answer.as_raw().child("vCard", VCARD).unwrap();
    assert_eq!(kept.child("NOTE", VCARD).unwrap().text().len(), 120_000, "the old one stays");
}
