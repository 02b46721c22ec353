//! The file of a recording that is being made: a WAV, or sealed. Knows no names of files but that of what is told beside a WAV.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::about::About;
use crate::vault::{self, Keys, Sealer};
use crate::wav::{self, HEADER};

/// A file, and what is in it.
pub(crate) struct Body {
    file: File,
    form: Form,
    rate: u32,
    /// Frames in the file.
    written: u64,
    /// Frames that are on disk, and of which it tells.
    saved: u64,
}

/// A file that was to be gone on with.
pub(crate) enum Resumed {
    /// It can be; what was known of it, if it has that in it.
    Good(Box<Body>, Option<About>),
    /// There is sound behind a damage.
    Damaged {
        /// It is owned until this is dropped.
        file: File,
        /// Where the damage begins, in octets.
        at: u64,
        /// What was known of it before that.
        about: Option<About>,
    },
}

/// How sound stands in it.
enum Form {
    Wav,
    Sealed(Box<Sealer>),
}

impl Body {
    /// Begins a file that is empty.
    pub(crate) fn begin(mut file: File, rate: u32, keys: Option<&Keys>) -> io::Result<Self> {
        let form = match keys {
            None => Form::Wav,
            Some(keys) => Form::Sealed(Box::new(Sealer::begin(&mut file, rate, keys)?)),
        };
        let mut body = Self { file, form, rate, written: 0, saved: 0 };
        body.tell_length()?;
        Ok(body)
    }

    /// Goes on with a file that was begun in the same form. What is damaged at its end is cut off; where more than one whole chunk
    /// stands behind a damage it stays as it is, as it does when it is repaired.
    pub(crate) fn resume(mut file: File, rate: u32, keys: Option<&Keys>) -> io::Result<Resumed> {
        let (form, found, frames, about) = match keys {
            None => {
                let mut header = [0; HEADER as usize];
                let found = file.read_exact(&mut header).ok().and_then(|()| wav::rate_of(&header));
                (Form::Wav, found, wav::frames_in(file.metadata()?.len()), None)
            }
            Some(keys) => {
                let reader = vault::Reader::open(io::BufReader::new(&file), keys);
                let (sealer, contents, good) =
                    reader.and_then(vault::Reader::resume).map_err(io::Error::other)?;
                if vault::more_behind(&mut file, good)? {
                    return Ok(Resumed::Damaged { file, at: good, about: contents.about });
                }
                let (rate, frames) = (contents.rate, contents.frames);
                (Form::Sealed(Box::new(sealer)), Some(rate), frames, contents.about)
            }
        };
        if found != Some(rate) {
            return Err(io::Error::other(format!(
                "what is there is no recording of two channels at {rate} Hz"
            )));
        }
        let mut body = Self { file, form, rate, written: frames, saved: frames };
        body.cut()?;
        Ok(Resumed::Good(Box::new(body), about))
    }

    /// Frames in the file.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Frames that a reader of the file finds.
    pub(crate) const fn saved(&self) -> u64 {
        self.saved
    }

    /// Appends interleaved samples as octets, all or nothing.
    pub(crate) fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.form {
            Form::Sealed(sealer) => sealer.sound(&mut self.file, octets)?,
            Form::Wav => {
                if let Err(error) = self.file.write_all(octets) {
                    let _ = self.cut();
                    return Err(error);
                }
            }
        }
        self.written += octets.len() as u64 / wav::FRAME;
        Ok(())
    }

    /// Silence up to that frame, which takes next to no room.
    pub(crate) fn be_silent_until(&mut self, frame: u64) -> io::Result<()> {
        let before = std::mem::replace(&mut self.written, frame);
        let done = match &mut self.form {
            Form::Wav => self.cut(),
            Form::Sealed(sealer) => sealer.silence(&mut self.file, frame - before),
        };
        done.inspect_err(|_| {
            self.written = before;
            let _ = self.cut();
        })
    }

    /// Has all of it on disk, if that is wanted.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Tells of all that is written.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.saved = self.written;
        if let Form::Sealed(sealer) = &mut self.form {
            sealer.settle();
        }
        self.tell_length()
    }

    /// Keeps what is known of it.
    pub(crate) fn tell(&mut self, about: Option<&About>, of: &Path) -> io::Result<()> {
        let Some(about) = about else { return Ok(()) };
        match &mut self.form {
            Form::Wav => about.write(of),
            Form::Sealed(sealer) => {
                sealer.about(&mut self.file, &serde_json::to_vec(about)?, false)
            }
        }
    }

    /// Ends it, on disk. What is not known to be there is not told of.
    pub(crate) fn end(&mut self, about: Option<&About>, of: &Path) -> io::Result<()> {
        match &mut self.form {
            Form::Wav => {
                self.tell_length()?;
                self.file.sync_all()?;
                self.tell(about, of)
            }
            Form::Sealed(sealer) => {
                let json = about.map(serde_json::to_vec).transpose()?.unwrap_or_default();
                if self.written != self.saved {
                    sealer.take_back(&mut self.file)?;
                }
                sealer.about(&mut self.file, &json, true)?;
                self.file.sync_all()
            }
        }
    }

    /// Leaves nothing behind what is written whole.
    fn cut(&mut self) -> io::Result<()> {
        if let Form::Sealed(sealer) = &self.form {
            return sealer.cut(&mut self.file);
        }
        let end = wav::offset(self.written);
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end)).map(drop)
    }

    fn tell_length(&mut self) -> io::Result<()> {
        if let Form::Sealed(_) = self.form {
            return Ok(());
        }
        let header = wav::header(self.rate, self.saved);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.seek(SeekFrom::Start(wav::offset(self.written))).map(drop)
    }

    /// What the end of a process does.
    #[cfg(all(test, unix))]
    pub(crate) fn let_go(&self) {
        rustix::fs::flock(&self.file, rustix::fs::FlockOperation::Unlock).expect("it was locked");
    }
}
