//! A disk that is full, that fails, that another process holds: senders wait or are told, nothing acknowledged is lost, and
//! the server recovers without a restart.
//!
//! | what | how |
//! |---|---|
//! | full | the data folder is on a small filesystem in memory, which a ballast file fills: `ENOSPC` |
//! | failing | the server's process may write no byte to any file (`RLIMIT_FSIZE`): `EFBIG` wherever it writes |
//! | slow | another process holds SQLite's write lock |
//! | full, killed | full again, and `kill -9`; before there is room, a start from a filesystem that is read-only must fail at once |
//!
//! The filesystem is mounted in a mount namespace of the run's own: `starling-chaos disk` starts itself in one by `unshare`.
//! Where that is not allowed, it says so, and the disk is full by `RLIMIT_FSIZE` too: no file grows, and there is no read-only
//! start. Both run as root, in a container with `CAP_SYS_ADMIN` and in one without.
//!
//! One user of four sleeps: what is sent to it is safe by a commit alone. The others acknowledge what they get, which makes it
//! safe without any disk, and delivery to them must not wait for one.

mod ground;

use std::{fmt::Write as _, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    Failure,
    journal::Event,
    plan::Plan,
    report::Outcome,
    run::Run,
    server::{Program, Server},
    verdict::{Course, Kind, Verdict, courses},
};
pub use ground::{Ground, Namespace};

/// All that was sent before a fault was over must be acknowledged, or have come back, so long after it.
const RECOVERY: Duration = Duration::from_secs(10);
/// A delivery to somebody who is there does not wait for a disk. Far more than it takes on a busy machine.
const DELIVERY: Duration = Duration::from_secs(3);
/// Whoever waits longer than that has felt a fault.
const FELT: Duration = Duration::from_millis(500);
/// A start that must fail fails in that time.
const NO_START: Duration = Duration::from_secs(20);
/// How often it is looked whether all are acknowledged.
const LOOK: Duration = Duration::from_millis(50);
/// Enough for a pair of clients on each core of a small machine; the disk is what is tested.
const USERS: u32 = 20;

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is tested.
    pub program: Program,
    /// Makes the choices.
    pub seed: u64,
    /// Whether the server keeps an archive.
    pub archive: bool,
    /// Some 20 seconds instead of some 70.
    pub is_short: bool,
    /// Where the run's process is.
    pub namespace: Namespace,
}

/// What one fault did.
struct Felt {
    name: &'static str,
    begin: Duration,
    end: Duration,
    /// Whether the server was killed in it.
    killed: bool,
}

/// Does the whole run; the outcome and a table of the faults.
///
/// # Errors
/// If it could not be done.
pub async fn run(options: Options) -> Result<(Outcome, String), Failure> {
    let mut ground = Ground::new(options.namespace).await?;
    let plan = Plan {
        seed: options.seed,
        users: USERS,
        rate: 150.0,
        cuts: false,
        without_sm: 0,
        one_sleeps_of: 4,
        filling: 1000,
    };
    let seconds = |long: f64, short: f64| Duration::from_secs_f64(if options.is_short { short } else { long });
    let mut run = Run::alone(options.program, ground.folder(), plan.clone(), options.archive).await?;
    let mut felt = Vec::new();
    run.go_on(seconds(3.0, 2.0)).await?;

    let begin = begins(&run, "full");
    ground.fill(&run.server).await?;
    run.go_on(seconds(10.0, 3.0)).await?;
    ground.empty(&run.server).await?;
    felt.push(ends(&run, "full", begin));
    recover(&mut run).await?;

    let begin = begins(&run, "failing");
    ground::forbid_writing(&run.server).await?;
    run.go_on(seconds(8.0, 2.5)).await?;
    ground::allow_writing(&run.server).await?;
    felt.push(ends(&run, "failing", begin));
    recover(&mut run).await?;

    let locked = if options.is_short { &[3.0][..] } else { &[3.0, 8.0][..] };
    for seconds in locked {
        let lock = ground::lock(&run.server).await?;
        let begin = begins(&run, "locked");
        run.go_on(Duration::from_secs_f64(*seconds)).await?;
        lock.release().await?;
        felt.push(ends(&run, "locked", begin));
        recover(&mut run).await?;
    }

    let begin = begins(&run, "full, killed");
    ground.fill(&run.server).await?;
    run.go_on(seconds(4.0, 1.5)).await?;
    run.kill().await?;
    let starts_read_only = if ground.make_read_only().await? {
        let fails = run.server.fails_to_start(NO_START).await?;
        ground.make_writable().await?;
        !fails
    } else {
        false
    };
    ground.empty(&run.server).await?;
    felt.push(Felt { killed: true, ..ends(&run, "full, killed", begin) });
    run.start_again().await?;
    recover(&mut run).await?;

    let mut outcome = run.finish().await?;
    let courses = courses(&outcome.entries);
    let table = judge(&felt, &courses, &plan, &mut outcome.verdict);
    if starts_read_only {
        outcome.verdict.add(Kind::Trouble, "the server started on a read-only disk, or hung".to_owned());
    }
    ground.leave().await?;
    Ok((outcome, table))
}

fn begins(run: &Run<Server>, what: &'static str) -> Duration {
    run.shared.journal.note(None, Event::FaultBegins(what));
    run.shared.journal.now()
}

fn ends(run: &Run<Server>, name: &'static str, begin: Duration) -> Felt {
    run.shared.journal.note(None, Event::FaultEnds);
    Felt { name, begin, end: run.shared.journal.now(), killed: false }
}

/// Until everything sent so far is acknowledged or came back, or it is too late for that, which the verdict finds.
async fn recover(run: &mut Run<Server>) -> Result<(), Failure> {
    let before = run.shared.journal.now();
    let end = Instant::now() + RECOVERY + Duration::from_secs(5);
    run.go_on(Duration::from_secs(1)).await?;
    while Instant::now() < end {
        let waiting = run.shared.journal.look(0, courses);
        if waiting.iter().all(|course| course.sent > before || course.settled.is_some()) {
            break;
        }
        run.go_on(LOOK).await?;
    }
    sleep(LOOK).await;
    Ok(())
}

/// What each fault did, as a table, and what it must not have done.
fn judge(felt: &[Felt], courses: &[Course], plan: &Plan, verdict: &mut Verdict) -> String {
    let mut table = format!(
        "{:<14} {:>8} {:>6} {:>13} {:>9} {:>13} {:>10} {:>10}\n",
        "fault", "seconds", "sent", "acknowledged", "returned", "longest wait", "recovery", "delivery"
    );
    for Felt { name, begin, end, killed } in felt {
        let during = courses.iter().filter(|course| (*begin..*end).contains(&course.sent));
        let during: Vec<&Course> = during.collect();
        let returned = during.iter().filter(|course| course.is_returned).count();
        let acknowledged = during.iter().filter(|course| !course.is_returned && course.settled.is_some()).count();
        let wait =
            |course: &&Course| course.settled.map_or(Duration::MAX, |settled| settled.saturating_sub(course.sent));
        let longest = during.iter().map(wait).max().unwrap_or_default();
        let last = during.iter().map(|course| course.settled.unwrap_or(Duration::MAX)).max().unwrap_or_default();
        let recovery = last.saturating_sub(*end);
        let awake = during.iter().filter(|course| !plan.is_asleep(course.message.to));
        let delivery = awake.map(|course| course.received.map_or(Duration::MAX, |at| at.saturating_sub(course.sent)));
        let delivery = delivery.max().unwrap_or_default();
        let shown = |duration: Duration| match duration {
            Duration::MAX => "never".to_owned(),
            other => format!("{:.2} s", other.as_secs_f64()),
        };
        let length = end.saturating_sub(*begin).as_secs_f64();
        let (sent, longest_shown) = (during.len(), shown(longest));
        let (recovery_shown, delivery_shown) = (shown(recovery), shown(delivery));
        let line = format!(
            "{name:<14} {length:>8.2} {sent:>6} {acknowledged:>13} {returned:>9} {longest_shown:>13} {recovery_shown:>10} \
             {delivery_shown:>10}"
        );
        // A String takes everything.
        writeln!(table, "{line}").unwrap_or_default();
        if longest < FELT && returned == 0 {
            verdict.add(Kind::Trouble, format!("{name}: nobody has felt it, so it has shown nothing"));
        }
        if recovery > RECOVERY {
            verdict
                .add(Kind::Stuck, format!("{name}: the last one was acknowledged {recovery_shown} after it was over"));
        }
        if !killed && delivery > DELIVERY {
            verdict.add(Kind::Trouble, format!("{name}: delivery to somebody who was there took {delivery_shown}"));
        }
    }
    let others: Vec<String> =
        verdict.figures.errors.keys().filter(|error| !error.starts_with("wait/")).cloned().collect();
    for error in others {
        verdict.add(Kind::Trouble, format!("returned with {error}, not an error of type wait"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Message;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The faults found when messages sent at 11 s, in a fault from 10 to 15 s, go these courses.
    fn faults(courses: &[(u32, Option<u64>, bool, Option<u64>)], killed: bool, error: &str) -> Vec<Kind> {
        let course = |(to, settled, is_returned, received): &(u32, Option<u64>, bool, Option<u64>)| Course {
            message: Message { from: 0, to: *to, sequence: 0 },
            sent: seconds(11),
            settled: settled.map(seconds),
            is_returned: *is_returned,
            received: received.map(seconds),
        };
        let courses: Vec<Course> = courses.iter().map(course).collect();
        let plan = Plan { seed: 0, users: 4, rate: 1.0, cuts: false, without_sm: 0, one_sleeps_of: 4, filling: 0 };
        let mut verdict = Verdict::default();
        verdict.figures.errors.insert(error.to_owned(), 1);
        let felt = Felt { name: "full", begin: seconds(10), end: seconds(15), killed };
        judge(&[felt], &courses, &plan, &mut verdict);
        verdict.faults.iter().map(|fault| fault.kind).collect()
    }

    #[test]
    fn a_fault_must_be_felt_and_be_over_when_it_is() {
        let wait = "wait/resource-constraint";
        // To one who sleeps: 3. Acknowledged soon after it was over; and come back while it was not.
        assert_eq!(faults(&[(3, Some(17), false, Some(40)), (3, Some(14), true, None)], false, wait), []);
        assert_eq!(faults(&[(1, Some(11), false, Some(11))], false, wait), [Kind::Trouble]);
        assert_eq!(faults(&[(3, Some(26), false, None)], false, wait), [Kind::Stuck]);
        assert_eq!(faults(&[(3, None, false, None)], false, wait), [Kind::Stuck]);
    }

    #[test]
    fn delivery_to_those_who_are_there_does_not_wait_unless_the_server_is_killed() {
        let courses = [(3, Some(16), false, None), (1, Some(16), false, Some(16))];
        assert_eq!(faults(&courses, false, "wait/internal-server-error"), [Kind::Trouble]);
        assert_eq!(faults(&courses, true, "wait/internal-server-error"), []);
    }

    #[test]
    fn a_sender_may_try_again() {
        assert_eq!(faults(&[(3, Some(16), true, None)], false, "cancel/service-unavailable"), [Kind::Trouble]);
    }
}
