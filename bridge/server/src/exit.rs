//! Exit codes of the binary, after BSD's sysexits so that supervisors and scripts can tell the causes apart. Exits nothing.

use std::process::ExitCode;

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well, draining included.
    Ok,
    /// The work was done and the answer is no: a check failed, a call was lost.
    Failure,
    /// The command line or the configuration is wrong; restarting does not help (`EX_USAGE`).
    Usage,
    /// Something needed is not there, such as the address to listen on; restarting may help (`EX_UNAVAILABLE`).
    Unavailable,
    /// A fault of this program (`EX_SOFTWARE`).
    Internal,
}

impl Exit {
    /// The number the parent process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Internal => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
