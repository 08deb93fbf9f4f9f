//! SASL and bind, step by step or all at once.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use starling_xml::OwnedElement;

use super::RawClient;
use crate::{Scram, Server};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";

impl RawClient {
    /// Logged in by SCRAM in the clear, with this resource bound. `jid` is the bare JID.
    pub async fn session(server: &Server, jid: &str, password: &str, resource: &str) -> Self {
        let mut client = Self::plain(server).await;
        client.log_in(jid, password, resource).await;
        client
    }

    /// The same, and available.
    pub async fn available(server: &Server, jid: &str, password: &str, resource: &str) -> Self {
        let mut client = Self::session(server, jid, password, resource).await;
        client.become_available(0).await;
        client
    }

    /// From a connection to a bound resource.
    pub async fn log_in(&mut self, jid: &str, password: &str, resource: &str) {
        self.identify(jid, password).await;
        assert_eq!(self.bind(resource).await, format!("{jid}/{resource}"));
    }

    /// From a connection to where a resource can be bound, or a stream be resumed. The features.
    pub async fn identify(&mut self, jid: &str, password: &str) -> OwnedElement {
        let (user, domain) = jid.split_once('@').unwrap();
        self.open(domain).await;
        let result = self.authenticate("SCRAM-SHA-256", user, password).await;
        assert_eq!(result, Ok(()), "{}", self.transcript());
        self.account = Some((jid.to_owned(), password.to_owned()));
        self.open(domain).await
    }

    /// Logged in by SCRAM in the clear, nothing bound. `jid` is the bare JID.
    pub async fn identified(server: &Server, jid: &str, password: &str) -> Self {
        let mut client = Self::plain(server).await;
        client.identify(jid, password).await;
        client
    }

    /// The full JID that was bound last.
    #[must_use]
    pub fn full(&self) -> &str {
        &self.full
    }

    /// The bare JID of the resource that was bound last.
    #[must_use]
    pub fn bare(&self) -> &str {
        self.full.split_once('/').unwrap().0
    }

    /// SASL on an open stream. A -PLUS mechanism binds by `tls-exporter`, else by `tls-server-end-point`.
    ///
    /// # Errors
    /// The condition of `<failure/>`.
    pub async fn authenticate(&mut self, mechanism: &str, user: &str, password: &str) -> Result<(), String> {
        if mechanism == "PLAIN" {
            return self.plain_as("", user, password).await;
        }
        let binding = self.binding("tls-exporter").or_else(|| self.binding("tls-server-end-point")).cloned();
        let binding = binding.filter(|_| mechanism.ends_with("-PLUS"));
        let mut scram = Scram::new(mechanism, user, password, binding.as_ref(), "");
        self.scram(mechanism, &mut scram).await
    }

    /// PLAIN (RFC 4616) with an authorization identity.
    ///
    /// # Errors
    /// The condition of `<failure/>`.
    pub async fn plain_as(&mut self, authzid: &str, user: &str, password: &str) -> Result<(), String> {
        let answer = self.auth("PLAIN", &format!("{authzid}\0{user}\0{password}")).await;
        self.concluded(&answer).map(drop)
    }

    /// A SCRAM exchange as it was prepared.
    ///
    /// # Errors
    /// The condition of `<failure/>`.
    pub async fn scram(&mut self, mechanism: &str, scram: &mut Scram) -> Result<(), String> {
        let challenge = self.auth(mechanism, &scram.first()).await;
        if challenge.as_raw().name() == "failure" {
            return self.concluded(&challenge).map(drop);
        }
        assert!(challenge.as_raw().is("challenge", SASL), "{}", self.transcript());
        let answer = scram.answer(&decode(&challenge));
        let outcome = self.respond(&answer).await;
        let data = self.concluded(&outcome)?;
        assert!(scram.is_proved(&data), "the server's signature: {data:?}\n{}", self.transcript());
        Ok(())
    }

    /// Sends `<auth/>`; the answer.
    pub async fn auth(&mut self, mechanism: &str, initial: &str) -> OwnedElement {
        let initial = STANDARD.encode(initial);
        self.ask(&format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{initial}</auth>")).await
    }

    /// Sends `<response/>`; the answer.
    pub async fn respond(&mut self, data: &str) -> OwnedElement {
        let data = STANDARD.encode(data);
        self.ask(&format!("<response xmlns='{SASL}'>{data}</response>")).await
    }

    /// The data of `<success/>`, or the condition of `<failure/>`. After success the stream is new (RFC 6120 §6.4.6).
    fn concluded(&mut self, answer: &OwnedElement) -> Result<String, String> {
        let raw = answer.as_raw();
        assert_eq!(raw.namespace(), SASL, "{}", self.transcript());
        match raw.name() {
            "success" => {
                self.restart();
                Ok(decode(answer))
            }
            "failure" => Err(raw.children().next().map(|child| child.name().to_owned()).unwrap_or_default()),
            other => panic!("<{other}/>\n{}", self.transcript()),
        }
    }

    /// Binds this resource, empty: one that the server makes up. The full JID.
    pub async fn bind(&mut self, resource: &str) -> String {
        let answer = self.try_bind(&format!("<resource>{resource}</resource>")).await;
        let raw = answer.as_raw();
        assert_eq!(raw.attribute("type").as_deref(), Some("result"), "{}", self.transcript());
        self.managed.forget();
        self.full = raw.child("bind", BIND).unwrap().child("jid", BIND).unwrap().text().into_owned();
        self.full.clone()
    }

    /// Sends presence, and waits until it comes back (RFC 6121 §4.2.2: also to the resource that it is from).
    pub async fn become_available(&mut self, priority: i8) {
        self.send(&format!("<presence><priority>{priority}</priority></presence>")).await;
        loop {
            let presence = self.element().await;
            assert_eq!(presence.as_raw().name(), "presence", "{}", self.transcript());
            if presence.as_raw().attribute("from").as_deref() == Some(self.full.as_str()) {
                return;
            }
        }
    }

    /// Asks to bind with this inside of `<bind/>`; the answer.
    pub async fn try_bind(&mut self, inner: &str) -> OwnedElement {
        self.ask(&format!("<iq type='set' id='bind'><bind xmlns='{BIND}'>{inner}</bind></iq>")).await
    }

    /// Takes what comes until a ping is answered, which must be presence only.
    pub async fn expect_nothing_but_presence(&mut self) {
        self.send("<iq type='get' id='sync' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await;
        loop {
            let element = self.element().await;
            match element.as_raw().name() {
                "presence" => {}
                "iq" if element.as_raw().attribute("id").as_deref() == Some("sync") => return,
                other => panic!("<{other}/>\n{}", self.transcript()),
            }
        }
    }
}

/// The data of a SASL element.
#[must_use]
pub fn decode(element: &OwnedElement) -> String {
    String::from_utf8(STANDARD.decode(element.as_raw().text().as_ref()).unwrap()).unwrap()
}
