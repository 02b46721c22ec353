//! Everything that the bridge is held to, measured one after the other and put into a table. Draws and prints nothing.

use std::time::Duration;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};
use ringback_proto::provider::{self, Provider};
use serde_json::json;

use super::caller::{Caller, Pen};
use super::compare::{self, Contender, Standing, median, ratio, shown};
use super::search::{self, Found};
use super::table::{Bound, Row, Table};
use super::{Answers, Floor, Plan, Server, Setup, cores, stages};
use crate::clock::Clock;
use crate::socket::SocketOptions;
use crate::workers::Tick;

const TIMES: (&str, usize) = ("x", 2);
const MS: (&str, usize) = ("ms", 3);
const US: (&str, usize) = ("us", 3);
const KIB: (&str, usize) = ("KiB", 1);

/// A figure of a standing.
type Figure = fn(&Standing) -> Option<f64>;

/// What the latencies are held to where the highest number of calls is looked for, in microseconds.
pub const P99_US: u32 = 20_000;

/// Calls that one core should carry.
const WANTED_CALLS: usize = 1_500;

/// How much is measured, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Calls at once.
    pub calls: usize,
    /// Runs of each server.
    pub rounds: usize,
    /// Runs more, at most, of a server that had none which nothing spoiled.
    pub more_rounds: usize,
    /// Before anything is measured.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// Where the highest number of calls is looked for.
    pub range: search::Range,
    /// Starts of the bridge.
    pub starts: usize,
    /// Whether it is the short form: a hint, in half a minute; in a minute where the host disturbs it.
    pub short: bool,
}

impl Scale {
    /// As it should be.
    pub const FULL: Self = Self {
        calls: 1_000,
        rounds: 5,
        more_rounds: 3,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(4),
        range: search::Range { first: 1_000, most: 4_000, step: 50, tries: 4 },
        starts: 9,
        short: false,
    };

    /// To see that it works, and what it comes to roughly.
    pub const SHORT: Self = Self {
        calls: 200,
        rounds: 1,
        more_rounds: 3,
        warm_up: Duration::from_millis(400),
        duration: Duration::from_secs(1),
        range: search::Range { first: 400, most: 400, step: 400, tries: 1 },
        starts: 3,
        short: true,
    };
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The figures.
    pub table: Table,
    /// Who was measured in turns.
    pub standings: Vec<Standing>,
    /// How the highest number of calls was found.
    pub found: Found,
    /// Frames lost, twice or unknown in all runs that nothing spoiled; `None` if there are none, but not everybody had such a run.
    pub wrong: Option<u64>,
}

impl Survey {
    /// Whether frames were seen to be lost, to come twice or to be unknown; not if that could not be looked at.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.wrong.is_some_and(|wrong| wrong > 0)
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json!({
            "rows": self.table.json(),
            "wrong": self.wrong,
            "standings": self.standings.iter().map(Standing::brief).collect::<Vec<_>>(),
            "search": self.found.json(),
        })
    }
}

/// Those that are measured in turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Immediate,
    Batched,
    Tcp,
    Ws,
    WsBatched,
    Linear,
    LinearTcp,
}

impl Who {
    const ALL: [Self; 7] = [
        Self::Tcp,
        Self::Immediate,
        Self::Ws,
        Self::Batched,
        Self::WsBatched,
        Self::LinearTcp,
        Self::Linear,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Immediate => "twilio, immediate",
            Self::Batched => "twilio, batched",
            Self::Tcp => "tcp-echo",
            Self::Ws => "ws-echo, immediate",
            Self::WsBatched => "ws-echo, batched",
            Self::Linear => "raw L16 16 kHz, immediate",
            Self::LinearTcp => "tcp-echo of raw L16",
        }
    }

    const fn setup(self) -> Setup {
        match self {
            Self::Immediate | Self::Linear => Setup::bridge(Tick::Off),
            Self::Batched => Setup::bridge(Tick::Always),
            Self::Tcp | Self::LinearTcp => Setup::Floor { floor: Floor::TcpEcho, tick: Tick::Off },
            Self::Ws => Setup::Floor { floor: Floor::WsEcho, tick: Tick::Off },
            Self::WsBatched => Setup::Floor { floor: Floor::WsEcho, tick: Tick::Always },
        }
    }

    const fn is_linear(self) -> bool {
        matches!(self, Self::Linear | Self::LinearTcp)
    }
}

/// Measures all of it; `progress` is told the share done and what is being measured.
///
/// # Errors
/// If a server cannot be started or a call breaks.
pub fn survey(scale: Scale, pinned: bool, progress: &dyn Fn(f64, &str)) -> Result<Survey, String> {
    let surveyor = Surveyor { scale, pinned, twilio: known("twilio")?, raw: known("raw")? };
    let standings = surveyor.in_turns(&|share, who| progress(share * 0.7, who))?;
    progress(0.7, "highest number of calls");
    let found = surveyor.highest();
    progress(0.9, "memory, threads, idle calls, start");
    let mut rows = surveyor.costs(&standings);
    rows.extend(surveyor.latencies(&standings));
    rows.push(surveyor.highest_row(&found));
    rows.extend(surveyor.memory(&standings)?);
    rows.push(surveyor.two_threads()?);
    rows.push(surveyor.idle()?);
    rows.extend(surveyor.start()?);
    progress(0.98, "stages");
    rows.extend(stage_rows());
    let wrong = wrong(&standings);
    rows.push(wrong_row(&standings));
    Ok(Survey { table: Table { rows }, standings, found, wrong })
}

/// Frames that were lost, came twice or are unknown. What was seen counts; that nothing was seen counts only if everybody had a run
/// in which it could be.
fn wrong(standings: &[Standing]) -> Option<u64> {
    let wrong = standings.iter().filter_map(Standing::wrong).sum();
    (wrong > 0 || standings.iter().all(Standing::is_conclusive)).then_some(wrong)
}

fn wrong_row(standings: &[Standing]) -> Row {
    let wrong = wrong(standings).map(|wrong| wrong as f64);
    let row = Row::new("frames lost, twice or unknown", ("frames", 0), Bound::at_most(0.0), wrong);
    let names = |which: &dyn Fn(&&Standing) -> bool| {
        let names: Vec<_> = standings.iter().filter(which).map(|one| one.name.as_str()).collect();
        if names.len() == standings.len() { "any".into() } else { names.join("; ") }
    };
    let spoiled: usize = standings.iter().map(Standing::spoiled).sum();
    let runs: usize = standings.iter().map(|standing| standing.runs.len()).sum();
    let mut note = format!("{spoiled} of {runs} runs were spoiled");
    for (what, names) in [
        ("by", names(&|standing| standing.wrong() > Some(0))),
        ("no fair run of", names(&|standing| !standing.is_conclusive())),
    ] {
        if !names.is_empty() {
            note = format!("{note}; {what} {names}");
        }
    }
    row.noted(note)
}

fn known(name: &str) -> Result<&'static dyn Provider, String> {
    provider::find(name).ok_or_else(|| format!("no provider is called `{name}`"))
}

struct Surveyor {
    scale: Scale,
    pinned: bool,
    twilio: &'static dyn Provider,
    raw: &'static dyn Provider,
}

impl Surveyor {
    fn plan(&self, calls: usize) -> Plan {
        Plan {
            provider: self.twilio,
            format: None,
            calls,
            warm_up: self.scale.warm_up,
            duration: self.scale.duration,
            answers: Answers::Calls,
            silent: false,
        }
    }

    fn contender(&self, who: Who) -> Contender {
        let mut plan = self.plan(self.scale.calls);
        if who.is_linear() {
            let encoding = Encoding::L16(Endian::Little);
            plan.provider = self.raw;
            plan.format = Some(MediaFormat::mono(encoding, SampleRate::HZ_16000));
        }
        Contender { name: who.name().into(), setup: who.setup(), plan }
    }

    fn measure(&self, setup: &Setup, plan: &Plan) -> Result<super::Figures, String> {
        compare::measure(setup, plan, self.pinned, &|_| {})
    }

    fn in_turns(&self, progress: &dyn Fn(f64, &str)) -> Result<Vec<Standing>, String> {
        let contenders = Who::ALL.map(|who| self.contender(who));
        let mut standings =
            compare::in_turns(&contenders, self.scale.rounds, self.pinned, progress)?;
        for (contender, standing) in contenders.iter().zip(&mut standings) {
            let again = || self.measure(&contender.setup, &contender.plan);
            standing.try_for_a_fair_run(self.scale.more_rounds, again)?;
        }
        Ok(standings)
    }

    fn costs(&self, standings: &[Standing]) -> Vec<Row> {
        let cost = |who, floor, figure, bound| {
            let cost = |who| standing(standings, who).and_then(Standing::cpu_us_per_frame);
            let (whole, least) = (cost(who), cost(floor));
            let note = format!("{} us against {} us", shown(whole, 2), shown(least, 2));
            let row = Row::new(figure, TIMES, bound, ratio(whole, least)).noted(note);
            row.conclusive(self.is_conclusive(standings, &[who, floor]))
        };
        vec![
            cost(
                Who::Immediate,
                Who::Tcp,
                "CPU per Twilio frame against bare TCP echo, immediate",
                Bound::at_most(1.4).or_even(1.2),
            ),
            cost(Who::Batched, Who::Tcp, "the same, batched", Bound::at_most(1.0).or_even(0.8)),
            cost(
                Who::Linear,
                Who::LinearTcp,
                "CPU per L16 16 kHz frame against bare TCP echo, immediate",
                Bound::at_most(1.2),
            ),
        ]
    }

    fn latencies(&self, standings: &[Standing]) -> Vec<Row> {
        let calls = self.scale.calls;
        let mut rows = Vec::new();
        for (who, floor, name, p50_ms, p99_ms) in [
            (Who::Immediate, Who::Ws, "immediate", 0.3, 2.0),
            (Who::Batched, Who::WsBatched, "batched", 1.0, 3.0),
        ] {
            let (p50, p99): (Figure, Figure) = (Standing::p50, Standing::p99);
            for (point, figure, bound) in [("p50", p50, p50_ms), ("p99", p99, p99_ms)] {
                let ms = |who| standing(standings, who).and_then(figure).map(|us| us / 1e3);
                let (whole, least) = (ms(who), ms(floor));
                let name = format!("latency at {calls} calls, {name}, {point}");
                let row = Row::new(&name, MS, Bound::at_most(bound), whole);
                rows.push(row.conclusive(self.is_conclusive(standings, &[who])));
                let note = format!("{} ms against {} ms", shown(whole, 3), shown(least, 3));
                let name = format!("{point} against a bare WebSocket echo run the same way");
                let row = Row::new(name, TIMES, Bound::at_most(1.5), ratio(whole, least));
                let conclusive = self.is_conclusive(standings, &[who, floor]);
                rows.push(row.noted(note).conclusive(conclusive));
            }
        }
        rows
    }

    /// Whether these were measured as they should be: with as many calls as the bounds are about, by a generator that kept up.
    fn is_conclusive(&self, standings: &[Standing], who: &[Who]) -> bool {
        let fair = |who: &Who| standing(standings, *who).is_some_and(Standing::is_conclusive);
        !self.scale.short && who.iter().all(fair)
    }

    fn highest(&self) -> Found {
        search::search(self.scale.range, P99_US, |calls| {
            self.measure(&Setup::bridge(Tick::Auto), &self.plan(calls))
        })
    }

    fn highest_row(&self, found: &Found) -> Row {
        let bound = Bound::at_least(WANTED_CALLS as f64).or_even(1_800.0);
        let row = Row::new(
            "Twilio calls on one core with p99 within 20 ms and every frame back once",
            ("calls", 0),
            bound,
            Some(found.calls as f64),
        );
        if self.scale.short {
            let most = self.scale.range.most;
            return row.conclusive(false).noted(format!(
                "{}; no more than {most} tried in the short form",
                found.carried()
            ));
        }
        let conclusive = found.is_conclusive() || found.calls >= WANTED_CALLS;
        row.noted(format!("{}; {}", found.carried(), found.limit())).conclusive(conclusive)
    }

    fn memory(&self, standings: &[Standing]) -> Result<[Row; 2], String> {
        let without = standing(standings, Who::Batched).and_then(Standing::rss_kib_per_call);
        let bound = Bound::at_most(24.0);
        let without = Row::new("memory of a call, no replay ring", KIB, bound, without)
            .conclusive(!self.scale.short);
        let name = "memory of a call, 10 s replay ring";
        let with = |measured| Row::new(name, KIB, Bound::at_most(128.0), measured);
        if self.scale.short {
            // A ring costs what was written into it, which takes its ten seconds.
            return Ok([without, with(None).noted("only in the long form")]);
        }
        let ring = Duration::from_secs(10);
        let setup =
            Setup::Bridge { threads: 1, tick: Tick::Always, ring: Some(ring), module: None };
        let plan = Plan { warm_up: ring, ..self.plan(self.scale.calls) };
        let figures = self.measure(&setup, &plan)?;
        Ok([without, with(figures.rss_kib_per_call)])
    }

    /// With twice the calls on two threads each has as much to do as one has with half of them; what a frame costs more then is
    /// what cannot be carried.
    fn two_threads(&self) -> Result<Row, String> {
        let bound = Bound::at_least(1.8);
        let row = |measured| Row::new("calls of two threads against one", TIMES, bound, measured);
        if self.scale.short {
            return Ok(row(None).noted("only in the long form"));
        }
        let cost = |threads: usize| {
            let ring = Some(Setup::NO_RING);
            let setup = Setup::Bridge { threads, tick: Tick::Always, ring, module: None };
            let plan = self.plan(self.scale.calls / 2 * threads);
            self.measure(&setup, &plan).map(|figures| figures.cpu_us_per_frame)
        };
        let (one, two) = (cost(1)?, cost(2)?);
        let row = row(ratio(one, two).map(|share| 2.0 * share));
        let costs = format!("by CPU per frame: {} us and {} us", shown(one, 2), shown(two, 2));
        if cores::count() > 2 {
            return Ok(row.noted(costs));
        }
        let note =
            format!("{costs}; not conclusive with {} cores: the generator shares", cores::count());
        Ok(row.conclusive(false).noted(note))
    }

    /// Open calls on which nobody speaks, for a whole keep-alive interval: each is pinged once within it.
    fn idle_plan(&self) -> Plan {
        let duration = SocketOptions::default().keepalive.unwrap_or_default();
        Plan { silent: true, duration, ..self.plan(self.scale.calls) }
    }

    fn idle(&self) -> Result<Row, String> {
        let plan = self.idle_plan();
        let row = |measured| {
            Row::new("CPU of 1,000 idle calls", ("% of a core", 2), Bound::at_most(1.0), measured)
        };
        if self.scale.short {
            return Ok(row(None).noted("only in the long form, which waits for the pings"));
        }
        let figures = self.measure(&Setup::bridge(Tick::Auto), &plan)?;
        let per_thousand = figures.cpu_share.map(|share| share * 100.0 * 1e3 / plan.calls as f64);
        let spoiled = figures.spoiled_by().map(|reason| format!("; {reason}")).unwrap_or_default();
        let seconds = plan.duration.as_secs();
        let note = format!("over {seconds} s, one ping and pong of each{spoiled}");
        Ok(row(per_thousand).conclusive(!figures.is_spoiled()).noted(note))
    }

    fn start(&self) -> Result<[Row; 2], String> {
        let times = (0..self.scale.starts).map(|_| start_up(&self.plan(1)));
        let times = times.collect::<Result<Vec<_>, _>>()?;
        let octets = std::env::current_exe().and_then(std::fs::metadata).map(|meta| meta.len());
        let megabytes = octets.ok().map(|octets| octets as f64 / 1e6);
        Ok([
            Row::new(
                "start to first accepted call",
                ("ms", 1),
                Bound::at_most(50.0),
                median(times),
            ),
            Row::new("binary", ("MB", 1), Bound::at_most(25.0), megabytes),
        ])
    }
}

/// Milliseconds from the start of a bridge to its first accepted call.
fn start_up(plan: &Plan) -> Result<f64, String> {
    let clock = Clock::start();
    let server = Server::start(&Setup::bridge(Tick::Auto), false)?;
    let to = server.destination(plan.provider.name());
    let mut pen = Pen::new(plan.provider.transport());
    let (caller, _) = Caller::place(clock, plan, &to, 0, &mut pen)?;
    let took = clock.now().since_epoch();
    caller.hang_up(clock, &mut pen);
    Ok(took.as_secs_f64() * 1e3)
}

fn stage_rows() -> Vec<Row> {
    let row = |bound: Bound| {
        move |(name, cost): (&str, f64)| {
            let note = if bound == Bound::Told { "at its usual complexity" } else { "" };
            Row::new(format!("{name}, 20 ms"), US, bound, Some(cost)).noted(note)
        }
    };
    let resampling = stages::resampling().map(row(Bound::at_most(0.6)));
    let g711 = stages::g711().map(|costs| costs.map(row(Bound::at_most(0.1))));
    let opus = stages::opus().map(|costs| costs.map(row(Bound::Told)));
    resampling
        .into_iter()
        .chain(g711.into_iter().flatten())
        .chain(opus.into_iter().flatten())
        .collect()
}

fn standing(standings: &[Standing], who: Who) -> Option<&Standing> {
    standings.iter().find(|standing| standing.name == who.name())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::compare::made_up;
    use super::*;

    fn standings() -> Vec<Standing> {
        let run = |who: Who| match who {
            Who::Immediate => 120,
            Who::Batched => 900,
            Who::Ws | Who::WsBatched => 90,
            _ => 100,
        };
        Who::ALL
            .iter()
            .map(|who| Standing {
                name: who.name().into(),
                runs: vec![made_up(10, run(*who), 0, false)],
            })
            .collect()
    }

    fn surveyor() -> Surveyor {
        let known = |name| known(name).expect("known");
        Surveyor { scale: Scale::SHORT, pinned: false, twilio: known("twilio"), raw: known("raw") }
    }

    #[test]
    fn costs_are_held_against_the_floor_of_the_same_frames() {
        let rows = surveyor().costs(&standings());
        let measured: Vec<_> = rows.iter().map(|row| row.measured).collect();
        assert_eq!(measured, [Some(1.2), Some(9.0), Some(1.0)]);
        assert_eq!(rows[0].note, "12.00 us against 10.00 us");
    }

    #[test]
    fn latencies_are_held_against_bounds_and_against_the_echo() {
        let rows = surveyor().latencies(&standings());
        assert_eq!(rows.len(), 8);
        assert_eq!((rows[0].measured, rows[4].measured), (Some(0.12), Some(0.9)));
        assert_eq!((rows[1].measured, rows[5].measured), (Some(0.12 / 0.09), Some(10.0)));
    }

    #[test]
    fn idle_calls_are_measured_over_a_whole_keep_alive_interval() {
        for scale in [Scale::FULL, Scale::SHORT] {
            let plan = Surveyor { scale, ..surveyor() }.idle_plan();
            assert!(plan.silent && Some(plan.duration) >= SocketOptions::default().keepalive);
        }
        // Where they are not waited for there is no figure.
        assert_eq!(surveyor().idle().map(|row| row.verdict()), Ok(Verdict::Open));
    }

    #[test]
    fn frames_lost_are_judged_by_all_fair_runs_and_only_by_them() {
        let mut all = standings();
        assert_eq!(wrong_row(&all).verdict(), Verdict::Held);
        // Nothing seen, but one of them could not be looked at.
        all[1].runs = vec![made_up(10, 120, 7, true); 4];
        let row = wrong_row(&all);
        assert_eq!((wrong(&all), row.verdict()), (None, Verdict::Open));
        assert_eq!(row.note, "4 of 10 runs were spoiled; no fair run of twilio, immediate");
        // A loss is a loss, whatever could not be looked at.
        all[3].runs.extend([made_up(10, 900, 2, false), made_up(10, 900, 0, false)]);
        let row = wrong_row(&all);
        assert_eq!((wrong(&all), row.verdict()), (Some(2), Verdict::Missed));
        assert!(row.note.contains("; by twilio, batched; no fair run of"), "{}", row.note);
        all.iter_mut().for_each(|standing| standing.runs = vec![made_up(10, 9, 1, true)]);
        let row = wrong_row(&all);
        assert_eq!(row.verdict(), Verdict::Open);
        assert_eq!(row.note, "7 of 7 runs were spoiled; no fair run of any");
    }

    #[test]
    fn stages_cost_something() {
        for row in stage_rows() {
            assert!(row.measured > Some(0.0), "{row:?}");
        }
    }
}
