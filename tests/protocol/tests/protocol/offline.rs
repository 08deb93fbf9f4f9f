//! XEP-0160: messages for somebody who is offline. XEP-0203: their delay. XEP-0334: hints. XEP-0359: their ids.

mod hints;
mod races;
mod storage;

use starling_test_support::{Element, RawClient, Row, RowState, Server, body};

fn to_romeo(inner: &str) -> String {
    format!("<message to='romeo@localhost' type='chat' id='m'>{inner}</message>")
}

fn chat(text: impl std::fmt::Display) -> String {
    to_romeo(&format!("<body>{text}</body>"))
}

/// Juliet's session, which learns when what it sent is kept (XEP-0198).
async fn juliet(server: &Server) -> RawClient {
    RawClient::managed(server, "juliet@localhost", "r0m30", "balcony").await
}

/// The messages that come to one of Romeo's clients with available presence of this priority.
async fn messages_at_log_in(server: &Server, client: &mut RawClient, priority: i8) -> Vec<Element> {
    client.send(&format!("<presence><priority>{priority}</priority></presence>")).await;
    let full = client.full().to_owned();
    client.until_presence(&full, None).await;
    fetched(server, client).await
}

/// The messages that come when none waits for Romeo any more.
async fn fetched(server: &Server, client: &mut RawClient) -> Vec<Element> {
    server.until_rows("romeo@localhost", |rows| rows.iter().all(|row| row.state != RowState::Pending)).await;
    messages_so_far(client).await
}

/// The messages that come until the server has nothing more to say.
async fn messages_so_far(client: &mut RawClient) -> Vec<Element> {
    let mut came = client.until_quiet().await;
    came.retain(|element| element.as_raw().name() == "message");
    came
}

fn bodies(messages: &[Element]) -> Vec<String> {
    messages.iter().map(body).collect()
}

/// Whether no row is on its way any more.
fn settled(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.state == RowState::Delivered)
}
