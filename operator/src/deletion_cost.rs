//! Which pods go first when there are to be fewer: those with the fewest sessions.
//!
//! Kubernetes takes away the pods with the lowest `controller.kubernetes.io/pod-deletion-cost`. It is written only when pods
//! are about to go: written all the time, it would be a request for each pod and look.

use std::{net::IpAddr, time::Duration};

use futures_util::{StreamExt as _, stream};
use hyper::{Request, StatusCode, body::Body as _, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tracing::{debug, warn};

use crate::{
    inventory::ServerKey,
    names::{self, Component},
};

const ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The gauge of `starlingd`.
const GAUGE: &str = "starling_sessions";
/// Pods that are asked at a time.
const AT_ONCE: usize = 16;
/// For one pod's answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Of one answer.
const BYTES: usize = 1024 * 1024;

/// Writes the cost of every pod of a component. Pods that do not answer keep theirs: going by it is a favour, not a need.
pub async fn write(client: &Client, server: &ServerKey, component: Component) {
    let pods = Api::<Pod>::namespaced(client.clone(), &server.namespace);
    let selector = names::selector(&server.name, component);
    let selector: Vec<_> = selector.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let list = match pods.list(&ListParams::default().labels(&selector.join(","))).await {
        Ok(list) => list,
        Err(error) => {
            warn!(%server, %error, "Pods cannot be listed; any of them may go first");
            return;
        }
    };
    let alive = list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    stream::iter(alive).for_each_concurrent(AT_ONCE, |pod| write_one(&pods, pod)).await;
}

async fn write_one(pods: &Api<Pod>, pod: Pod) {
    let name = pod.name_any();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
    let Some(address) = address else { return };
    let sessions = match timeout(ANSWER, sessions(address, names::HTTP)).await {
        Ok(Ok(sessions)) => sessions.to_string(),
        Ok(Err(error)) => return debug!(pod = name, %error, "A pod does not say how many sessions it has"),
        Err(_) => return debug!(pod = name, "A pod does not answer in time"),
    };
    if pod.annotations().get(ANNOTATION) == Some(&sessions) {
        return;
    }
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { ANNOTATION: sessions } } }));
    if let Err(error) = pods.patch(&name, &PatchParams::default(), &patch).await {
        warn!(pod = name, %error, "A pod's deletion cost cannot be written; it may go before emptier ones");
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer is too long, or does not have the gauge")]
    NoGauge,
}

async fn sessions(address: IpAddr, port: u16) -> Result<i32, Error> {
    let stream = TcpStream::connect((address, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/metrics").header("host", address.to_string()).body(String::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status()));
        }
        let (mut body, mut bytes) = (Box::pin(response.into_body()), Vec::new());
        while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            bytes.extend(frame?.into_data().unwrap_or_default());
            if bytes.len() > BYTES {
                return Err(Error::NoGauge);
            }
        }
        read(&String::from_utf8_lossy(&bytes)).ok_or(Error::NoGauge)
    };
    // The connection lives as long as the question.
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

/// The gauge of all its series, as a deletion cost: at most what 32 bits hold.
fn read(text: &str) -> Option<i32> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(GAUGE)?;
        let rest = if rest.starts_with('{') { rest.split_once('}')?.1 } else { rest };
        rest.strip_prefix(' ')?.split_whitespace().next()?.parse::<f64>().ok()
    });
    let sum = values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or_default() + value))?;
    // Saturates.
    sum.is_finite().then_some(sum as i32)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn the_gauge_is_found_among_its_neighbours() {
        let text = "# HELP starling_sessions Resources bound now.\n# TYPE starling_sessions gauge\n\
                    starling_sessions_bound_total 99\nstarling_sessions 17\n";
        assert_eq!(read(text), Some(17));
        assert_eq!(
            read("starling_sessions{domain=\"a b\"} 3\nstarling_sessions{domain=\"c\"} 4 1700000000\n"),
            Some(7)
        );
        assert_eq!(read("starling_sessions 1e300\n"), Some(i32::MAX));
        for text in ["", "starling_sessions\n", "starling_sessions NaN\n", "starling_sessions_bound_total 99\n"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_pod_is_asked_and_one_that_talks_without_end_is_not_listened_to() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nstarling_sessions 5\n".to_owned(), Some(5)),
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(), None),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}starling_sessions 5\n", "#\n".repeat(BYTES)), None),
        ] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                // Who does not listen to the end has gone.
                stream.write_all(answer.as_bytes()).await.ok();
            };
            let (found, ()) = tokio::join!(sessions(Ipv4Addr::LOCALHOST.into(), port), serve);
            assert_eq!(found.ok(), expected);
        }
    }
}
