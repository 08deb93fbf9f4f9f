//! What a kubelet says of a pod.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::State;

/// What the kubelet answers for. Other conditions are other people's: readiness gates are.
const CONDITIONS: [&str; 4] = ["PodScheduled", "Initialized", "ContainersReady", "Ready"];

/// What is to be written so that the pod is in this state; `None` if it is. `address`: its own, if it has one.
pub(crate) fn patch(pod: &Pod, state: State, address: Option<&str>, now: Timestamp) -> Option<PodStatus> {
    let current = pod.status.clone().unwrap_or_default();
    let wanted = wanted(pod, &current, state, address, &Time(now));
    (essence(&current) != essence(&wanted)).then_some(wanted)
}

fn wanted(pod: &Pod, current: &PodStatus, state: State, address: Option<&str>, now: &Time) -> PodStatus {
    let conditions = conditions(pod, current, state, now);
    if state == State::Unscheduled {
        return PodStatus { phase: Some("Pending".to_owned()), conditions: Some(conditions), ..PodStatus::default() };
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let containers = spec.containers.iter().map(|container| status(container, state, current, now)).collect();
    let prepared = if state == State::NoImage { State::NoImage } else { State::Succeeded };
    let init = spec.init_containers.unwrap_or_default();
    let init = init.iter().map(|container| ContainerStatus {
        ready: prepared == State::Succeeded,
        ..status(container, prepared, current, now)
    });
    let ip = address.map(str::to_owned).or_else(|| current.pod_ip.clone()).unwrap_or_else(|| made_up(pod));
    let phase = match state {
        State::Unscheduled | State::NoImage => "Pending",
        State::NotReady | State::Ready | State::Crashing => "Running",
        State::Succeeded => "Succeeded",
        State::Failed => "Failed",
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        container_statuses: Some(containers),
        init_container_statuses: Some(init.collect()),
        host_ip: Some("10.0.0.1".to_owned()),
        pod_ips: Some(vec![PodIP { ip: ip.clone() }]),
        pod_ip: Some(ip),
        start_time: current.start_time.clone().or_else(|| Some(now.clone())),
        ..PodStatus::default()
    }
}

fn conditions(pod: &Pod, current: &PodStatus, state: State, now: &Time) -> Vec<PodCondition> {
    let scheduled = state != State::Unscheduled;
    let initialized = scheduled && state != State::NoImage;
    let ready = state == State::Ready;
    let done = match state {
        State::Succeeded => "PodCompleted",
        State::Failed => "PodFailed",
        _ => "ContainersNotReady",
    };
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let open = gates
        .iter()
        .all(|gate| condition(current, &gate.condition_type).is_some_and(|condition| condition.status == "True"));
    let holds = [
        (scheduled, "Unschedulable"),
        (initialized, "ContainersNotInitialized"),
        (ready, done),
        (ready && open, if ready { "ReadinessGatesNotReady" } else { done }),
    ];
    let said = CONDITIONS.into_iter().zip(holds).map(|(type_, (holds, reason))| {
        let status = if holds { "True" } else { "False" };
        let before = condition(current, type_).filter(|condition| condition.status == status);
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: (!holds).then(|| reason.to_owned()),
            last_transition_time: before
                .map_or_else(|| Some(now.clone()), |before| before.last_transition_time.clone()),
            ..PodCondition::default()
        }
    });
    said.collect()
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn status(container: &Container, state: State, current: &PodStatus, now: &Time) -> ContainerStatus {
    let before = current.container_statuses.iter().flatten().find(|before| before.name == container.name);
    let restarts = before.map_or(0, |before| before.restart_count);
    let crashed = i32::from(state == State::Crashing);
    let ended = |exit_code: i32| ContainerStateTerminated {
        exit_code,
        reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
        started_at: Some(now.clone()),
        finished_at: Some(now.clone()),
        ..ContainerStateTerminated::default()
    };
    let waits = |reason: &str| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message: None }),
        ..ContainerState::default()
    };
    let is = match state {
        State::Unscheduled => waits("ContainerCreating"),
        State::NoImage => waits("ImagePullBackOff"),
        State::Crashing => waits("CrashLoopBackOff"),
        State::NotReady | State::Ready => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(now.clone()) }),
            ..ContainerState::default()
        },
        State::Succeeded => ContainerState { terminated: Some(ended(0)), ..ContainerState::default() },
        State::Failed => ContainerState { terminated: Some(ended(1)), ..ContainerState::default() },
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ready: state == State::Ready,
        started: Some(is.running.is_some()),
        restart_count: restarts.max(crashed),
        last_state: (crashed > 0).then(|| ContainerState { terminated: Some(ended(1)), ..ContainerState::default() }),
        state: Some(is),
        ..ContainerStatus::default()
    }
}

/// What makes two statuses differ: not their times.
fn essence(status: &PodStatus) -> impl PartialEq + use<> {
    let conditions = CONDITIONS.map(|type_| condition(status, type_).map(|condition| condition.status.clone()));
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let containers = containers.map(|container| {
        let state = container.state.clone().unwrap_or_default();
        let waits = state.waiting.and_then(|waiting| waiting.reason);
        let code = state.terminated.map(|terminated| terminated.exit_code);
        (container.name.clone(), container.ready, waits, state.running.is_some(), code)
    });
    (status.phase.clone(), conditions, containers.collect::<Vec<_>>())
}

/// An address of the pod's own: the same each time, for a status may be written twice before the first is heard of. Nobody
/// listens there; but the controllers want one for endpoints, and no loopback address.
fn made_up(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let number = u32::from_str_radix(uid.get(..8).unwrap_or_default(), 16).unwrap_or_default();
    let [_, high, middle, low] = number.to_be_bytes();
    format!("10.{}.{middle}.{low}", high | 128)
}
