//! A container: the image's files and a pod's volumes, in the pod's network, for one program that may do nothing beyond that.
//!
//! ```text
//!   unshare (mounts) ─► sh: image, read-only (overlay) ─► volumes over it ─► setpriv (no new privileges)
//!                       ─► nsenter (the pod's network, this root, its user) ─► the program
//! ```
//!
//! Each of them becomes the next: the process is the program's. There are no limits of memory and CPU, and no seccomp.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSecurityContext};
use kube::ResourceExt as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::{network::PodNetwork, objects::Objects, volumes::Mounted};

/// `$1`: layers; `$2`: the root; then source, target and `ro` or `rw` of each mount, and behind `--` what is run.
const MOUNT: &str = r#"
mount -t overlay overlay -o "ro,lowerdir=$1" "$2"
root=$2; shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$2"
    if [ "$3" = ro ]; then mount -o remount,bind,ro "$root$2"; fi
    shift 3
done
shift
exec "$@"
"#;

/// What every pod here is of, whatever its image is called.
#[derive(Debug)]
pub(super) struct Image {
    root: PathBuf,
    entrypoint: String,
}

/// Where the image's program starts, and what its user calls home: as the Dockerfile says.
const WORKING_FOLDER: &str = "/var/lib/starling";

impl Image {
    /// Of a program, by the script that the images are made by.
    pub(super) fn of(program: &Path, folder: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/images/root");
        let root = folder.join("image");
        let output = std::process::Command::new(script).arg(program).arg(&root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let name = program.file_name().unwrap().to_str().unwrap();
        Self { root, entrypoint: format!("/usr/bin/{name}") }
    }
}

/// What a pod has said so far, all of its containers.
#[derive(Debug, Default)]
pub(super) struct Log(watch::Sender<String>);

impl Log {
    pub(super) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until this was said.
    pub(super) async fn says(&self, what: &str) {
        // There is no error: the sender is here.
        self.0.subscribe().wait_for(|text| text.contains(what)).await.ok();
    }

    fn read(self: &Arc<Self>, from: impl AsyncRead + Send + Unpin + 'static) {
        let log = Arc::clone(self);
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.0.send_modify(|text| text.extend([line.as_str(), "\n"]));
            }
        });
    }
}

/// Who a program is.
#[derive(Clone, Copy, Debug)]
struct User {
    user: i64,
    group: i64,
}

/// Where a pod's containers are.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) network: PodNetwork,
    pub(super) volumes: Vec<Mounted>,
    pub(super) image: Arc<Image>,
    pub(super) log: Arc<Log>,
}

/// A container that runs. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    entry: Entry,
}

/// A way into a container that runs.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) process: u32,
    environment: Vec<(String, String)>,
    user: User,
    program: String,
}

impl Place {
    /// Starts a container of `pod`.
    pub(super) fn start(&self, pod: &Pod, container: &Container, objects: &Objects) -> Running {
        let user = user(pod, container);
        let environment = environment(pod, container, objects, self.network.address);
        let (own, root) = (self.folder.join(format!("{}.own", container.name)), self.folder.join(&container.name));
        self.lay_out(pod, container, &own);
        fs::create_dir_all(&root).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", MOUNT, "sh"]);
        command.arg(format!("{}:{}", own.display(), self.image.root.display())).arg(&root);
        for mount in container.volume_mounts.iter().flatten() {
            let volume =
                self.volumes.iter().find(|volume| volume.name() == mount.name).expect("a volume for each mount");
            let mode = if mount.read_only == Some(true) { "ro" } else { "rw" };
            command.arg(volume.folder()).arg(&mount.mount_path).arg(mode);
        }
        command.args(["--", "setpriv", "--no-new-privs", "nsenter"]);
        command.arg(format!("--net={}", self.network.file().display()));
        let (program, arguments) = self.program(container);
        inside(&mut command, &root, user);
        command.arg(&program).args(arguments).env_clear().envs(environment.iter().cloned());
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        self.log.read(child.stdout.take().unwrap());
        self.log.read(child.stderr.take().unwrap());
        let process = child.id().unwrap();
        Running { child, entry: Entry { process, environment, user, program } }
    }

    /// A layer of what the container alone has: names, and the folders that volumes are mounted on.
    fn lay_out(&self, pod: &Pod, container: &Container, own: &Path) {
        for folder in ["etc", "proc", "dev"] {
            fs::create_dir_all(own.join(folder)).unwrap();
        }
        for mount in container.volume_mounts.iter().flatten() {
            fs::create_dir_all(own.join(mount.mount_path.trim_start_matches('/'))).unwrap();
        }
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", self.network.address, pod.name_any());
        fs::write(own.join("etc/hosts"), hosts).unwrap();
        let names = super::names::resolv_conf(&pod.namespace().unwrap());
        fs::write(own.join("etc/resolv.conf"), names).unwrap();
    }

    fn program(&self, container: &Container) -> (String, Vec<String>) {
        let mut arguments = container.args.clone().unwrap_or_default();
        match container.command.as_deref() {
            None | Some([]) => (self.image.entrypoint.clone(), arguments),
            Some([program, first @ ..]) => {
                arguments.splice(0..0, first.iter().cloned());
                (program.clone(), arguments)
            }
        }
    }
}

fn inside(command: &mut Command, root: &Path, user: User) {
    command.arg(format!("--root={}", root.display())).arg(format!("--wd={}{WORKING_FOLDER}", root.display()));
    command.arg(format!("--setuid={}", user.user)).arg(format!("--setgid={}", user.group)).arg("--");
}

impl Running {
    pub(super) const fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) async fn wait(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// Asks it to end.
    pub(super) async fn terminate(&self) {
        // It may have ended by now.
        Command::new("kill").args(["-s", "TERM", &self.entry.process.to_string()]).status().await.unwrap();
    }

    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Entry {
    /// Runs the container's program once more beside itself, with other arguments, to its end.
    pub(super) async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("setpriv");
        command.args(["--no-new-privs", "nsenter", "--mount", "--net"]).arg(format!("--target={}", self.process));
        let root = PathBuf::from(format!("/proc/{}/root", self.process));
        inside(&mut command, &root, self.user);
        command.arg(&self.program).args(arguments).env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Who does not read it has no use for it.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        child.wait_with_output().await.unwrap()
    }
}

/// The container's own word goes over the pod's.
fn user(pod: &Pod, container: &Container) -> User {
    let of_pod: PodSecurityContext =
        pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    assert_eq!(own.read_only_root_filesystem, Some(true), "{}: its root is read-only here", container.name);
    let user = own.run_as_user.or(of_pod.run_as_user).expect("a user");
    let group = own.run_as_group.or(of_pod.run_as_group).expect("a group");
    assert!(user != 0, "{}: runs as root", container.name);
    User { user, group }
}

/// Only what a kubelet gives, and what is asked for.
fn environment(pod: &Pod, container: &Container, objects: &Objects, address: Ipv4Addr) -> Vec<(String, String)> {
    let given = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", WORKING_FOLDER),
        ("HOSTNAME", &pod.name_any()),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
    let asked = container.env.iter().flatten().map(|variable| {
        let value = value(pod, variable, objects, address);
        (variable.name.clone(), value.unwrap_or_else(|| panic!("{}: it has no value here", variable.name)))
    });
    given.chain(asked).collect()
}

fn value(pod: &Pod, variable: &EnvVar, objects: &Objects, address: Ipv4Addr) -> Option<String> {
    let Some(source) = &variable.value_from else { return Some(variable.value.clone().unwrap_or_default()) };
    if let Some(field) = &source.field_ref {
        return match field.field_path.as_str() {
            "metadata.name" => pod.metadata.name.clone(),
            "metadata.namespace" => pod.metadata.namespace.clone(),
            "metadata.uid" => pod.metadata.uid.clone(),
            "status.podIP" => Some(address.to_string()),
            _ => None,
        };
    }
    let reference = source.secret_key_ref.as_ref()?;
    let value = objects.secret(&reference.name)?.get(&reference.key)?;
    String::from_utf8(value.clone()).ok()
}
