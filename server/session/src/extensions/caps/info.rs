//! The verification string of XEP-0115 §5.1, and whether an answer proves it (§5.4).
//!
//! The string joins identities, features and forms without saying where one kind ends, so that different answers can have
//! the same hash: a feature at the end may be read as the type of a form. Of all answers with one string, exactly one is
//! taken for everyone ([`Disco::is_canonical`]): the one whose identities are the longest beginning that looks like
//! identities, and whose features are the longest rising run behind them. The others are believed only for the client
//! that gave them.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::{Element, rxml::Namespace};
use starling_xmpp::ns;

const DATA_FORMS: &str = "jabber:x:data";

/// What is remembered of an answer, in bytes; a larger one is believed only for the client that gave it.
const LARGEST: usize = 16 * 1024;

/// How a client hashes its verification string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    /// By its name in the IANA's registry of hash function textual names.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha-1" => Some(Self::Sha1),
            "sha-256" => Some(Self::Sha256),
            "sha-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The value of `ver`: the hash in Base64.
    pub(super) fn ver(self, text: &str) -> String {
        let algorithm = match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha512 => &SHA512,
        };
        STANDARD.encode(digest::digest(algorithm, text.as_bytes()))
    }
}

/// XEP-0030 §3.1. Ordered as §5.1 rule 2 sorts them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) category: String,
    pub(super) kind: String,
    pub(super) lang: String,
    pub(super) name: String,
}

/// A form with a hidden `FORM_TYPE` (XEP-0128).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    kind: String,
    /// Names and values, both sorted.
    fields: Vec<(String, Vec<String>)>,
}

/// An answer to disco#info, sorted as it is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disco {
    pub(super) identities: Vec<Identity>,
    pub(super) features: Vec<String>,
    forms: Vec<Form>,
}

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// What it can do: the values of `var`, sorted.
    pub(crate) features: Vec<String>,
}

impl Disco {
    /// What an entity says of itself.
    pub(super) fn new(mut identities: Vec<Identity>, mut features: Vec<String>) -> Self {
        identities.sort_unstable();
        features.sort_unstable();
        Self { identities, features, forms: Vec::new() }
    }

    /// Reads `<query/>`. `None`: ill-formed (§5.4 rules 3.3 to 3.5), or larger than what is remembered.
    pub(super) fn parse(query: &Element) -> Option<Self> {
        let mut disco = Self::new(Vec::new(), Vec::new());
        let mut bytes = 0;
        for child in query.children() {
            let text = |name| child.attr(name).unwrap_or_default().to_owned();
            if child.is("identity", ns::DISCO_INFO) {
                let lang = child.attr_ns(&Namespace::XML, "lang").unwrap_or_default().to_owned();
                let identity = Identity { category: text("category"), kind: text("type"), lang, name: text("name") };
                bytes += identity.token().len();
                disco.identities.push(identity);
            } else if child.is("feature", ns::DISCO_INFO) {
                let feature = text("var");
                bytes += feature.len();
                disco.features.push(feature);
            } else if child.is("x", DATA_FORMS)
                && let Some(form) = Form::parse(child)?
            {
                disco.forms.push(form);
            }
        }
        disco.identities.sort_unstable();
        disco.features.sort_unstable();
        disco.forms.sort_unstable();
        let twice = has_twice(&disco.identities, |identity| identity)
            || has_twice(&disco.features, |feature| feature)
            || has_twice(&disco.forms, |form| &form.kind);
        (!twice && bytes <= LARGEST).then_some(disco)
    }

    /// §5.1.
    pub(super) fn verification_string(&self) -> String {
        let mut text = String::new();
        let mut push = |token: &str| {
            text.push_str(token);
            text.push('<');
        };
        self.identities.iter().for_each(|identity| push(&identity.token()));
        self.features.iter().for_each(|feature| push(feature));
        for form in &self.forms {
            push(&form.kind);
            for (name, values) in &form.fields {
                push(name);
                values.iter().for_each(|value| push(value));
            }
        }
        text
    }

    /// Whether no other answer with the same verification string is (see above).
    pub(super) fn is_canonical(&self) -> bool {
        let whole = |text: &String| !text.contains('<');
        let identities = self.identities.iter().all(|identity| {
            let Identity { category, kind, lang, name } = identity;
            [category, kind, lang, name].into_iter().all(whole)
                && ![category, kind, lang].into_iter().any(|part| part.contains('/'))
                && looks_like_identity(&identity.token())
        });
        let features = self.features.iter().all(|feature| whole(feature) && !looks_like_identity(feature));
        // A form's type, up to where it might be cut, that rises above the features might be one of them.
        let behind = self.forms.first().map(|form| form.kind.split('<').next().unwrap_or_default());
        let last = self.features.last().map(String::as_str);
        identities && features && last.is_some_and(|last| behind.is_none_or(|behind| behind <= last))
    }

    /// What is kept of it.
    pub(super) fn into_info(self) -> Info {
        Info { features: self.features }
    }
}

impl Identity {
    fn token(&self) -> String {
        let Self { category, kind, lang, name } = self;
        format!("{category}/{kind}/{lang}/{name}")
    }
}

/// Three slashes, with something before the first and between the first two.
fn looks_like_identity(token: &str) -> bool {
    let mut parts = token.splitn(4, '/');
    let filled = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
    filled(parts.next()) && filled(parts.next()) && parts.count() == 2
}

fn has_twice<T, K: PartialEq + ?Sized>(sorted: &[T], key: impl Fn(&T) -> &K) -> bool {
    sorted.windows(2).any(|pair| matches!(pair, [one, other] if key(one) == key(other)))
}

impl Form {
    /// `None`: ill-formed (§5.4 rule 3.5). `Some(None)`: not part of the string (rule 3.6).
    fn parse(form: &Element) -> Option<Option<Self>> {
        let mut kind = None;
        let mut fields = Vec::new();
        for field in form.children().filter(|child| child.is("field", DATA_FORMS)) {
            let mut values: Vec<_> =
                field.children().filter(|child| child.is("value", DATA_FORMS)).map(Element::text).collect();
            values.sort_unstable();
            let name = field.attr("var").unwrap_or_default();
            if name != "FORM_TYPE" {
                fields.push((name.to_owned(), values));
                continue;
            }
            values.dedup();
            if values.len() > 1 {
                return None;
            }
            kind = values.pop().filter(|_| field.attr("type") == Some("hidden"));
        }
        fields.sort_unstable();
        Some(kind.map(|kind| Self { kind, fields }))
    }
}

#[cfg(test)]
mod tests;
