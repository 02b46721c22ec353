//! One call's use of a pool of functions: what happens becomes jobs, and results become what a module says. Runs no program.
//!
//! For each thing that can happen there is a lane with one job at a time, in order; a key need not wait for the answer to a question.
//! Guesses of words are not queued: the newest takes the place of one that waits.

mod lane;

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ringback_module::message::{
    Accept, AcceptIn, AcceptOut, ErrorReport, Event, FromModule, Ready, Reject, Say, Start,
    StopReason, ToModule, Transcript,
};
use ringback_proto::Instant;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::super::{FromHost, Inbox, Seat, ToHost};
use super::FunctionPool;
use super::board::{Job, Outcome};
use super::envelope::Effect;
use super::query::Story;
use super::utterance::{Ears, Heard};
use crate::config::Trigger;
use lane::{Lane, Running, Step};

/// The call is gone.
struct Gone;

/// Serves a call from its start to its end.
pub(super) async fn run(pool: Arc<FunctionPool>, start: Start, seat: Seat) {
    let Seat { mut to, from } = seat;
    let limit = Duration::from_millis(start.limits.ready_ms);
    let ready = tokio::select! {
        ready = timeout(limit, is_ready(&pool)) => ready.is_ok(),
        end = called_off(&mut to) => {
            // It may be gone, and then does not need to know.
            let _ = if end { from.send(FromHost::Gone { reason: None }).await } else { Ok(()) };
            return;
        }
    };
    if !ready {
        let problem = pool.inner.state.borrow().problem.clone();
        let problem = problem.map(|problem| format!("; last: {problem}")).unwrap_or_default();
        let reason = format!("no replica is ready within {} ms{problem}", start.limits.ready_ms);
        let _ = from.send(FromHost::Gone { reason: Some(reason) }).await;
        return;
    }
    let (mut session, ready) = match Session::new(pool, start, from.clone()) {
        Ok(made) => made,
        Err(reject) => {
            let _ = from.send(FromHost::Rejected(reject)).await;
            return;
        }
    };
    // A call that is gone hears nothing; what it left behind is let go.
    let over = match from.send(FromHost::Ready(ready)).await {
        Ok(()) => session.serve(&mut to).await,
        Err(_) => Err(Gone),
    };
    session.leave();
    if over.is_ok() {
        let stats = session.stats();
        let _ = from.send(FromHost::Message(FromModule::Done { stats })).await;
        let _ = from.send(FromHost::Gone { reason: None }).await;
    }
}

async fn is_ready(pool: &FunctionPool) {
    let mut state = pool.inner.state.subscribe();
    if state.wait_for(|state| state.ready > 0).await.is_err() {
        pending::<()>().await;
    }
}

/// The call does not want it any more before there is one; says whether it still listens.
async fn called_off(to: &mut Inbox) -> bool {
    loop {
        match to.recv().await {
            None => return false,
            Some(ToHost::Stop { .. }) => return true,
            Some(_) => {}
        }
    }
}

struct Session {
    pool: Arc<FunctionPool>,
    /// Of the call and this module in it; jobs are called after it.
    name: String,
    call: String,
    from: tokio::sync::mpsc::Sender<FromHost>,
    story: Story,
    ears: Option<Ears>,
    /// One for each [`Trigger`] in order.
    lanes: [Lane; Trigger::ALL.len()],
    jobs: u64,
    counts: Counts,
    epoch: u32,
    /// The call carries words.
    can_say: bool,
    /// Rate of what it plays.
    rate: Option<u32>,
    /// All that it was given will have been played then.
    queued_until: Instant,
    /// So much may be queued.
    room: Duration,
    stopping: Option<Stopping>,
}

/// The call is over.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    /// The last job waits for the others until then.
    last_job: Instant,
    /// All that is not done then is not waited for.
    deadline: Instant,
}

/// What became of the jobs of a call.
#[derive(Debug, Default)]
struct Counts {
    answered: u64,
    failed: u64,
    /// Never done, by reason.
    dropped: std::collections::BTreeMap<&'static str, u64>,
}

impl Session {
    fn new(
        pool: Arc<FunctionPool>,
        start: Start,
        from: tokio::sync::mpsc::Sender<FromHost>,
    ) -> Result<(Self, Ready), Reject> {
        let config = &pool.inner.config;
        let on = |trigger| config.on.contains_key(&trigger);
        let hears = on(Trigger::Utterance)
            && !start.offer.tracks.is_empty()
            && !start.offer.input.is_empty();
        let ears = if hears {
            let silence = config.end_of_utterance.as_millis() as u64;
            Some(Ears::new(&start, silence)?)
        } else {
            None
        };
        let output = start.offer.output.first().map(|format| AcceptOut::pcm(format.rate));
        let words = on(Trigger::Transcript) || on(Trigger::Partial);
        let want = [("text", words), ("dtmf", on(Trigger::Dtmf))];
        let ready = Ready {
            session: start.session.clone(),
            accept: Accept {
                input: hears.then(|| AcceptIn::pcm(ringback_vad::RATE)),
                output,
                ..Accept::default()
            },
            want: want
                .into_iter()
                .filter(|(_, wanted)| *wanted)
                .map(|(name, _)| name.to_owned())
                .collect(),
            ..Ready::default()
        };
        let named = |text: &str| {
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
                .collect()
        };
        let lanes = Trigger::ALL.map(|trigger| Lane::new(trigger, config.on.get(&trigger)));
        let mut session = Self {
            name: named(&start.session),
            call: start.call.id.clone(),
            from,
            ears,
            lanes,
            jobs: 0,
            counts: Counts::default(),
            epoch: 0,
            can_say: start.carries_text(),
            rate: output.map(|output| output.rate),
            queued_until: pool.inner.clock.now(),
            room: Duration::from_millis(start.credit.out_ms),
            stopping: None,
            story: Story::new(start.call, start.config),
            pool,
        };
        session.begin(Trigger::Start, Story::start);
        Ok((session, ready))
    }

    fn now(&self) -> Instant {
        self.pool.inner.clock.now()
    }

    async fn serve(&mut self, to: &mut Inbox) -> Result<(), Gone> {
        loop {
            self.hand_over();
            if let Some(Stopping { deadline, .. }) = self.stopping
                && (self.lanes.iter().all(Lane::is_idle) || self.now() >= deadline)
            {
                return Ok(());
            }
            let (clock, wake) = (self.pool.inner.clock, self.wake());
            let lanes = &mut self.lanes;
            let stepped = poll_fn(|cx| {
                let ready =
                    lanes.iter_mut().enumerate().find_map(|(index, lane)| match lane.poll(cx) {
                        Poll::Ready(step) => Some((index, step)),
                        Poll::Pending => None,
                    });
                ready.map_or(Poll::Pending, Poll::Ready)
            });
            tokio::select! {
                item = to.recv() => match item {
                    None => return Err(Gone),
                    Some(item) => self.told(item).await?,
                },
                (index, step) = stepped => self.step(index, step).await?,
                () = clock.sleep_until(wake) => self.release().await?,
            }
        }
    }

    /// When something has to be looked after that nobody tells: sound that waits for room, or the end.
    fn wake(&self) -> Option<Instant> {
        let held = self.lanes.iter().filter_map(|lane| lane.running.as_ref()?.held_until);
        let stop = self.stopping.map(|Stopping { last_job, deadline }| {
            if self.lane(Trigger::End).is_waiting() { last_job } else { deadline }
        });
        held.chain(stop).min()
    }

    fn lane(&self, trigger: Trigger) -> &Lane {
        &self.lanes[trigger as usize]
    }

    /// Queues what a function is to be asked, if there is one for it.
    fn begin(&mut self, trigger: Trigger, query: impl FnOnce(&Story) -> Value) {
        let lane = &mut self.lanes[trigger as usize];
        if lane.function.is_none() {
            return;
        }
        let query = query(&self.story);
        let query = match (&lane.running, trigger) {
            // The newest guess is asked in the place of one that waits.
            (Some(running), Trigger::Partial)
                if self.pool.inner.board.ask_instead(&running.job, query.clone()) =>
            {
                self.counts.drop("superseded");
                return;
            }
            _ => query,
        };
        if let Some(reason) = lane.push(query) {
            self.counts.drop(reason);
        }
    }

    /// Gives the pool the next job of each lane that has none. The last one waits for all others, though not to the end.
    fn hand_over(&mut self) {
        let now = self.now();
        let others_busy = Trigger::ALL
            .iter()
            .any(|&trigger| trigger != Trigger::End && !self.lane(trigger).is_idle());
        let in_time = self.stopping.is_some_and(|stopping| now < stopping.last_job);
        for trigger in Trigger::ALL {
            if trigger == Trigger::End && others_busy && in_time {
                continue;
            }
            let lane = &mut self.lanes[trigger as usize];
            let Some((function, query)) = lane.next() else { continue };
            self.jobs += 1;
            let id = format!("{}-{}", self.name, self.jobs);
            let job = Job::new(id, function, self.call.clone(), query, trigger == Trigger::Partial);
            let values = self.pool.inner.board.submit(Arc::clone(&job));
            lane.running = Some(Running::new(job, values, self.epoch));
        }
    }

    async fn told(&mut self, item: ToHost) -> Result<(), Gone> {
        match item {
            ToHost::Audio { track: 0, pts, flags, samples, .. } => {
                self.hear(pts, flags, &samples).await
            }
            ToHost::Message(message) => self.message(message).await,
            ToHost::Stop { reason, deadline } => self.stop(reason, deadline).await,
            // It never says that it has to be started again.
            ToHost::Start(_) | ToHost::Audio { .. } => Ok(()),
        }
    }

    async fn hear(
        &mut self,
        pts: u64,
        flags: ringback_module::FrameFlags,
        samples: &[i16],
    ) -> Result<(), Gone> {
        let (Some(ears), mut heard) = (&mut self.ears, Vec::new()) else { return Ok(()) };
        if let Err(error) = ears.hear(pts, flags, samples, &mut heard) {
            self.ears = None;
            return self.report("no_utterances", error.to_string()).await;
        }
        self.heard(heard).await
    }

    async fn heard(&mut self, heard: Vec<Heard>) -> Result<(), Gone> {
        for heard in heard {
            match heard {
                Heard::Change(change) => self.say(FromModule::Vad(change)).await?,
                Heard::Utterance(utterance) => {
                    self.story.next_turn();
                    let in_ms = utterance.end_ms;
                    self.begin(Trigger::Utterance, |story| story.utterance(&utterance));
                    self.say(FromModule::Ack { in_ms, lag_ms: None }).await?;
                }
            }
        }
        Ok(())
    }

    async fn message(&mut self, message: ToModule) -> Result<(), Gone> {
        match message {
            ToModule::Text(transcript) => self.text(transcript).await?,
            ToModule::Dtmf(dtmf) => {
                self.story.next_turn();
                self.begin(Trigger::Dtmf, |story| story.dtmf(&dtmf));
            }
            ToModule::Cleared(cleared) => self.cleared(cleared.epoch + 1),
            ToModule::Credit { out_ms } => self.room = Duration::from_millis(out_ms),
            ToModule::Update { config } => self.story.update(config),
            ToModule::Finalize { id } => self.say(FromModule::Finalized { id }).await?,
            _ => {}
        }
        Ok(())
    }

    async fn text(&mut self, transcript: Transcript) -> Result<(), Gone> {
        if !transcript.is_final {
            self.begin(Trigger::Partial, |story| story.transcript(&transcript));
            return Ok(());
        }
        // What is known makes the guess worthless.
        self.drop_guess("superseded");
        self.story.next_turn();
        self.begin(Trigger::Transcript, |story| story.transcript(&transcript));
        self.story.said(super::query::who(transcript.track), &transcript.text, false);
        // Taken: it need not be told again.
        self.say(FromModule::Ack { in_ms: transcript.end_ms, lag_ms: None }).await
    }

    fn drop_guess(&mut self, reason: &'static str) {
        let lane = &mut self.lanes[Trigger::Partial as usize];
        for _ in lane.forget() {
            self.counts.drop(reason);
        }
        let waiting = lane.running.as_ref().filter(|running| !running.job.is_leased());
        if let Some(running) = waiting {
            self.pool.inner.board.abandon(self.pool.inner.clock.now(), &running.job, reason);
        }
    }

    /// What was being said to the caller is not heard any more: functions that say it are stopped, those that have said nothing go on.
    fn cleared(&mut self, epoch: u32) {
        if epoch <= self.epoch {
            return;
        }
        let now = self.now();
        self.epoch = epoch;
        self.queued_until = now;
        for lane in &mut self.lanes {
            let Some(running) = &mut lane.running else { continue };
            if running.epoch >= epoch {
                continue;
            }
            if !running.job.is_leased() {
                running.epoch = epoch;
            } else if running.has_spoken {
                running.let_go();
                self.pool.inner.board.abandon(now, &running.job, "cleared");
            }
        }
    }

    async fn stop(&mut self, reason: StopReason, deadline: Duration) -> Result<(), Gone> {
        if let Some(mut ears) = self.ears.take() {
            let mut heard = Vec::new();
            ears.finish(&mut heard);
            self.heard(heard).await?;
        }
        self.drop_guess("call_ended");
        // Before the deadline there has to be time to say that it is over.
        let (now, limit) = (self.now(), deadline - deadline / 8);
        self.stopping = Some(Stopping { last_job: now + limit / 2, deadline: now + limit });
        // There is nobody any more to whom anything could be said.
        for running in self.lanes.iter_mut().filter_map(|lane| lane.running.as_mut()) {
            if running.has_spoken {
                running.let_go();
                self.pool.inner.board.abandon(now, &running.job, "call_ended");
            }
        }
        self.begin(Trigger::End, |story| story.end(reason));
        Ok(())
    }

    async fn step(&mut self, index: usize, step: Step) -> Result<(), Gone> {
        match step {
            Step::Value(value) => {
                if let Some(running) = &mut self.lanes[index].running {
                    running.take(value, self.pool.inner.config.result);
                }
                self.carry_out(index).await
            }
            Step::Over => self.over(index).await,
        }
    }

    /// Goes on with sound that waited for room.
    async fn release(&mut self) -> Result<(), Gone> {
        for index in 0..self.lanes.len() {
            self.carry_out(index).await?;
        }
        Ok(())
    }

    /// Does what a result means, as far as there is room for its sound.
    async fn carry_out(&mut self, index: usize) -> Result<(), Gone> {
        loop {
            let now = self.now();
            let Some(running) = &mut self.lanes[index].running else { return Ok(()) };
            running.held_until = None;
            let Some(effect) = running.effects.pop_front() else { return Ok(()) };
            let epoch = running.epoch;
            match effect {
                Effect::Sound { samples, rate } => {
                    let length = Duration::from_secs_f64(samples.len() as f64 / f64::from(rate));
                    let queued = self.queued_until.saturating_since(now);
                    if !queued.is_zero() && queued + length > self.room && epoch == self.epoch {
                        running.held_until =
                            Some(now + (queued + length).saturating_sub(self.room));
                        running.effects.push_front(Effect::Sound { samples, rate });
                        return Ok(());
                    }
                    let Some(out) = self.rate else {
                        let text = format!(
                            "{}: this call plays no sound of this module",
                            running.job.function
                        );
                        self.report("no_sound", text).await?;
                        continue;
                    };
                    if epoch == self.epoch {
                        self.queued_until = self.queued_until.max(now) + length;
                    }
                    let samples = running.resampled(&samples, rate, out);
                    self.send(FromHost::Audio { epoch: Some(epoch), samples }).await?;
                    self.silence_if_stale(index);
                }
                Effect::Say(say) => {
                    self.words(index, say).await?;
                    self.silence_if_stale(index);
                }
                Effect::Clear => {
                    self.say(FromModule::Clear { epoch: Some(self.epoch) }).await?;
                    let next = self.epoch + 1;
                    if let Some(running) = &mut self.lanes[index].running {
                        running.epoch = next;
                    }
                    self.cleared(next);
                }
                Effect::Message(message) => self.say(message).await?,
            }
        }
    }

    /// What was said for playback that is over was counted where it was dropped; more of it is not asked for.
    fn silence_if_stale(&mut self, index: usize) {
        let now = self.now();
        let Some(running) =
            self.lanes[index].running.as_mut().filter(|running| running.epoch < self.epoch)
        else {
            return;
        };
        running.let_go();
        self.pool.inner.board.abandon(now, &running.job, "cleared");
    }

    async fn words(&mut self, index: usize, say: Say) -> Result<(), Gone> {
        let Some(running) = &mut self.lanes[index].running else { return Ok(()) };
        let is_more = running.has_open_words;
        running.has_open_words = !say.last;
        running.has_spoken = true;
        let epoch = running.epoch;
        if epoch == self.epoch {
            self.story.said("agent", &say.text, is_more);
        }
        if self.can_say {
            return self.say(FromModule::Say(Say { epoch: Some(epoch), ..say })).await;
        }
        // Nobody here has a voice; whoever looks on can still read it.
        let data = json!({"text": say.text, "last": say.last});
        self.say(FromModule::Event(Event { name: "function.say".into(), data })).await
    }

    /// A job has ended and all its values are dealt with.
    async fn over(&mut self, index: usize) -> Result<(), Gone> {
        let Some(mut running) = self.lanes[index].running.take() else { return Ok(()) };
        let epoch = Some(running.epoch);
        if running.has_open_words && self.can_say {
            self.say(FromModule::Say(Say {
                text: String::new(),
                last: true,
                language: None,
                epoch,
            }))
            .await?;
        }
        if let Some(samples) = running.rest_of_sound() {
            self.send(FromHost::Audio { epoch, samples }).await?;
            self.say(FromModule::AudioEnd { epoch }).await?;
        }
        match running.job.outcome() {
            Outcome::Answered => self.counts.answered += 1,
            Outcome::Failed(reason) => {
                self.counts.failed += 1;
                let text = format!("{}: {reason}", running.job.function);
                self.report("function_failed", text).await?;
            }
            Outcome::Dropped(reason) => {
                self.counts.drop(reason);
                if reason == "queue_full" {
                    let text = format!(
                        "{}: too many jobs wait; this one was not done",
                        running.job.function
                    );
                    self.report("queue_full", text).await?;
                }
            }
        }
        Ok(())
    }

    async fn report(&mut self, code: &str, message: String) -> Result<(), Gone> {
        self.say(FromModule::Error(ErrorReport {
            code: code.into(),
            message,
            ..ErrorReport::default()
        }))
        .await
    }

    async fn say(&mut self, message: FromModule) -> Result<(), Gone> {
        self.send(FromHost::Message(message)).await
    }

    async fn send(&mut self, event: FromHost) -> Result<(), Gone> {
        self.from.send(event).await.map_err(|_| Gone)
    }

    /// Lets go of all jobs but the last, which is done though nobody waits for it.
    fn leave(&mut self) {
        let now = self.now();
        for (lane, trigger) in self.lanes.iter_mut().zip(Trigger::ALL) {
            for _ in lane.forget() {
                self.counts.drop("call_ended");
            }
            if let Some(running) = lane.running.take().filter(|_| trigger != Trigger::End) {
                self.counts.drop("call_ended");
                self.pool.inner.board.abandon(now, &running.job, "call_ended");
            }
        }
    }

    fn stats(&self) -> Map<String, Value> {
        let Counts { answered, failed, dropped } = &self.counts;
        let jobs =
            json!({"asked": self.jobs, "answered": answered, "failed": failed, "dropped": dropped});
        Map::from_iter([("jobs".to_owned(), jobs)])
    }
}

impl Counts {
    fn drop(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}
