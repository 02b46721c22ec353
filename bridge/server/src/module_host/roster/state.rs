//! What is known of the workers of a module: places, load, connections that wait. Told the time; opens, reads and awaits nothing.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_module::message::{Load, Register};
use ringback_proto::provider::Secret;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::RosterConfig;
use crate::socket::Socket;

/// Idle connections that are kept with a worker that has places left.
const SPARE: usize = 2;
/// A ticket opens a connection within this.
pub(super) const TICKET_LIFE: Duration = Duration::from_secs(10);
/// A worker that let a session down is taken after all others for so long.
const MISTRUST: Duration = Duration::from_secs(10);
/// A worker whose idle connections do not last is asked for more no sooner than this.
const SPARE_PAUSE: Duration = Duration::from_secs(1);

/// A connection for a session, as it is handed over. Who opened it waits until this is dropped.
pub(crate) struct Line {
    pub(crate) socket: Socket,
    pub(crate) in_use: oneshot::Sender<Infallible>,
}

/// Where a session waits for its connection.
pub(super) type Handover = oneshot::Sender<Line>;

/// What the connection on which a worker registered is to say.
#[derive(Debug)]
pub(super) enum Order {
    Open { ticket: String },
}

/// Who dials in, as its registration and its connection tell.
pub(super) struct Newcomer {
    /// Of its token.
    pub(super) token: String,
    pub(super) secret: Option<Secret>,
    pub(super) peer: SocketAddr,
    pub(super) register: Register,
    pub(super) orders: mpsc::Sender<Order>,
}

pub(super) struct Worker {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    secret: Option<Secret>,
    pub(super) peer: SocketAddr,
    pub(super) module: String,
    pub(super) version: String,
    pub(super) max_sessions: usize,
    /// Sessions that we gave it and that have not ended.
    pub(super) sessions: usize,
    /// Sessions that it has from elsewhere.
    pub(super) elsewhere: usize,
    /// As it reported it.
    pub(super) load: Option<f64>,
    /// Sessions begun since its last report.
    unreported: usize,
    pub(super) is_leaving: bool,
    /// It said that it is busy until then.
    busy_until: Option<Instant>,
    let_down: Option<Instant>,
    last_turn: u64,
    orders: mpsc::Sender<Order>,
    idle: VecDeque<oneshot::Sender<Handover>>,
    hungry: VecDeque<Handover>,
    /// Connections that it was asked for and that have not come.
    opening: usize,
    spares_from: Option<Instant>,
}

impl Worker {
    pub(super) fn in_use(&self) -> usize {
        self.sessions + self.elsewhere
    }

    pub(super) fn idle_connections(&self) -> usize {
        self.idle.iter().filter(|idle| !idle.is_closed()).count()
    }

    fn has_place(&self, now: Instant) -> bool {
        let busy = self.busy_until.is_some_and(|until| until > now);
        !self.is_leaving && !busy && self.in_use() < self.max_sessions
    }

    /// How busy it is by now: a report is as old as the sessions that were begun since.
    fn load_now(&self) -> f64 {
        let share = |sessions: usize| sessions as f64 / self.max_sessions as f64;
        self.load.map_or_else(|| share(self.in_use()), |load| load + share(self.unreported))
    }

    fn is_mistrusted(&self, now: Instant) -> bool {
        self.let_down.is_some_and(|at| now.saturating_duration_since(at) < MISTRUST)
    }

    /// Less is better.
    fn is_before(&self, other: &Self, now: Instant) -> bool {
        let share = |worker: &Self| worker.in_use() as f64 / worker.max_sessions as f64;
        let order = self.is_mistrusted(now).cmp(&other.is_mistrusted(now));
        let order = order.then(self.load_now().total_cmp(&other.load_now()));
        let order = order.then(share(self).total_cmp(&share(other)));
        order.then(self.last_turn.cmp(&other.last_turn)).is_lt()
    }
}

struct Ticket {
    worker: u64,
    expires: Instant,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) config: RosterConfig,
    pub(super) workers: Vec<Worker>,
    tickets: HashMap<String, Ticket>,
    /// Sessions that wait for a place; what they get is the worker's id.
    pub(super) waiting: VecDeque<oneshot::Sender<super::Lease>>,
    turn: u64,
    born: u64,
}

impl State {
    pub(super) fn worker(&mut self, id: u64) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.id == id)
    }

    /// Takes a worker in; it is given sessions from now on.
    pub(super) fn enter(&mut self, newcomer: Newcomer) -> Result<(u64, Arc<str>), String> {
        let most = self.config.max_workers;
        if self.workers.len() >= most {
            return Err(format!("{most} workers are here already (`max_workers`)"));
        }
        self.born += 1;
        let Newcomer { token, secret, peer, register, orders } = newcomer;
        let name: Arc<str> = format!("{token}#{}", self.born).into();
        self.workers.push(Worker {
            id: self.born,
            name: Arc::clone(&name),
            secret,
            peer,
            module: register.module,
            version: register.version,
            max_sessions: register.max_sessions.max(1) as usize,
            sessions: 0,
            elsewhere: 0,
            load: None,
            unreported: 0,
            is_leaving: false,
            busy_until: None,
            let_down: None,
            last_turn: 0,
            orders,
            idle: VecDeque::new(),
            hungry: VecDeque::new(),
            opening: 0,
            spares_from: None,
        });
        Ok((self.born, name))
    }

    /// Its connection is gone: no more sessions, no more connections; those in use go on.
    pub(super) fn leave(&mut self, id: u64) -> Option<Worker> {
        self.tickets.retain(|_, ticket| ticket.worker != id);
        let index = self.workers.iter().position(|worker| worker.id == id)?;
        Some(self.workers.remove(index))
    }

    /// Those whose token does not open any more.
    pub(super) fn locked_out(&self) -> Vec<u64> {
        let opens = |worker: &Worker| match &worker.secret {
            None => self.config.tokens.is_empty(),
            Some(secret) => self.config.tokens.iter().any(|(_, token)| token == secret),
        };
        self.workers.iter().filter(|worker| !opens(worker)).map(|worker| worker.id).collect()
    }

    pub(super) fn report(&mut self, id: u64, report: &Load) {
        let Some(worker) = self.worker(id) else { return };
        worker.load = report.load.filter(|load| load.is_finite()).map(|load| load.clamp(0.0, 1.0));
        worker.unreported = 0;
        worker.busy_until = None;
        if let Some(sessions) = report.sessions {
            worker.elsewhere = (sessions as usize).saturating_sub(worker.sessions);
        }
    }

    /// No more sessions, and its idle connections are let go.
    pub(super) fn is_leaving(&mut self, id: u64) {
        if let Some(worker) = self.worker(id) {
            worker.is_leaving = true;
            worker.idle.clear();
            // Those who wait for one of its connections ask another worker.
            worker.hungry.clear();
        }
    }

    /// A place with the worker that is least busy, counted as taken.
    pub(super) fn take_place(&mut self, now: Instant) -> Option<(u64, Arc<str>)> {
        self.turn += 1;
        let turn = self.turn;
        let with_place = self.workers.iter_mut().filter(|worker| worker.has_place(now));
        let least = with_place
            .reduce(|least, next| if next.is_before(least, now) { next } else { least })?;
        least.sessions += 1;
        least.unreported += 1;
        least.last_turn = turn;
        Some((least.id, Arc::clone(&least.name)))
    }

    pub(super) fn give_back(&mut self, id: u64) {
        if let Some(worker) = self.worker(id) {
            worker.sessions = worker.sessions.saturating_sub(1);
        }
    }

    /// Whether a worker beside this one has a place.
    pub(super) fn has_other(&self, id: u64, now: Instant) -> bool {
        self.workers.iter().any(|worker| worker.id != id && worker.has_place(now))
    }

    /// When one that said it is busy may be asked again.
    pub(super) fn next_chance(&self, now: Instant) -> Option<Instant> {
        self.workers.iter().filter_map(|worker| worker.busy_until).filter(|&at| at > now).min()
    }

    /// It refused a session for now.
    pub(super) fn refused(&mut self, id: u64, until: Instant) {
        if let Some(worker) = self.worker(id) {
            worker.busy_until = Some(until);
        }
    }

    /// It did not take a session up, or broke.
    pub(super) fn let_down(&mut self, id: u64, now: Instant) {
        if let Some(worker) = self.worker(id) {
            worker.let_down = Some(now);
        }
    }

    /// Asks for a connection; what comes is handed over by `handover`. False if the worker is gone, or leaves.
    pub(super) fn want_line(&mut self, id: u64, mut handover: Handover, now: Instant) -> bool {
        let Some(worker) = self.worker(id).filter(|worker| !worker.is_leaving) else {
            return false;
        };
        while let Some(idle) = worker.idle.pop_front() {
            match idle.send(handover) {
                Ok(()) => {
                    self.top_up(id, now);
                    return true;
                }
                // It was cut and nobody noticed yet.
                Err(back) => handover = back,
            }
        }
        worker.hungry.push_back(handover);
        self.top_up(id, now);
        true
    }

    /// A connection came and waits to be taken; `None` if its worker is gone or leaves.
    pub(super) fn offer_line(&mut self, id: u64) -> Option<oneshot::Receiver<Handover>> {
        let worker = self.worker(id)?;
        if worker.is_leaving {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        worker.hungry.retain(|handover| !handover.is_closed());
        match worker.hungry.pop_front() {
            // The receiver is in this function.
            Some(handover) => drop(sender.send(handover)),
            None => worker.idle.push_back(sender),
        }
        Some(receiver)
    }

    /// An idle connection was cut, though nobody took it.
    pub(super) fn lost_line(&mut self, id: u64, now: Instant) {
        if let Some(worker) = self.worker(id) {
            worker.spares_from = Some(now + SPARE_PAUSE);
        }
    }

    /// Uses a ticket up: whose it is.
    pub(super) fn redeem(&mut self, ticket: &str, now: Instant) -> Option<u64> {
        let Ticket { worker, expires } = self.tickets.remove(ticket)?;
        let is_good = expires > now;
        if !is_good {
            self.came(worker);
        }
        is_good.then_some(worker)
    }

    /// A connection that was asked for came, or does not.
    pub(super) fn came(&mut self, id: u64) {
        if let Some(worker) = self.worker(id) {
            worker.opening = worker.opening.saturating_sub(1);
        }
    }

    /// Asks for as many connections as there are sessions that wait for one, and some to spare.
    pub(super) fn top_up(&mut self, id: u64, now: Instant) {
        let expired: Vec<_> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| ticket.worker == id && ticket.expires <= now)
            .map(|(text, _)| text.clone())
            .collect();
        for ticket in expired {
            self.tickets.remove(&ticket);
            self.came(id);
        }
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) else { return };
        worker.idle.retain(|idle| !idle.is_closed());
        worker.hungry.retain(|handover| !handover.is_closed());
        let rests = worker.is_leaving || worker.spares_from.is_some_and(|from| from > now);
        let places = worker.max_sessions.saturating_sub(worker.in_use());
        let spare = if rests { 0 } else { SPARE.min(places) };
        while worker.idle.len() + worker.opening < worker.hungry.len() + spare {
            let Some(ticket) = random_name() else { return };
            let order = Order::Open { ticket: ticket.clone() };
            // Full: it takes nothing, which its connection will find out.
            if worker.orders.try_send(order).is_err() {
                return;
            }
            worker.opening += 1;
            self.tickets.insert(ticket, Ticket { worker: id, expires: now + TICKET_LIFE });
        }
    }
}

/// Something that nobody can guess; nothing if the system has no random numbers.
fn random_name() -> Option<String> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).ok()?;
    Some(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}
