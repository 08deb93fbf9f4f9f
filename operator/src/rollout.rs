//! In which order what runs is changed: a decision by what is there, without a client and without a clock.
//!
//! ```text
//!   migration Jobs ──► routers ──► sessions ──► c2s
//!        succeeded       all of a stage's pods are new and available, and then the next stage's are changed
//! ```
//!
//! Only what replaces pods waits for its turn; everything else is applied at once. A stage that does not get on holds back
//! those behind it, and never itself: what is to mend it goes through, and so does the way back.
//!
//! Pods that are *missing* need no more of the stages before than that they work at all: a server that lost a Deployment
//! gets it back, also while a router is broken.

use crate::build::Stage;

/// How one stage stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which it is.
    pub stage: Stage,
    /// Whether its pods are of the template that they are to be of.
    pub template: Template,
    /// How those pods fare that are there.
    pub health: Health,
}

/// Whether pods are of the template that they are to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// They are.
    Current,
    /// They are of another.
    Other,
    /// There is nothing that could have pods.
    Missing,
}

/// How pods fare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All are new and available, or have done what they were there for.
    Complete,
    /// Some do their work, and others are on their way.
    Usable(String),
    /// None does its work, and they are on their way.
    Waiting(String),
    /// They do not get on. Some do their work all the same, or none does.
    Stuck {
        /// Whether some do their work.
        is_usable: bool,
        /// One word, for conditions.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Stages whose pods must stay as they are for now.
    pub held: Vec<Stage>,
    /// How far it is.
    pub progress: Progress,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is as it is to be.
    Complete,
    /// A stage is on its way.
    Going {
        /// Which.
        stage: Stage,
        /// What is waited for.
        message: String,
    },
    /// A stage does not get on.
    Stuck {
        /// Which.
        stage: Stage,
        /// One word, for conditions.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// What the stages before allow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    /// Nothing new.
    Nothing,
    /// What is missing may be made.
    Making,
    /// Everything.
    Everything,
}

/// Decides. `stages` stand in their order; stages without pods are left out.
#[must_use]
pub fn plan(stages: &[Standing]) -> Plan {
    let mut before = Before::Everything;
    let mut held = Vec::new();
    let mut progress = Progress::Complete;
    for Standing { stage, template, health } in stages {
        let stage = *stage;
        let needed = match template {
            Template::Current => Before::Nothing,
            Template::Missing => Before::Making,
            Template::Other => Before::Everything,
        };
        let (allows, own) = if before < needed {
            held.push(stage);
            (Before::Nothing, Progress::Going { stage, message: format!("{} wait for their turn", pods(stage)) })
        } else if *template != Template::Current {
            (Before::Nothing, Progress::Going { stage, message: format!("{} are being replaced", pods(stage)) })
        } else {
            standing(stage, health)
        };
        before = before.min(allows);
        // The first that is not done says what is waited for; what is stuck says it louder.
        let is_louder =
            matches!((&progress, &own), (Progress::Complete, _) | (Progress::Going { .. }, Progress::Stuck { .. }));
        if is_louder {
            progress = own;
        }
    }
    Plan { held, progress }
}

fn standing(stage: Stage, health: &Health) -> (Before, Progress) {
    match health {
        Health::Complete => (Before::Everything, Progress::Complete),
        Health::Usable(message) => (Before::Making, Progress::Going { stage, message: message.clone() }),
        Health::Waiting(message) => (Before::Nothing, Progress::Going { stage, message: message.clone() }),
        Health::Stuck { is_usable, reason, message } => {
            let before = if *is_usable { Before::Making } else { Before::Nothing };
            (before, Progress::Stuck { stage, reason, message: message.clone() })
        }
    }
}

/// What the pods of a stage are called, in a sentence.
#[must_use]
pub const fn pods(stage: Stage) -> &'static str {
    match stage {
        Stage::Shared => "shared objects",
        Stage::Migration => "Jobs",
        Stage::Routers => "routers",
        Stage::Sessions => "session pods",
        Stage::C2s => "pods for clients",
    }
}

#[cfg(test)]
mod tests;
