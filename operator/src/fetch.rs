//! Reads from the cluster what a server refers to: the step that makes [`Dereferenced`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, Error};

use crate::{
    crd::XmppServer,
    dereference::{
        CertificateLookup, Cluster, Dereferenced, Hidden, LinkCertificates, Lookup, Reference, Source,
        certificate_secrets, references,
    },
    x509,
};

/// Requests of one server at a time.
const AT_ONCE: usize = 4;

/// An object's data, or that it is not there.
type Found = Option<BTreeMap<String, ByteString>>;

/// All objects that a server refers to.
#[must_use]
pub fn sources(server: &XmppServer) -> BTreeSet<(Source, String)> {
    let values = references(server).into_iter().map(|reference| (reference.source, reference.name));
    values.chain(certificate_secrets(server).into_iter().map(|name| (Source::Secret, name))).collect()
}

/// Reads everything that a server refers to.
///
/// # Errors
/// If the API server does not answer, or does not let us. What is not there is no error.
pub async fn dereference(
    client: &Client,
    server: &XmppServer,
    image: &str,
    cluster: Cluster,
    link: Option<LinkCertificates>,
    now: SystemTime,
) -> Result<Dereferenced, Error> {
    let namespace = server.metadata.namespace.as_deref().unwrap_or_default();
    let objects = stream::iter(sources(server)).map(|(source, name)| async move {
        let data = read(client, namespace, source, &name).await?;
        Ok::<_, Error>(((source, name), data))
    });
    let objects: BTreeMap<_, _> = objects.buffer_unordered(AT_ONCE).try_collect().await?;
    let data = |source: Source, name: &str| objects.get(&(source, name.to_owned())).and_then(Option::as_ref);
    let values = references(server).into_iter().map(|reference| {
        let found = lookup(data(reference.source, &reference.name), &reference);
        (reference, found)
    });
    let certificates = certificate_secrets(server).into_iter().map(|secret| {
        let found = certificate(data(Source::Secret, &secret));
        (secret, found)
    });
    Ok(Dereferenced {
        now,
        image: image.to_owned(),
        cluster,
        values: values.collect(),
        certificates: certificates.collect(),
        link,
    })
}

async fn read(client: &Client, namespace: &str, source: Source, name: &str) -> Result<Found, Error> {
    Ok(match source {
        Source::Secret => {
            let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
            secret.map(|secret| secret.data.unwrap_or_default())
        }
        Source::ConfigMap => {
            let map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await?;
            map.map(|map| {
                let text = map.data.into_iter().flatten().map(|(key, text)| (key, ByteString(text.into_bytes())));
                text.chain(map.binary_data.into_iter().flatten()).collect()
            })
        }
    })
}

fn lookup(data: Option<&BTreeMap<String, ByteString>>, reference: &Reference) -> Lookup {
    let Some(data) = data else { return Lookup::NoObject };
    let Some(value) = data.get(&reference.key) else { return Lookup::NoKey };
    std::str::from_utf8(&value.0).map_or(Lookup::NotText, |text| Lookup::Found(Hidden::new(text)))
}

fn certificate(data: Option<&BTreeMap<String, ByteString>>) -> CertificateLookup {
    let Some(data) = data else { return CertificateLookup::Missing };
    let text = |key: &str| data.get(key).and_then(|value| std::str::from_utf8(&value.0).ok());
    let (Some(certificate), Some(key)) = (text("tls.crt"), text("tls.key")) else {
        return CertificateLookup::Unusable("it lacks tls.crt or tls.key, or they are no text".to_owned());
    };
    match x509::pair(certificate, key) {
        Ok(facts) => CertificateLookup::Found(facts),
        Err(error) => CertificateLookup::Unusable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(values: &[(&str, &[u8])]) -> BTreeMap<String, ByteString> {
        values.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec()))).collect()
    }

    #[test]
    fn each_way_in_which_a_value_may_be_missing_is_told_apart() {
        let reference = Reference::secret("redis", "url");
        assert_eq!(lookup(None, &reference), Lookup::NoObject);
        assert_eq!(lookup(Some(&data(&[("uri", b"x")])), &reference), Lookup::NoKey);
        assert_eq!(lookup(Some(&data(&[("url", b"\xff")])), &reference), Lookup::NotText);
        assert_eq!(lookup(Some(&data(&[("url", b"x")])), &reference), Lookup::Found(Hidden::new("x")));
    }

    #[test]
    fn a_certificate_is_found_only_with_its_own_key() {
        let pair = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let ((certificate, key), (_, other)) = (pair("example.com"), pair("example.org"));
        let of = |certificate: &str, key: &str| {
            super::certificate(Some(&data(&[("tls.crt", certificate.as_bytes()), ("tls.key", key.as_bytes())])))
        };
        let CertificateLookup::Found(facts) = of(&certificate, &key) else { panic!("{:?}", of(&certificate, &key)) };
        assert_eq!(facts.names, ["example.com"]);
        for (certificate, key) in [(&*certificate, &*other), ("", &*key), (&*certificate, ""), (&*key, &*certificate)] {
            let CertificateLookup::Unusable(reason) = of(certificate, key) else { panic!("taken") };
            assert!(!reason.contains("BEGIN"), "{reason}");
        }
        assert_eq!(super::certificate(None), CertificateLookup::Missing);
    }
}
