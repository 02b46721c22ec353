//! `ringback audit`: says whether an audit log is whole, and where it is not. Writes nothing.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::screen;
use crate::audit::{self, Break, Head};
use crate::exit::Exit;

/// Options of `ringback audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read a whole audit log and say where it ends, or where it breaks first.
    ///
    /// Every line has the hash of the line before it, so that what was changed, removed or put in shows at the line after. What follows
    /// the last line nobody can know: remember the head that this prints, elsewhere, and name it the next time; then it shows as well
    /// that the end was cut off or all was made anew.
    Verify {
        /// The log.
        file: PathBuf,
        /// A head that was printed before, which must still be in it: its hash.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

pub(super) fn run(args: &Args) -> Exit {
    let What::Verify { file, head } = &args.what;
    match verify(file, head.as_deref()) {
        Ok(Ok(Head { seq, hash })) => {
            screen::line(format!("{}: {seq} entries, the chain is whole", file.display()));
            screen::line(format!("head {hash}"));
            Exit::Ok
        }
        Ok(Err(Break { line, what })) => {
            screen::failed(Exit::Failure, format!("{}:{line}: {what}", file.display()))
        }
        Err(error) => screen::failed(Exit::Unavailable, format!("{}: {error}", file.display())),
    }
}

fn verify(file: &Path, head: Option<&str>) -> std::io::Result<Result<Head, Break>> {
    Ok(audit::verify(BufReader::new(File::open(file)?), head))
}
