//! Filters of the caller's track: where each stands between decoder and everybody else, and what is told of sound that passed as it
//! was. Filters nothing itself.

use std::ops::Range;

use crate::Instant;
use crate::ledger::{Drop, Hop, Unit};
use crate::media::filter::{Bypass, Filter};
use crate::media::ring::Ring;

use super::media::MediaPath;
use super::port::{AGENT, CALLER, Port, PortId};
use super::{Report, Session};

impl MediaPath {
    /// There is more of the caller's sound, or time has passed.
    pub(super) fn run_filters(&mut self, now: Instant) {
        let Some(caller) = &mut self.caller else { return };
        let mut input = &mut caller.ring;
        for filter in &mut self.filters {
            filter.run(now, input);
            input = filter.ring_mut();
        }
    }

    /// The stream is over: nothing waits any more.
    pub(super) fn end_filters(&mut self) {
        let Some(caller) = &mut self.caller else { return };
        let mut input = &mut caller.ring;
        for filter in &mut self.filters {
            filter.end(input, Bypass::Ended);
            input = filter.ring_mut();
        }
    }

    /// A filter and what it is to filter.
    pub(super) fn filter(&mut self, index: usize) -> Option<(&mut Filter, &mut Ring)> {
        let (before, rest) = self.filters.split_at_mut_checked(index)?;
        let input = match before.last_mut() {
            Some(filter) => filter.ring_mut(),
            None => &mut self.caller.as_mut()?.ring,
        };
        Some((rest.first_mut()?, input))
    }

    /// The ring of a track as a module hears it; a filter hears what it is to filter.
    pub(super) fn ring_for(&mut self, filter: Option<usize>, track: u16) -> Option<&mut Ring> {
        match filter.filter(|_| track == CALLER) {
            Some(index) => self.filter(index).map(|(_, input)| input),
            None => self.ring_mut(track),
        }
    }

    /// The same, to look at.
    pub(super) fn heard_by(&self, filter: Option<usize>, track: u16) -> Option<&Ring> {
        match filter {
            Some(0) if track != AGENT => self.caller.as_ref().map(|caller| &caller.ring),
            Some(index) if track != AGENT => self.filters.get(index - 1).map(Filter::ring),
            _ => self.ring(track),
        }
    }
}

impl Session {
    /// Whether a module's sound is for others to hear in the place of the caller's: give it to [`Self::filter_audio`].
    #[must_use]
    pub fn is_filter(&self, id: PortId) -> bool {
        self.ports.get(id.0).is_some_and(|port| port.filter.is_some())
    }

    /// A filter answered the sound from sample `at` of the track on; `None` goes on where its last answer ended.
    pub fn filter_audio(&mut self, now: Instant, id: PortId, at: Option<u64>, samples: &[i16]) {
        self.now = now;
        let live = self.phase.is_live();
        let Some(port) = self.ports.get_mut(id.0) else { return };
        let Some(index) = port.filter.filter(|_| live) else {
            port.spoken.entered += samples.len() as u64;
            port.spoken.after_end += samples.len() as u64;
            return;
        };
        port.heard.taken();
        port.keys.taken();
        let Some(media) = &mut self.media else { return };
        if let Some((filter, input)) = media.filter(index) {
            let before = filter.counts(input);
            filter.answer(at, samples, input);
            let after = filter.counts(input);
            for (reason, count) in [
                (Drop::Late, after.late - before.late),
                (Drop::Early, after.early - before.early),
                (Drop::Duplicate, after.twice - before.twice),
            ] {
                if count > 0 {
                    self.report(Report::Dropped { reason, count });
                }
            }
        }
        self.run_filters(now);
        self.settle(now);
    }

    pub(super) fn run_filters(&mut self, now: Instant) {
        if let Some(media) = self.media.as_mut().filter(|media| !media.filters.is_empty()) {
            media.run_filters(now);
            self.report_bypasses(Filter::take_report);
        }
    }

    /// The stream is over.
    pub(super) fn end_filters(&mut self) {
        if let Some(media) = self.media.as_mut().filter(|media| !media.filters.is_empty()) {
            media.end_filters();
            self.report_bypasses(Filter::take_last_report);
        }
    }

    fn report_bypasses(&mut self, take: fn(&mut Filter) -> Option<[u64; 4]>) {
        let reports = |media: &mut MediaPath| -> Vec<_> {
            let filters = media.filters.iter_mut().enumerate();
            filters.filter_map(|(index, filter)| Some((index, take(filter)?))).collect()
        };
        let reports = self.media.as_mut().map(reports).unwrap_or_default();
        for (index, counts) in reports {
            let its = |port: &Port| port.filter == Some(index) && !port.replaced;
            let Some(port) = self.ports.iter().position(its).map(PortId) else { continue };
            for (why, count) in Bypass::ALL.into_iter().zip(counts) {
                if count > 0 {
                    self.report(Report::Bypassed { port, why, count });
                }
            }
        }
    }

    /// A filter is not there any more, for now or for good.
    pub(super) fn filter_gone(&mut self, id: PortId) {
        let Some(index) = self.ports.get(id.0).and_then(|port| port.filter) else { return };
        let Some(media) = &mut self.media else { return };
        if let Some((filter, input)) = media.filter(index) {
            filter.end(input, Bypass::Failed);
        }
        self.run_filters(self.now);
    }

    /// Sound was overwritten before a filter was given it.
    pub(super) fn filter_skips(&mut self, id: PortId, lost: &Range<u64>) {
        let Some(port) = self.ports.get(id.0) else { return };
        let (filter, in_step) = (port.filter, port.config.in_step);
        let filter = self.media.as_mut().zip(filter).and_then(|(m, filter)| m.filter(filter));
        if let Some((filter, _)) = filter {
            filter.skip(lost.end - lost.start, lost.end, in_step);
        }
    }

    /// So much of what a filter answered was let go before it came here.
    pub(super) fn filter_lost(&mut self, id: PortId, samples: u64) {
        let filter = self.ports.get(id.0).and_then(|port| port.filter);
        let filter = self.media.as_mut().zip(filter).and_then(|(m, filter)| m.filter(filter));
        if let Some((filter, _)) = filter {
            filter.lose(samples);
        }
    }

    /// Sound that passed a filter as it was, in ms by reason.
    pub(super) fn bypassed(&self, port: &Port) -> Vec<(Bypass, u64)> {
        let Some((filter, input)) = self.filter_of(port) else { return Vec::new() };
        let counts = Bypass::ALL.into_iter().zip(filter.counts(input).bypassed);
        let bypassed = counts.filter(|(_, count)| *count > 0);
        bypassed.map(|(why, count)| (why, input.rate().millis_of(count))).collect()
    }

    /// The filter of a place and what it filters, accounted with the module that had the place first.
    fn filter_of(&self, port: &Port) -> Option<(&Filter, &Ring)> {
        let index = port.filter.filter(|_| !port.config.standby)?;
        let media = self.media.as_ref()?;
        Some((media.filters.get(index)?, media.heard_by(Some(index), CALLER)?))
    }

    /// The sound's way through a filter, and that of its answers.
    pub(super) fn filter_hops(&self, port: &Port) -> Vec<Hop> {
        let Some((filter, input)) = self.filter_of(port) else { return Vec::new() };
        let (c, name) = (filter.counts(input), &port.config.name);
        let [late, failed, down, ended] = c.bypassed;
        let way = format!("filter.{name}");
        let answers = format!("filter.{name}.answers");
        vec![
            Hop::new(way, Unit::Samples, c.entered, c.filtered, c.queued)
                .dropping(Drop::BypassedLate, late)
                .dropping(Drop::BypassedFailed, failed)
                .dropping(Drop::BypassedDown, down)
                .dropping(Drop::CallEnded, ended),
            Hop::new(answers, Unit::Samples, c.answered, c.placed, 0)
                .dropping(Drop::Late, c.late)
                .dropping(Drop::Early, c.early)
                .dropping(Drop::Duplicate, c.twice),
        ]
    }
}
