//! What must hold at the end of every story. Looks at what was told, and runs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use ringback_proto::provider::Transport;
use ringback_proto::provider::behaviour::Act;
use ringback_proto::session::Summary;

use super::Told;
use super::caller::Outcome;
use super::cast::{Call, Cast};

/// A call whose caller is gone has ended by then: two pings that nobody answered, last words of modules, a line that is slow to tell.
const ENDS: Duration = Duration::from_secs(75);
/// The same where the bridge dials, and dials again.
const GIVES_UP: Duration = Duration::from_secs(200);

/// Providers that want to hear something all the time: their wire fills the pauses with silence of its own, which is no sound of the call.
const NEVER_QUIET: [&str; 2] = ["infobip", "siphon-ai"];

/// Everything that must not be.
pub(super) fn problems(told: &Told) -> Vec<String> {
    let mut problems = Vec::new();
    let Told { cast, ended, outcomes, drained, left_running } = told;
    match drained {
        None => problems.push("the bridge did not end".into()),
        Some(drained) if drained.cut > 0 && !cast.leave.is_some_and(|leave| leave.hurried) => {
            problems.push(format!("{} calls were cut off", drained.cut));
        }
        Some(_) => {}
    }
    if *left_running > 0 {
        problems.push(format!("{left_running} tasks are left running"));
    }
    if outcomes.len() != cast.calls.len() {
        let (here, all) = (outcomes.len(), cast.calls.len());
        problems.push(format!("{here} of {all} callers came back"));
    }
    for (_, summary) in ended {
        let unbalanced = summary.ledger.unbalanced();
        let whose = || format!("{} {:?}", summary.provider, summary.provider_call);
        problems.extend(unbalanced.map(|hop| format!("{}: {hop}", whose())));
    }
    for (call, outcome) in outcomes {
        let whose = format!(
            "{} over {}, {}, line {:?}",
            call.name(),
            call.provider.name(),
            call.behaviour.map_or("as promised", |behaviour| behaviour.name),
            call.line
        );
        let of_call = |summary: &&(ringback_proto::Instant, Box<Summary>)| {
            summary.1.provider == call.provider.name()
                && summary.1.provider_call.as_deref() == Some(&call.name())
        };
        let ends: Vec<_> = ended.iter().filter(of_call).collect();
        let mut wrong = |what: String| problems.push(format!("{whose}: {what}"));
        if ends.len() > outcome.taken as usize {
            wrong(format!("it was taken {} times, and ended {}", outcome.taken, ends.len()));
        }
        if outcome.refused && cast.leave.is_none() {
            wrong("refused without a reason".into());
        }
        for (at, summary) in &ends {
            let patience = if dialled(call) { GIVES_UP } else { ENDS };
            if *at > outcome.over + patience {
                wrong(format!(
                    "its end came at {at:?}, when the caller was gone at {:?}",
                    outcome.over
                ));
            }
            agreement(call, outcome, summary, &mut wrong);
        }
        if is_undisturbed(call, cast) && !outcome.refused {
            undisturbed(outcome, &ends, &mut wrong);
        }
    }
    problems
}

fn dialled(call: &Call) -> bool {
    matches!(call.provider.transport(), Transport::Webhook { .. })
}

/// What the far end counted and what the ledger has.
fn agreement(call: &Call, outcome: &Outcome, summary: &Summary, wrong: &mut impl FnMut(String)) {
    let counters = outcome.counters;
    let entered = summary.ledger.hop("wire.in").map_or(0, |hop| hop.entered);
    let left = summary.ledger.hop("wire.out").map_or(0, |hop| hop.left);
    if outcome.taken > 1 {
        return;
    }
    let more = call.behaviour.is_some_and(|behaviour| {
        matches!(behaviour.act, Act::Duplicate | Act::EarlySound | Act::Aside(_) | Act::Tell(..))
    });
    // Bits that were turned over may make two of one.
    let flipped = call.line.as_ref().is_some_and(|line| line.flip > 0.0);
    if entered > counters.frames_sent && !more && !flipped {
        wrong(format!("{entered} messages came, {} were sent", counters.frames_sent));
    }
    let adds = flipped || NEVER_QUIET.contains(&call.provider.name());
    if counters.media_received > left && !adds {
        wrong(format!("{} messages were received, {left} were sent", counters.media_received));
    }
    let all = call.behaviour.is_none() && call.is_gentle() && outcome.failed.is_none();
    if all && summary.reason.name() == "remote" && entered != counters.frames_sent {
        wrong(format!("{} messages were sent, {entered} came", counters.frames_sent));
    }
}

/// Whether nothing and nobody has anything against this call: whatever ails a module that only listens, is no concern of it.
fn is_undisturbed(call: &Call, cast: &Cast) -> bool {
    let is_well = cast.agent.is_none_or(super::modules::Part::is_well);
    let stays = !cast.leave.is_some_and(|leave| leave.hurried);
    let hangs_up = [cast.tap, cast.filter].into_iter().flatten().any(|part| part.hangs_up());
    // What is carried over bare TCP cannot be told that the bridge takes no calls any more.
    let in_time = cast.leave.is_none_or(|leave| leave.at > call.begins);
    call.is_clean() && is_well && stays && in_time && !hangs_up && cast.filter.is_none()
}

fn undisturbed(
    outcome: &Outcome,
    ends: &[&(ringback_proto::Instant, Box<Summary>)],
    wrong: &mut impl FnMut(String),
) {
    // What is not played when the caller leaves, and what a module says behind that.
    let wanted = BTreeSet::from(["call_ended", "after_end"]);
    if let Some(failed) = &outcome.failed {
        wrong(format!("nothing was wrong with it, and it failed: {failed}"));
    }
    if let Some(code) = outcome.closed {
        wrong(format!("nothing was wrong with it, and it was closed with {code}"));
    }
    for (_, summary) in ends {
        if summary.reason.name() != "remote" {
            wrong(format!("nothing was wrong with it, and it ended by {}", summary.reason));
        }
        let hops = summary.ledger.hops.iter().filter(|hop| !hop.name.starts_with("module.tap."));
        for hop in hops {
            let lost = hop.dropped.iter().filter(|(reason, _)| !wanted.contains(reason.name()));
            for (reason, count) in lost {
                wrong(format!(
                    "nothing was wrong with it, and {} lost {count}: {}",
                    hop.name,
                    reason.name()
                ));
            }
        }
    }
    if outcome.taken != 1 || ends.len() != 1 {
        let (taken, ends) = (outcome.taken, ends.len());
        wrong(format!("nothing was wrong with it, it was taken {taken} times and ended {ends}"));
    }
}
