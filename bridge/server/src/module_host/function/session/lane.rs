//! One kind of thing that happens on a call: what waits to be asked, the job that is being done, and what came of it so far. Sends
//! nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use ringback_codecs::{Resampler, SampleRate};
use ringback_proto::Instant;
use serde_json::Value;

use super::super::board::{Job, Values};
use super::super::envelope::{self, Effect, Source};
use crate::config::{TextResult, Trigger};

/// Questions that wait while a function is busy.
const MAX_WAITING: usize = 16;

/// Jobs for one [`Trigger`], one at a time.
#[derive(Debug)]
pub(super) struct Lane {
    trigger: Trigger,
    /// Which function, if there is one.
    pub(super) function: Option<String>,
    waiting: VecDeque<Value>,
    pub(super) running: Option<Running>,
}

/// What a job comes to.
#[derive(Debug)]
pub(super) enum Step {
    /// A value of its result.
    Value(Value),
    /// Nothing more.
    Over,
}

impl Lane {
    pub(super) fn new(trigger: Trigger, function: Option<&String>) -> Self {
        Self { trigger, function: function.cloned(), waiting: VecDeque::new(), running: None }
    }

    /// Queues a question; gives the reasons of those that are not asked for it.
    pub(super) fn push(&mut self, query: Value) -> Option<&'static str> {
        let dropped = if self.trigger == Trigger::Partial && !self.waiting.is_empty() {
            self.waiting.clear();
            Some("superseded")
        } else if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            Some("too_slow")
        } else {
            None
        };
        self.waiting.push_back(query);
        dropped
    }

    /// The next question, if no job is being done.
    pub(super) fn next(&mut self) -> Option<(String, Value)> {
        let function = self.function.clone().filter(|_| self.running.is_none())?;
        self.waiting.pop_front().map(|query| (function, query))
    }

    /// Asks none of what waits.
    pub(super) fn forget(&mut self) -> impl Iterator<Item = Value> + use<'_> {
        self.waiting.drain(..)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// What its job comes to next, once all before it was dealt with.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match &mut self.running {
            Some(running) if running.effects.is_empty() => {
                running.values.poll_recv(cx).map(|value| value.map_or(Step::Over, Step::Value))
            }
            _ => Poll::Pending,
        }
    }
}

/// A job that is being done.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) job: Arc<Job>,
    values: Values,
    /// What came and was not dealt with.
    pub(super) effects: VecDeque<Effect>,
    /// There is no room for its sound before this.
    pub(super) held_until: Option<Instant>,
    /// The playback generation it speaks for.
    pub(super) epoch: u32,
    /// It has said something that may still be heard.
    pub(super) has_spoken: bool,
    /// An utterance of words is not complete.
    pub(super) has_open_words: bool,
    resampler: Option<Resampler>,
    /// Values so far.
    count: u64,
}

impl Running {
    pub(super) fn new(job: Arc<Job>, values: Values, epoch: u32) -> Self {
        Self {
            job,
            values,
            effects: VecDeque::new(),
            held_until: None,
            epoch,
            has_spoken: false,
            has_open_words: false,
            resampler: None,
            count: 0,
        }
    }

    /// Reads a value of its result.
    pub(super) fn take(&mut self, value: Value, text: TextResult) {
        self.count += 1;
        let name = format!("{}.{}", self.job.id, self.count);
        let function = self.job.function.as_str();
        let source = Source { function, name: &name, text, is_streamed: self.job.is_streamed() };
        let mut effects = Vec::new();
        envelope::read(value, &source, &mut effects);
        self.effects.extend(effects);
    }

    /// Sound at the rate of the call.
    pub(super) fn resampled(&mut self, samples: &[i16], from: u32, to: u32) -> Vec<i16> {
        self.has_spoken = true;
        let (Some(from), Some(to)) = (SampleRate::new(from), SampleRate::new(to)) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        let current = self.resampler.as_ref().is_some_and(|resampler| resampler.from() == from);
        if !current {
            if let Some(mut before) = self.resampler.take() {
                before.finish(&mut out);
            }
            self.resampler = Some(Resampler::new(from, to));
        }
        if let Some(resampler) = &mut self.resampler {
            resampler.process(samples, &mut out);
        }
        out
    }

    /// What is left of its sound, if there was any.
    pub(super) fn rest_of_sound(&mut self) -> Option<Vec<i16>> {
        let mut out = Vec::new();
        self.resampler.take()?.finish(&mut out);
        Some(out)
    }

    /// Does nothing of what it still says.
    pub(super) fn let_go(&mut self) {
        self.effects.clear();
        self.resampler = None;
        self.has_open_words = false;
        self.held_until = None;
        self.values.close();
        while self.values.try_recv().is_ok() {}
    }
}
