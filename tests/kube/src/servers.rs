//! etcd, kube-apiserver and kube-controller-manager: their flags, and when they are ready.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Error, ResourceExt as _,
    api::PostParams,
    runtime::{conditions::is_crd_established, wait::Condition as _},
};
use starling_backends::Port;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    Access, Options, PATIENCE,
    certificates::{Certificates, write},
    process::{Folder, Process},
    programs,
};

/// An API server does not say when it is ready: it is asked so often.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Every request and every answer, without their bodies.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
";

/// The children.
#[derive(Debug)]
pub(crate) struct Servers {
    // Fields are dropped in this order: etcd last.
    _controllers: Process,
    api_server: Mutex<Option<Process>>,
    _etcd: Process,
    _ports: [Port; 2],
    api: ApiServer,
    admin: Access,
}

/// How the API server is started, and started again.
#[derive(Debug)]
struct ApiServer {
    program: PathBuf,
    flags: Vec<String>,
    _port: Port,
}

impl Servers {
    /// Starts them in `folder`; the certificates are there.
    pub(crate) async fn start(folder: &Folder, options: &Options) -> Self {
        let programs = programs::folder(&programs::CONTROL_PLANE).await;
        let certificates = Certificates::write(folder.path());
        let ports = [Port::free(), Port::free()];
        let [etcd, peers] = ports.each_ref().map(|port| format!("http://127.0.0.1:{}", port.number()));
        let etcd_flags = etcd_flags(&etcd, &peers);
        let port = Port::free();
        let server = format!("https://127.0.0.1:{}", port.number());
        let access = |name, pair| Access::certificate(folder.path(), name, &server, &certificates.ca, pair);
        let admin = access("admin", &certificates.admin);
        let controllers = access("controllers", &certificates.controllers);

        let etcd_process = Process::start(folder, &programs.join("etcd"), &etcd_flags);
        let mut flags = api_server_flags(folder.path(), &certificates, &etcd, port.number());
        flags.extend_from_slice(&options.api_server);
        let api = ApiServer { program: programs.join("kube-apiserver"), flags, _port: port };
        let api_server = api.start(folder, &admin).await;
        install(&admin, &options.crds).await;

        let mut flags = controller_flags(&certificates, controllers.file());
        flags.extend_from_slice(&options.controller_manager);
        let controllers = Process::start(folder, &programs.join("kube-controller-manager"), &flags);
        Self {
            _controllers: controllers,
            api_server: Mutex::new(Some(api_server)),
            _etcd: etcd_process,
            _ports: ports,
            api,
            admin,
        }
    }

    pub(crate) fn admin(&self) -> &Access {
        &self.admin
    }

    pub(crate) async fn stop_api_server(&self) {
        let process = self.api_server.lock().await.take();
        drop(process.expect("the API server runs"));
    }

    pub(crate) async fn start_api_server(&self, folder: &Folder) {
        let mut process = self.api_server.lock().await;
        assert!(process.is_none(), "the API server runs already");
        *process = Some(self.api.start(folder, &self.admin).await);
    }
}

impl ApiServer {
    /// Returns when it is ready.
    async fn start(&self, folder: &Folder, admin: &Access) -> Process {
        let mut process = Process::start(folder, &self.program, &self.flags);
        let client = admin.client().await;
        let ready = async {
            loop {
                process.assert_runs();
                let request = hyper::Request::get("/readyz").body(Vec::new()).unwrap();
                if client.request_text(request).await.is_ok() {
                    break;
                }
                sleep(ASKED_EVERY).await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            panic!("the API server is not ready after {PATIENCE:?}:\n{}", process.log_end());
        }
        process
    }
}

/// Those that are not there yet.
pub(crate) async fn install(admin: &Access, crds: &[CustomResourceDefinition]) {
    let api = Api::<CustomResourceDefinition>::all(admin.client().await);
    for crd in crds {
        match api.create(&PostParams::default(), crd).await {
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{}: {error}", crd.name_any()),
        }
        crate::until(&api, &crd.name_any(), |crd| is_crd_established().matches_object(crd)).await;
    }
}

fn etcd_flags(clients: &str, peers: &str) -> Vec<String> {
    [
        "--name=etcd",
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--log-level=warn",
        &format!("--listen-client-urls={clients}"),
        &format!("--advertise-client-urls={clients}"),
        &format!("--listen-peer-urls={peers}"),
        &format!("--initial-advertise-peer-urls={peers}"),
        &format!("--initial-cluster=etcd={peers}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server_flags(folder: &Path, certificates: &Certificates, etcd: &str, port: u16) -> Vec<String> {
    let policy = write(folder, "audit-policy.yaml", AUDIT_POLICY);
    let Certificates { ca, server, token_key, token_public_key, .. } = certificates;
    [
        &format!("--etcd-servers={etcd}"),
        "--bind-address=127.0.0.1",
        &format!("--secure-port={port}"),
        &format!("--tls-cert-file={}", server.certificate.display()),
        &format!("--tls-private-key-file={}", server.key.display()),
        &format!("--client-ca-file={}", ca.display()),
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        &format!("--service-account-key-file={}", token_public_key.display()),
        &format!("--service-account-signing-key-file={}", token_key.display()),
        "--service-cluster-ip-range=10.96.0.0/16",
        // No pod reaches it, and a loopback address is not let into its endpoints.
        "--endpoint-reconciler-type=none",
        &format!("--audit-policy-file={}", policy.display()),
        &format!("--audit-log-path={}", folder.join(crate::audit::FILE).display()),
        "--audit-log-mode=blocking",
        // Of MiB: one file, whatever a test does.
        "--audit-log-maxsize=10000",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn controller_flags(certificates: &Certificates, kubeconfig: &Path) -> Vec<String> {
    [
        &format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials",
        &format!("--service-account-private-key-file={}", certificates.token_key.display()),
        &format!("--root-ca-file={}", certificates.ca.display()),
        // Nobody renews the lease of the simulated node: it would be taken for dead, and its pods evicted.
        "--controllers=*,-node-lifecycle-controller",
    ]
    .map(str::to_owned)
    .to_vec()
}
