//! One call as a task: moves octets between its socket, its session and its modules. All meaning is in the session.

mod attach;
mod breaker;
mod inline;
mod last;
mod lines;
mod log;
mod running;
mod sending;
mod source;
mod watch;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringback_module::AudioFrame;
use ringback_module::message::{StopReason, ToModule};
use ringback_proto::Instant;
use ringback_proto::provider::{Line, LineEvent, Message, Send as WireSend};
use ringback_proto::session::{
    Action, Epoch, FrameBuf, Given, PortId, PrivateBy, Session, Summary,
};
use ringback_proto::transcript::{CUT, Direction, NO_CODE};
use tokio::sync::oneshot;

use crate::capture::Tape;
use crate::clock::Clock;
use crate::hangup::HangUp;
use crate::module_host::{FromHost, Hosted, ToHost};
use crate::registry::{Entered, Order};
use crate::shutdown::Shutdown;
use crate::socket::{Closed, Incoming, Socket, SocketError, close_code};
use crate::telemetry::{METRICS, PeerText};

use attach::{Arrived, Claim};
pub(crate) use attach::{Attachments, Reattach, Whose};
use breaker::Trial;
use inline::Inline;
use lines::Happened;
pub(crate) use lines::{Lines, MOST_POSTED};
pub(crate) use log::{LogWatch, notice_text};
pub(crate) use source::{FunctionPools, ModuleSource, Sources, Ways};
use source::{Place, Supply};
pub use watch::{Late, Seen, Watch, Watchers};

/// Frames given to one module before the others and the wire get their turn: a replay of 10 s must not hold up the call.
const BURST: usize = 32;

/// Messages kept for a module whose queue is full.
const MAX_BACKLOG: usize = 256;
/// Told to end now, modules have so long for last words; the listener's grace is longer.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// Where a port's module runs.
enum Host {
    /// In the call's own task.
    Inline(Box<Inline>),
    /// Somewhere else, behind bounded queues.
    Hosted {
        hosted: Box<Hosted>,
        stopping: Option<(StopReason, Duration)>,
        backlog: VecDeque<ToHost>,
        /// Whether it is worth trying on other calls.
        trial: Option<Box<Trial>>,
    },
    /// Not started yet, or over.
    None,
}

/// What a call is carried by.
pub(crate) enum Wire {
    /// What the provider opened.
    Socket(Box<Socket>),
    /// What we are to open.
    Lines(Box<Lines>),
}

/// A call in progress.
pub(crate) struct Call {
    clock: Clock,
    session: Session,
    socket: Option<Socket>,
    /// In the place of a socket, where we dial.
    lines: Option<Box<Lines>>,
    hosts: Vec<Host>,
    sources: Supply,
    watchers: Watchers,
    hangup: Option<Arc<HangUp>>,
    /// Hears when the provider's API has ended the call, or could not.
    hanging_up: Option<oneshot::Receiver<()>>,
    name: String,
    summary: Option<Box<Summary>>,
    /// Its place among the calls that are live.
    entered: Option<Box<Entered>>,
    /// How another stream finds it, where that may be.
    reattach: Option<Box<Reattach>>,
    /// What it is captured on; the session's protocol captures what is said, and this how it ends.
    tape: Option<Tape>,
}

/// What takes more than one poll to carry out. All else that wakes a call is dealt with where it is found: what is returned from
/// a poll is kept in the call's future and moved about in it, for every frame.
enum Errand {
    /// The provider closed the stream, or cut it, with this code.
    Ended(u16),
    /// The stream is of no use any more.
    Failed(SocketError),
    /// The other end of a line closed it.
    LineClosed(Line, Option<Closed>),
    /// Another stream goes on with the call.
    Reattached(Box<Arrived>),
    /// We are to end now.
    ShutDown,
    /// An operator wants something.
    Ordered(Order),
}

impl Call {
    /// A call over `wire` whose modules are run by `sources`.
    pub(crate) fn new(
        clock: Clock,
        name: String,
        session: Session,
        wire: Wire,
        sources: Sources,
        watchers: Watchers,
        hangup: Option<Arc<HangUp>>,
    ) -> Self {
        let (socket, lines) = match wire {
            Wire::Socket(socket) => (Some(*socket), None),
            Wire::Lines(lines) => (None, Some(lines)),
        };
        Self {
            clock,
            session,
            socket,
            lines,
            hosts: Vec::new(),
            sources: Supply::All(sources),
            watchers,
            hangup,
            hanging_up: None,
            name,
            summary: None,
            reattach: None,
            tape: None,
            entered: None,
        }
    }

    /// The same, which takes orders as one of the calls that are live.
    pub(crate) fn entered(self, entered: Box<Entered>) -> Self {
        Self { entered: Some(entered), ..self }
    }

    /// The same, whose end is captured on `tape`.
    pub(crate) fn captured(self, tape: Option<Tape>) -> Self {
        Self { tape, ..self }
    }

    /// The same, that may go on with another stream, or be another stream of one that is there.
    pub(crate) fn reattaching(self, reattach: Option<Reattach>) -> Self {
        Self { reattach: reattach.map(Box::new), ..self }
    }

    /// Runs the call to its end, or until its stream is handed to the call that it is of: without a summary. One that is dropped before
    /// is told of all the same.
    pub(crate) async fn run(self: Box<Self>, shutdown: &Shutdown) -> Option<Box<Summary>> {
        let mut running = running::Running(self);
        let this = &mut *running.0;
        let mut alarm = pin!(this.clock.alarm());
        let mut cut_off = Some(shutdown.cut_off());
        let mut now = this.clock.now();
        loop {
            this.pump(now);
            this.transmit(shutdown).await;
            if this.reattach.is_some() && this.session.is_over() {
                this.reattach = None;
            }
            if this.session.is_ended() {
                this.pump(now);
                return this.summary.take();
            }
            alarm.as_mut().set(this.session.poll_timeout());
            let errand = poll_fn(|cx| {
                if let Poll::Ready(errand) = this.poll_wake(cx, &mut now) {
                    return Poll::Ready(errand);
                }
                if alarm.as_mut().poll(cx).is_ready() {
                    now = this.clock.now();
                    this.session.handle_timeout(now);
                    return Poll::Ready(None);
                }
                match cut_off.as_mut().map(|cut_off| Pin::new(cut_off).poll(cx)) {
                    Some(Poll::Ready(())) => Poll::Ready(Some(Errand::ShutDown)),
                    _ => Poll::Pending,
                }
            });
            if let Some(errand) = errand.await {
                cut_off = cut_off.filter(|_| !matches!(errand, Errand::ShutDown));
                now = this.clock.now();
                this.run_errand(now, errand).await;
            }
        }
    }

    /// Deals with what comes from outside: the wire first, then modules, each in its turn. Ready once something did, at `now`.
    fn poll_wake(&mut self, cx: &mut Context<'_>, now: &mut Instant) -> Poll<Option<Errand>> {
        if let Some(socket) = &mut self.socket
            && let Poll::Ready(received) = socket.poll_recv(cx)
        {
            *now = self.clock.now();
            return Poll::Ready(match received {
                end @ (Some(Ok(Incoming::Close(_))) | None) => {
                    Some(Errand::Ended(code_of(end.as_ref())))
                }
                Some(Ok(incoming)) => {
                    if let Some(message) = socket.message(&incoming) {
                        self.session.handle_message(*now, message);
                    }
                    None
                }
                Some(Err(error)) => Some(Errand::Failed(error)),
            });
        }
        if let Some(entered) = &mut self.entered
            && let Poll::Ready(order) = entered.poll_order(cx)
        {
            return Poll::Ready(Some(Errand::Ordered(order)));
        }
        if let Some(reattach) = &mut self.reattach
            && let Poll::Ready(arrived) = reattach.poll_arrived(cx)
        {
            return Poll::Ready(Some(Errand::Reattached(arrived)));
        }
        if let Some(hanging_up) = &mut self.hanging_up
            && Pin::new(hanging_up).poll(cx).is_ready()
        {
            self.hanging_up = None;
            *now = self.clock.now();
            self.session.hung_up(*now);
            return Poll::Ready(None);
        }
        if let Some(lines) = &mut self.lines
            && let Poll::Ready(happened) = lines.poll_next(cx)
        {
            *now = self.clock.now();
            return Poll::Ready(self.handle_line(*now, happened));
        }
        for index in 0..self.hosts.len() {
            if let Host::Hosted { hosted, .. } = &mut self.hosts[index]
                && let Poll::Ready(event) = hosted.poll_recv(cx)
            {
                *now = self.clock.now();
                self.handle_host(*now, PortId(index), event);
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }

    async fn run_errand(&mut self, now: Instant, errand: Errand) {
        match errand {
            Errand::Ended(code) => {
                self.closed(now, Direction::In, code);
                if let Some(socket) = self.socket.take() {
                    socket.close(close_code::NORMAL, "").await;
                }
                self.session.handle_closed(now, Ok(()));
            }
            Errand::Failed(error) => self.socket_failed(now, &error).await,
            Errand::LineClosed(line, closed) => {
                if let Some(lines) = &mut self.lines {
                    lines.hang_up(line).await;
                }
                let told =
                    |closed: Closed| format!("closed with {} {}", closed.code, closed.reason);
                self.line_lost(now, line, &closed.map_or("closed".into(), told));
            }
            Errand::Ordered(order) => self.ordered(now, &order),
            Errand::Reattached(arrived) => self.reattached(now, *arrived).await,
            Errand::ShutDown => self.session.shut_down(now, LAST_WORDS),
        }
    }

    /// An operator wants something of the call.
    fn ordered(&mut self, now: Instant, order: &Order) {
        match order {
            Order::HangUp { by } => self.session.operator_hangs_up(now, by),
            Order::BeginPrivate { limit } => {
                self.session.begin_private(now, PrivateBy::Operator, *limit);
            }
            Order::EndPrivate => self.session.end_private(now, PrivateBy::Operator),
            Order::Consent(consent) => self.session.consent(now, None, consent),
        }
    }

    /// Finds out whose the stream is that has started.
    fn claim(&mut self, now: Instant) {
        let reattach = self.reattach.as_mut().zip(self.session.claiming());
        match reattach.map_or(Claim::Own, |(reattach, start)| reattach.claim(start)) {
            Claim::Own => self.session.begin_call(now),
            Claim::Other(permit) => {
                if let (Some(stream), Some(socket)) = (self.session.hand_over(), self.socket.take())
                {
                    let tape = self.tape.take();
                    permit.send(Box::new(Arrived { stream: *stream, socket, tape }));
                }
            }
            Claim::NoPlace => {
                METRICS.refused_overload.increment();
                tracing::debug!(call = self.name, "refused: of no call that is live, and no place");
                drop(self.session.hand_over());
                if let Some(socket) = self.socket.take() {
                    // There is no call that it could hold up.
                    tokio::spawn(socket.close(close_code::TRY_AGAIN, "no place for another call"));
                }
            }
        }
    }

    /// Another stream goes on with the call.
    async fn reattached(&mut self, now: Instant, arrived: Arrived) {
        let Arrived { stream, socket, tape } = arrived;
        tape.iter().for_each(|tape| tape.goes_on_with(&self.name));
        if !self.session.reattach(now, stream) {
            return socket.close(close_code::TRY_AGAIN, "the call has just ended").await;
        }
        self.note_waiting();
        if let Some(old) = self.socket.replace(socket) {
            self.closed(now, Direction::Out, close_code::POLICY);
            // Its farewell is not waited for: somebody speaks on the new one.
            tokio::spawn(old.close(close_code::POLICY, "replaced"));
        }
        self.tape = tape;
    }

    /// While it has no stream, one may come for which there is no place otherwise.
    fn note_waiting(&mut self) {
        let waits = self.session.is_detached();
        self.reattach.iter_mut().for_each(|reattach| reattach.wait(waits));
    }

    fn closed(&self, now: Instant, by: Direction, code: u16) {
        if let Some(tape) = &self.tape {
            tape.closed(now, by, code);
        }
    }

    fn handle_line(&mut self, now: Instant, happened: Happened) -> Option<Errand> {
        match happened {
            Happened::Posted(body) => self.session.handle_message(now, Message::Text(&body)),
            Happened::Opened(line) => self.session.handle_line(now, line, LineEvent::Opened),
            Happened::Came(line, Incoming::Close(closed)) => {
                return Some(Errand::LineClosed(line, closed));
            }
            Happened::Came(line, incoming) => {
                let message = self.lines.as_ref().and_then(|lines| lines.message(line, &incoming));
                if let Some(message) = message {
                    self.session.handle_line(now, line, LineEvent::Message(message));
                }
            }
            Happened::Lost(line, reason) => self.line_lost(now, line, &reason),
        }
        None
    }

    fn line_lost(&mut self, now: Instant, line: Line, reason: &str) {
        // Whether it matters is for the protocol to say, by a notice; many a line is lost because the call is over.
        let (line_name, why) = (line.name(), PeerText(reason));
        tracing::debug!(call = self.name, line = line_name, reason = %why, "a line is not there");
        self.session.handle_line(now, line, LineEvent::Lost { reason });
    }

    async fn socket_failed(&mut self, now: Instant, error: &SocketError) {
        match error.close_code() {
            Some(code) => self.closed(now, Direction::Out, code),
            None => self.closed(now, Direction::In, CUT),
        }
        // A line that is down cannot be told anything; dropping it is all there is.
        if let (Some(socket), Some(code)) = (self.socket.take(), error.close_code()) {
            socket.close(code, &error.to_string()).await;
        }
        self.watchers.see(&self.name, now, &Seen::SocketFailed(error));
        if error.is_loss() && self.reattach.as_ref().is_some_and(|reattach| reattach.is_open()) {
            self.session.handle_lost(now, error.to_string());
            self.note_waiting();
        } else {
            self.session.handle_closed(now, Err(error.to_string()));
        }
    }

    /// What came of a module counts for other calls, as long as this one wants it.
    fn note_trial(&mut self, now: Instant, port: PortId, event: &FromHost) {
        let is_over = self.session.is_over();
        let Some(Host::Hosted { trial: Some(trial), .. }) = self.hosts.get_mut(port.0) else {
            return;
        };
        match event {
            _ if is_over => trial.excused(now),
            FromHost::Ready(_) => trial.ready(now),
            FromHost::Restarting { busy: true, .. } | FromHost::Rejected(_) => trial.excused(now),
            FromHost::Restarting { reason, .. } | FromHost::Gone { reason: Some(reason) } => {
                trial.failed(now, reason);
            }
            _ => {}
        }
    }

    /// The session lets a module go that broke it, or that did not end with it.
    fn drop_module(&mut self, now: Instant, port: PortId) {
        if let Some(mut trial) = self.let_go(port)
            && !self.session.is_over()
        {
            trial.failed(now, "its session had to be given up");
        }
    }

    fn handle_host(&mut self, now: Instant, port: PortId, event: FromHost) {
        if !matches!(event, FromHost::Audio { .. } | FromHost::Frame { .. } | FromHost::Message(_))
        {
            self.note_trial(now, port, &event);
        }
        match event {
            FromHost::Ready(ready) => self.session.module_ready(now, port, &ready),
            FromHost::Rejected(reject) => self.session.module_rejected(now, port, &reject),
            FromHost::Message(message) => self.session.module_message(now, port, &message),
            FromHost::Audio { epoch, samples } => {
                let epoch = epoch.map_or(Epoch::Unnumbered, Epoch::Numbered);
                self.session.module_audio(now, port, epoch, &samples);
            }
            FromHost::Frame { pts, samples } => {
                self.session.filter_audio(now, port, pts, &samples);
            }
            FromHost::Dropped { reason, samples } => {
                self.session.module_dropped(now, port, reason, samples);
            }
            FromHost::Restarting { reason, .. } => {
                if let Some(Host::Hosted { backlog, .. }) = self.hosts.get_mut(port.0) {
                    backlog.clear();
                }
                self.session.module_down(now, port, &reason);
            }
            FromHost::NeedStart => self.session.restart_module(now, port),
            FromHost::Writable => {
                self.feed_hosted(port);
                self.session.module_reads(now, port);
            }
            FromHost::Gone { reason } => {
                self.let_go(port);
                self.session.module_gone(now, port, reason);
            }
        }
    }

    /// Carries out what the session wants and moves sound to modules, until neither has anything left.
    fn pump(&mut self, now: Instant) {
        self.perform_all(now);
        loop {
            let mut busy = false;
            for port in 0..self.hosts.len() {
                busy |= self.feed(now, PortId(port));
            }
            // That a module has missed too much is seen when it reads, and may be the end of the call.
            busy |= self.perform_all(now);
            if !busy {
                return;
            }
        }
    }

    fn perform_all(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(action) = self.session.poll_action() {
            self.perform(now, action);
            any = true;
        }
        any
    }

    fn perform(&mut self, now: Instant, action: Action) {
        match action {
            Action::Claim => self.claim(now),
            Action::Routed { ports, sources } => {
                self.hosts.resize_with(ports, || Host::None);
                self.sources.keep(&sources);
            }
            Action::StartModule { port, source, start } => {
                self.start_module(now, port, source, *start);
            }
            Action::TellModule { port, message } => self.tell(now, port, message),
            Action::StopModule { port, reason, deadline } => {
                self.stop_module(now, port, reason, deadline);
            }
            Action::DropModule { port } => self.drop_module(now, port),
            Action::HangUp => {
                let hangup = self.hangup.as_ref();
                self.hanging_up =
                    hangup.map(|hangup| hangup.begin(&self.name, self.session.provider_call()));
            }
            Action::Report(report) => {
                let seen = Seen::Report { report: &report, session: &self.session };
                self.watchers.see(&self.name, now, &seen);
            }
            Action::Ended(summary) => {
                self.watchers.see(&self.name, now, &Seen::Ended(&summary));
                self.summary = Some(summary);
            }
            _ => {}
        }
    }

    fn start_module(
        &mut self,
        now: Instant,
        port: PortId,
        source: usize,
        mut start: ringback_module::message::Start,
    ) {
        let Some(source) = self.sources.get(source) else { return };
        start.limits.ready_ms = source.ready_ms;
        if let Host::Hosted { hosted, .. } = &self.hosts[port.0] {
            // The host kept itself alive over a crash and asked for this.
            if hosted.try_send(ToHost::Start(Box::new(start))).is_err() {
                self.session.module_gone(now, port, Some("its queue is full at start".into()));
            }
            return;
        }
        match &source.place {
            Place::Inline(make) => {
                let budget = source.budget;
                let mut inline = Box::new(Inline::new(make(), self.clock, budget));
                let answer = inline.start(&start);
                self.hosts[port.0] = Host::Inline(inline);
                match answer {
                    Ok(ready) => self.session.module_ready(now, port, &ready),
                    Err(reject) => self.session.module_rejected(now, port, &reject),
                }
            }
            place => {
                let trial = match source.breaker.as_ref().map(|breaker| breaker.begin(now)) {
                    Some(Err(why)) => return self.session.module_gone(now, port, Some(why)),
                    trial => trial.and_then(Result::ok).map(Box::new),
                };
                let Some(hosted) = place.spawn(start) else { return };
                let (hosted, backlog) = (Box::new(hosted), VecDeque::new());
                self.hosts[port.0] = Host::Hosted { hosted, stopping: None, backlog, trial };
            }
        }
    }

    fn tell(&mut self, now: Instant, port: PortId, message: ToModule) {
        match &mut self.hosts[port.0] {
            Host::Inline(inline) => {
                let failed = inline.tell(&message).err();
                self.take_outputs(now, port, failed);
            }
            // One that does not read is found and restarted by its host; until then no more is kept for it than this.
            Host::Hosted { backlog, .. } if backlog.len() >= MAX_BACKLOG => {
                self.session.message_refused(now, port, &message);
            }
            Host::Hosted { hosted, backlog, .. } => {
                offer(hosted, backlog, ToHost::Message(message));
            }
            Host::None => {}
        }
    }

    fn stop_module(&mut self, now: Instant, port: PortId, reason: StopReason, deadline: Duration) {
        match &mut self.hosts[port.0] {
            Host::Inline(_) => {
                while self.feed(now, port) {}
                if let Host::Inline(inline) = &mut self.hosts[port.0] {
                    let failed = inline.stop(reason).err();
                    self.take_outputs(now, port, failed);
                    self.hosts[port.0] = Host::None;
                    self.session.module_gone(now, port, None);
                }
            }
            Host::Hosted { stopping, .. } => *stopping = Some((reason, deadline)),
            Host::None => self.session.module_gone(now, port, None),
        }
    }

    /// Gives a module the sound it may have; says whether there was any.
    fn feed(&mut self, now: Instant, port: PortId) -> bool {
        match self.hosts[port.0] {
            Host::Inline(_) => self.feed_inline(now, port),
            Host::Hosted { .. } => self.feed_hosted(port),
            Host::None => false,
        }
    }

    fn feed_inline(&mut self, now: Instant, port: PortId) -> bool {
        let mut frame = FrameBuf::default();
        for fed in 0..BURST {
            let Some(given) = self.session.next_frame(port, &mut frame) else {
                return fed > 0;
            };
            let Host::Inline(inline) = &mut self.hosts[port.0] else { return false };
            let heard = match given {
                Given::Sound(frame) => {
                    let heard = inline.hear(frame);
                    if inline.is_slow() {
                        self.session.module_overran(port);
                    }
                    heard
                }
                Given::Gap(gap) => inline.tell(&gap),
            };
            self.take_outputs(now, port, heard.err());
        }
        true
    }

    fn take_outputs(&mut self, now: Instant, port: PortId, failed: Option<String>) {
        let Host::Inline(inline) = &mut self.hosts[port.0] else { return };
        inline.drain(|output| match output {
            ringback_module::Output::Audio(samples) if self.session.is_filter(port) => {
                self.session.filter_audio(now, port, None, samples);
            }
            ringback_module::Output::Audio(samples) => {
                self.session.module_audio(now, port, Epoch::Current, samples);
            }
            ringback_module::Output::Message(message) => {
                self.session.module_message(now, port, message);
            }
        });
        if let Some(reason) = failed {
            self.hosts[port.0] = Host::None;
            self.session.module_gone(now, port, Some(reason));
        }
    }

    fn feed_hosted(&mut self, port: PortId) -> bool {
        let Host::Hosted { hosted, stopping, backlog, .. } = &mut self.hosts[port.0] else {
            return false;
        };
        let mut fed = false;
        while let Some(item) = backlog.pop_front() {
            if let Err(item) = hosted.try_send(item) {
                backlog.push_front(item);
                return fed | self.leave(port);
            }
            fed = true;
        }
        let mut frame = FrameBuf::default();
        for _ in 0..BURST {
            let Some(given) = self.session.next_frame(port, &mut frame) else {
                if let Some((reason, deadline)) = stopping.take() {
                    offer(hosted, backlog, ToHost::Stop { reason, deadline });
                }
                return fed;
            };
            fed = true;
            if let Err(item) = hosted.try_send(owned(given)) {
                backlog.push_back(item);
                self.leave(port);
                return true;
            }
        }
        fed
    }

    /// Sends what the session has for the wire.
    async fn transmit(&mut self, shutdown: &Shutdown) {
        while self.lines.is_some() && !self.session.sends().sends().is_empty() {
            self.transmit_lines().await;
        }
        if self.session.sends().sends().is_empty() {
            return;
        }
        let outcome = match &mut self.socket {
            Some(socket) => {
                sending::send_all(self.clock, socket, self.session.sends(), shutdown).await
            }
            None => Ok(None),
        };
        match outcome {
            Ok(close) => {
                self.session.sent(self.socket.is_some());
                if let Some(code) = close
                    && let Some(socket) = self.socket.take()
                {
                    self.closed(self.clock.now(), Direction::Out, code);
                    socket.close(code, self.session.close_reason()).await;
                }
            }
            Err(error) => {
                self.session.sent(false);
                let now = self.clock.now();
                self.socket_failed(now, &error).await;
                self.pump(now);
                self.session.sent(false);
            }
        }
    }
}

/// The code of an end of the other side's.
fn code_of(end: Option<&Result<Incoming, SocketError>>) -> u16 {
    match end {
        Some(Ok(Incoming::Close(closed))) => closed.as_ref().map_or(NO_CODE, |closed| closed.code),
        _ => CUT,
    }
}

impl Call {
    /// Dials, sends and closes as the session wants it, where there are lines.
    async fn transmit_lines(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        let (mut close, mut lost) = (None, None);
        let outbox = self.session.sends();
        for send in outbox.sends() {
            match send {
                WireSend::Dial(line, url) => lines.dial(*line, outbox.text_of(url)),
                WireSend::TextOn(line, span) => {
                    let fed = lines.feed(*line, outbox.octets(span));
                    lost = lost.or(fed.err().map(|error| (*line, error)));
                }
                WireSend::Close(code) => close = close.or(Some(*code)),
                // Nothing goes back the way that is posted.
                WireSend::Text(_) | WireSend::Binary(_) | WireSend::Drop(_) => {}
            }
        }
        for line in Line::ALL {
            if let Err(error) = lines.flush(line).await {
                lost = lost.or(Some((line, error)));
            }
        }
        self.session.sent(true);
        if let Some(code) = close {
            if let Some(lines) = self.lines.take() {
                self.closed(self.clock.now(), Direction::Out, code);
                lines.close(code, self.session.close_reason()).await;
            }
        } else if let Some((line, error)) = lost {
            lines.hang_up(line).await;
            let now = self.clock.now();
            self.line_lost(now, line, &error.to_string());
            self.pump(now);
        }
    }
}

/// Sends now, or keeps it in order for later.
fn offer(hosted: &Hosted, backlog: &mut VecDeque<ToHost>, item: ToHost) {
    if !backlog.is_empty() {
        backlog.push_back(item);
    } else if let Err(item) = hosted.try_send(item) {
        backlog.push_back(item);
    }
}

fn owned(given: Given<'_>) -> ToHost {
    match given {
        Given::Gap(gap) => ToHost::Message(gap),
        Given::Sound(AudioFrame { track, rate, pts, flags, samples }) => {
            ToHost::Audio { track, pts, rate, flags, samples: samples.to_vec() }
        }
    }
}

#[cfg(test)]
mod tests;
