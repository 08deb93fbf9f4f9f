//! The short forms: the same program with shorter times and fewer users. What they print on failure names the seed that
//! repeats their choices, and tells how it came to the fault.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says why")]

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

/// One at a time: they are about time, and the machine is small.
static ALONE: Mutex<()> = Mutex::new(());

fn passes(arguments: &[&str]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_starling-chaos")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "starling-chaos {}: {}\n{out}\n{errors}", arguments.join(" "), output.status);
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    passes(&["kill9", "--seconds", "20", "--users", "40", "--rate", "150", "--kill-every", "4"]);
}

#[test]
fn nor_with_the_archive_off() {
    passes(&["kill9", "--seconds", "10", "--users", "40", "--rate", "150", "--kill-every", "3", "--archive", "off"]);
}

#[test]
fn nor_to_orderly_stops() {
    passes(&["kill9", "--term", "--seconds", "8", "--users", "40", "--rate", "150", "--kill-every", "3"]);
}

#[test]
fn nor_to_networks_alone() {
    passes(&["kill9", "--no-kill", "--seconds", "8", "--users", "40", "--rate", "150"]);
}

#[test]
fn a_full_failing_or_slow_disk_loses_nothing_and_is_got_over() {
    passes(&["disk", "--short"]);
}

#[test]
fn the_same_where_nothing_can_be_mounted() {
    passes(&["disk", "--short", "--no-mount"]);
}

/// Two routers and three instances. Long form: `starling-chaos cluster --seconds 600`.
fn a_cluster_passes(blows: &str, more: &[&str]) {
    let short = ["cluster", "--seconds", "14", "--users", "40", "--rate", "100", "--seed", "11", "--blows", blows];
    passes(&[&short, more].concat());
}

#[test]
fn a_cluster_loses_nothing_and_resumes_everything_when_instances_are_killed() {
    a_cluster_passes("kill", &[]);
}

#[test]
fn nor_when_they_are_stopped_in_order() {
    a_cluster_passes("term", &[]);
}

#[test]
fn nor_when_routers_are_killed() {
    a_cluster_passes("router,routers", &[]);
}

#[test]
fn nor_when_redis_forgets_everything() {
    a_cluster_passes("empty", &[]);
}
