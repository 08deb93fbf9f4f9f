//! One pod, from when it is bound to when it is gone.
//!
//! ```text
//!   bound ─► network, volumes ─► init containers ─► container ⟲ ─► (deleted) preStop ─► SIGTERM ─► SIGKILL ─► gone
//!            wait for objects    until they succeed    │ ended, or found dead: again after a while
//!                                                      └ of a Job: until it succeeds
//! ```

use std::{path::Path, process::ExitStatus, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::{Error, ResourceExt as _};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Ended, Shared,
    container::{Entry, Log, Place, Running},
    health::{self, Health},
    known,
    volumes::{Mounted, files},
};
use crate::kubelet::{self, State};

/// What ended badly is started again after so long.
const BACK_OFF: Duration = Duration::from_secs(2);

/// A pod, for its task.
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Arc<Log>,
    /// The pod as it is by now.
    pub(super) pod: watch::Receiver<Arc<Pod>>,
    /// Where whoever asks finds a way in.
    pub(super) entry: watch::Sender<Option<Entry>>,
    /// The pod as it was after the last status that was told: the watch may be behind.
    pub(super) told: Option<Pod>,
}

/// Why a container is not watched over any more.
enum Outcome {
    Deleted,
    Over(ExitStatus),
    Dead,
}

impl Work {
    pub(super) async fn run(mut self) {
        let pod = Arc::clone(&self.pod.borrow());
        let spec = pod.spec.clone().unwrap();
        known::assert_obeyed(&pod);
        let made = {
            let mut pods = self.pod.clone();
            // Whoever is deleted before anything of it runs has nothing to end.
            tokio::select! {
                biased;
                () = deleted(&mut pods) => None,
                place = self.make(&pod, &spec) => Some(place),
            }
        };
        if let Some(mut place) = made
            && self.initialize(&pod, &spec, &mut place).await
        {
            let [container] = &spec.containers[..] else { panic!("{}: one container", pod.name_any()) };
            self.serve(&pod, &spec, container, &mut place).await;
        }
        let last = Arc::clone(&self.pod.borrow());
        accepted(kubelet::end(&self.shared.pods, &last).await.map(drop));
    }

    /// Binds it, and makes its network and its volumes when there is all that they are made of.
    async fn make(&self, pod: &Pod, spec: &PodSpec) -> Place {
        if spec.node_name.is_none() {
            accepted(kubelet::bind(&self.shared.pods, pod).await);
        }
        let folder = self.shared.folder.join("pods").join(pod.uid().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        let network = self.shared.network.pod(folder.join("network"));
        let mut objects = self.shared.objects.subscribe();
        let volumes = loop {
            let now = objects.borrow_and_update().clone();
            match self.volumes(spec, &folder, &now) {
                Ok(volumes) => break volumes,
                Err(missing) => eprintln!("{} waits for {missing}", pod.name_any()),
            }
            objects.changed().await.unwrap();
        };
        Place { folder, network, volumes, image: Arc::clone(&self.shared.image), log: Arc::clone(&self.log) }
    }

    fn volumes(&self, spec: &PodSpec, folder: &Path, objects: &super::Objects) -> Result<Vec<Mounted>, String> {
        let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
        let group = group.map(|group| group.try_into().unwrap());
        let (folder, claims) = (folder.join("volumes"), self.shared.folder.join("claims"));
        let volumes = spec.volumes.iter().flatten();
        // Nothing of it is made before all of it can be.
        let known = volumes.map(|volume| Ok((volume, files(volume, objects)?)));
        let known = known.collect::<Result<Vec<_>, String>>()?.into_iter();
        Ok(known.map(|(volume, files)| Mounted::make(volume, &folder, &claims, group, files)).collect())
    }

    /// Runs the init containers, one after the other, each until it succeeds. `false`: the pod is deleted.
    async fn initialize(&mut self, pod: &Pod, spec: &PodSpec, place: &mut Place) -> bool {
        for container in spec.init_containers.iter().flatten() {
            loop {
                match self.watch_over(pod, container, place).await {
                    (Outcome::Over(status), _) => {
                        self.note(pod, container, status, false);
                        if status.success() {
                            break;
                        }
                    }
                    (Outcome::Dead, _) => unreachable!("init containers are not probed"),
                    (Outcome::Deleted, running) => {
                        self.stop(pod, container, running).await;
                        return false;
                    }
                }
                if self.is_deleted_within(BACK_OFF).await {
                    return false;
                }
            }
        }
        true
    }

    /// Runs the container until the pod is deleted.
    async fn serve(&mut self, pod: &Pod, spec: &PodSpec, container: &Container, place: &mut Place) {
        let is_job = spec.restart_policy.as_deref() == Some("OnFailure");
        let last = loop {
            let (outcome, mut running) = self.watch_over(pod, container, place).await;
            match outcome {
                Outcome::Deleted => break self.stop(pod, container, running).await,
                Outcome::Over(status) => {
                    self.note(pod, container, status, false);
                    if is_job && status.success() {
                        self.tell(State::Succeeded, place).await;
                        deleted(&mut self.pod).await;
                        return;
                    }
                }
                Outcome::Dead => {
                    running.kill().await;
                    let status = running.wait().await;
                    self.note(pod, container, status, true);
                }
            }
            self.tell(State::Crashing, place).await;
            if self.is_deleted_within(BACK_OFF).await {
                return;
            }
        };
        self.tell(if last { State::Succeeded } else { State::Failed }, place).await;
    }

    /// Starts a container, and keeps what it reads up to date, until something is to be done about it.
    async fn watch_over(&mut self, pod: &Pod, container: &Container, place: &mut Place) -> (Outcome, Running) {
        let mut objects = self.shared.objects.subscribe();
        let now = objects.borrow_and_update().clone();
        place.volumes.iter_mut().for_each(|volume| volume.update(&now));
        let mut running = place.start(pod, container, &now);
        self.entry.send_replace(Some(running.entry().clone()));
        let serves = pod.spec.as_ref().is_some_and(|spec| spec.containers.contains(container));
        if serves {
            self.tell(State::NotReady, place).await;
        }
        let (says, mut health) = watch::channel(Health::NotReady);
        let probes = health::probe(container.clone(), place.network.address, says);
        let probes = async {
            if serves {
                probes.await;
            }
            std::future::pending::<()>().await;
        };
        let mut probes = Box::pin(probes);
        let mut pods = self.pod.clone();
        let outcome = loop {
            // What is awaited here loses nothing when it is dropped.
            tokio::select! {
                status = running.wait() => break Outcome::Over(status),
                () = deleted(&mut pods) => break Outcome::Deleted,
                Ok(()) = health.changed() => {
                    let health = *health.borrow_and_update();
                    match health {
                        Health::Failed => break Outcome::Dead,
                        Health::Ready => self.tell(State::Ready, place).await,
                        Health::NotReady => self.tell(State::NotReady, place).await,
                    }
                }
                Ok(()) = objects.changed() => {
                    let now = objects.borrow_and_update().clone();
                    place.volumes.iter_mut().for_each(|volume| volume.update(&now));
                }
                () = &mut probes => {}
            }
        };
        (outcome, running)
    }

    /// Ends a container as Kubernetes does. Whether it did well.
    async fn stop(&self, pod: &Pod, container: &Container, mut running: Running) -> bool {
        let grace = self.pod.borrow().metadata.deletion_grace_period_seconds.unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(grace.try_into().unwrap());
        let pause = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(pause) = pause {
            let pause = pause.sleep.as_ref().expect("preStop sleeps").seconds;
            let until = deadline.min(Instant::now() + Duration::from_secs(pause.try_into().unwrap()));
            // The pause is what is asked for; an end before it is one all the same.
            timeout_at(until, running.wait()).await.ok();
        }
        running.terminate().await;
        let (status, is_killed) = match timeout_at(deadline, running.wait()).await {
            Ok(status) => (status, false),
            Err(_) => {
                running.kill().await;
                (running.wait().await, true)
            }
        };
        self.note(pod, container, status, is_killed);
        status.success()
    }

    fn note(&self, pod: &Pod, container: &Container, status: ExitStatus, is_killed: bool) {
        self.entry.send_replace(None);
        let component = pod.labels().get("app.kubernetes.io/component").cloned().unwrap_or_default();
        let ended = Ended { pod: pod.name_any(), component, container: container.name.clone(), status, is_killed };
        self.shared.ended.lock().unwrap().push(ended);
    }

    /// Tells the API server how it is.
    async fn tell(&mut self, state: State, place: &Place) {
        let pod = self.told.take().unwrap_or_else(|| Pod::clone(&self.pod.borrow()));
        let address = place.network.address.to_string();
        let answer = kubelet::tell(&self.shared.pods, &pod, state, Some(&address)).await;
        accepted(answer.map(|told| self.told = Some(told.unwrap_or(pod))));
    }

    async fn is_deleted_within(&mut self, time: Duration) -> bool {
        timeout(time, deleted(&mut self.pod)).await.is_ok()
    }
}

/// Returns when the pod is to end.
async fn deleted(pod: &mut watch::Receiver<Arc<Pod>>) {
    // An error: the node is no more, and neither is this.
    pod.wait_for(|pod| pod.metadata.deletion_timestamp.is_some()).await.ok();
}

/// The pod may have changed, or gone: that will be heard.
fn accepted(answer: Result<(), Error>) {
    match answer {
        Ok(()) => {}
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => panic!("the API server does not take what a node says: {error}"),
    }
}
