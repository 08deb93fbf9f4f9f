use super::*;

fn stage(stage: Stage, template: Template, health: Health) -> Standing {
    Standing { stage, template, health }
}

fn usable() -> Health {
    Health::Usable("1 of 2".to_owned())
}

fn waiting() -> Health {
    Health::Waiting("0 of 2".to_owned())
}

fn stuck(is_usable: bool) -> Health {
    Health::Stuck { is_usable, reason: "RolloutStuck", message: "no image".to_owned() }
}

/// Templates and health of migration, routers, sessions, c2s; which are held, and how far it is.
type Row = (&'static str, [(Template, Health); 4], &'static [Stage], &'static str);

#[test]
fn each_stage_waits_for_those_before_it_and_for_nothing_else() {
    use Health::Complete;
    use Stage::{C2s, Migration, Routers, Sessions};
    use Template::{Current, Missing, Other};
    let rows: Vec<Row> = vec![
        (
            "settled",
            [(Current, Complete), (Current, Complete), (Current, Complete), (Current, Complete)],
            &[],
            "complete",
        ),
        (
            "nothing is there",
            [(Missing, waiting()), (Missing, waiting()), (Missing, waiting()), (Missing, waiting())],
            &[Routers, Sessions, C2s],
            "going Migration",
        ),
        (
            "the schema is being changed",
            [(Current, waiting()), (Other, Complete), (Other, Complete), (Other, Complete)],
            &[Routers, Sessions, C2s],
            "going Migration",
        ),
        (
            "the schema could not be changed",
            [(Current, stuck(false)), (Other, Complete), (Other, Complete), (Other, Complete)],
            &[Routers, Sessions, C2s],
            "stuck Migration",
        ),
        (
            "the schema is new",
            [(Current, Complete), (Other, Complete), (Other, Complete), (Other, Complete)],
            &[Sessions, C2s],
            "going Routers",
        ),
        (
            "one router is new",
            [(Current, Complete), (Current, usable()), (Other, Complete), (Other, Complete)],
            &[Sessions, C2s],
            "going Routers",
        ),
        (
            "routers are new",
            [(Current, Complete), (Current, Complete), (Other, Complete), (Other, Complete)],
            &[C2s],
            "going Sessions",
        ),
        (
            "all but c2s are new",
            [(Current, Complete), (Current, Complete), (Current, Complete), (Other, Complete)],
            &[],
            "going C2s",
        ),
        (
            "routers do not get on, though some work",
            [(Current, Complete), (Current, stuck(true)), (Other, Complete), (Other, Complete)],
            &[Sessions, C2s],
            "stuck Routers",
        ),
        (
            "the way back from stuck routers: nobody else was changed",
            [(Current, Complete), (Other, stuck(true)), (Current, Complete), (Current, Complete)],
            &[],
            "going Routers",
        ),
        (
            "a Deployment is lost while a router is broken",
            [(Current, Complete), (Current, usable()), (Current, Complete), (Missing, waiting())],
            &[],
            "going Routers",
        ),
        (
            "a Deployment is lost while no router works: it would only wait",
            [(Current, Complete), (Current, waiting()), (Current, Complete), (Missing, waiting())],
            &[C2s],
            "going Routers",
        ),
        (
            "only c2s is changed",
            [(Current, Complete), (Current, Complete), (Current, Complete), (Other, Complete)],
            &[],
            "going C2s",
        ),
        (
            "c2s is stuck: nothing stands behind it",
            [(Current, Complete), (Current, Complete), (Current, Complete), (Current, stuck(true))],
            &[],
            "stuck C2s",
        ),
        (
            "a stage that is stuck is heard over one that is on its way",
            [(Current, Complete), (Current, usable()), (Current, stuck(true)), (Current, Complete)],
            &[],
            "stuck Sessions",
        ),
    ];
    for (name, standings, held, expected) in rows {
        let stages: Vec<_> = [Migration, Routers, Sessions, C2s]
            .into_iter()
            .zip(standings)
            .map(|(of, (template, health))| stage(of, template, health))
            .collect();
        let plan = plan(&stages);
        assert_eq!(plan.held, held, "{name}");
        let progress = match plan.progress {
            Progress::Complete => "complete".to_owned(),
            Progress::Going { stage, .. } => format!("going {stage:?}"),
            Progress::Stuck { stage, .. } => format!("stuck {stage:?}"),
        };
        assert_eq!(progress, expected, "{name}");
    }
}

#[test]
fn what_is_applied_now_is_never_also_held() {
    // Every combination: a stage is held only if an earlier one is not complete, and what is current is never held.
    let templates = [Template::Current, Template::Other, Template::Missing];
    let healths = [Health::Complete, usable(), waiting(), stuck(true), stuck(false)];
    let mut seen = 0;
    for first in 0..templates.len() * healths.len() {
        for second in 0..templates.len() * healths.len() {
            let of = |number: usize, of: Stage| {
                stage(of, templates[number % templates.len()], healths[number / templates.len()].clone())
            };
            let stages = [of(first, Stage::Routers), of(second, Stage::C2s)];
            let plan = plan(&stages);
            assert!(!plan.held.contains(&Stage::Routers), "{stages:?}");
            let is_settled =
                |standing: &Standing| standing.template == Template::Current && standing.health == Health::Complete;
            if plan.held.contains(&Stage::C2s) {
                assert!(!is_settled(&stages[0]) && stages[1].template != Template::Current, "{stages:?}");
            } else if stages[1].template == Template::Other {
                assert!(is_settled(&stages[0]), "{stages:?}");
            }
            assert_eq!(plan.progress == Progress::Complete, stages.iter().all(is_settled), "{stages:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 225);
}
