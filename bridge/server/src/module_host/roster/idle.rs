//! A connection that a worker opened for a session, until a session takes it. Says nothing on it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::talk::BREACH;
use super::Roster;
use super::state::{Handover, Line};
use crate::socket::{Incoming, Socket, close_code};

/// That a connection was asked for and has not come. Dropped when it has, or does not.
pub(super) struct Coming {
    pub(super) roster: Arc<Roster>,
    pub(super) worker: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.roster.state().came(self.worker);
        self.roster.stir(self.worker);
    }
}

/// Why a connection is not idle any more.
enum Turn {
    Taken(Handover),
    /// Its worker is gone or leaves, or the bridge ends.
    NotNeeded(&'static str),
    /// The worker said something, though it is the bridge that begins.
    Spoke,
    Gone,
}

/// Keeps the connection until a session takes it, and then until the session is over.
pub(super) async fn wait(coming: Coming, mut socket: Socket) {
    let (roster, worker) = (Arc::clone(&coming.roster), coming.worker);
    let mut offered = roster.state().offer_line(worker);
    drop(coming);
    loop {
        let Some(claim) = offered else {
            return socket.close(close_code::GOING_AWAY, "the worker is gone").await;
        };
        match idle(&roster, &mut socket, claim).await {
            Turn::Taken(handover) => {
                let (in_use, over) = oneshot::channel();
                match handover.send(Line { socket, in_use }) {
                    Ok(()) => {
                        // Ends with the session.
                        let _ = over.await;
                        return;
                    }
                    Err(line) => socket = line.socket,
                }
            }
            Turn::NotNeeded(why) => return socket.close(close_code::GOING_AWAY, why).await,
            Turn::Spoke => {
                roster.state().lost_line(worker, Instant::now());
                roster.stir(worker);
                return socket.close(BREACH, "nothing is said before `start`").await;
            }
            Turn::Gone => {
                roster.state().lost_line(worker, Instant::now());
                roster.stir(worker);
                return socket.close(close_code::NORMAL, "").await;
            }
        }
        offered = roster.state().offer_line(worker);
    }
}

async fn idle(
    roster: &Roster,
    socket: &mut Socket,
    mut claim: oneshot::Receiver<Handover>,
) -> Turn {
    loop {
        tokio::select! {
            biased;
            taken = &mut claim => return match taken {
                Ok(handover) => Turn::Taken(handover),
                Err(_) => Turn::NotNeeded("the worker is gone, or leaves"),
            },
            came = socket.recv() => match came {
                Some(Ok(Incoming::Ping | Incoming::Pong)) => {}
                Some(Ok(Incoming::Message(_))) => return Turn::Spoke,
                Some(Ok(Incoming::Close(_)) | Err(_)) | None => return Turn::Gone,
            },
            () = roster.shutdown.finished() => return Turn::NotNeeded("the bridge ends"),
        }
    }
}
