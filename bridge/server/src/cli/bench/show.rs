//! The progress bar of `ringback bench`, on standard error so that it never stands among results.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar; programs that read JSON get none.
pub(in crate::cli) struct Bar(ProgressBar);

impl Bar {
    pub(in crate::cli) fn new(hidden: bool, message: &str) -> Self {
        let target =
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(1_000), target);
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent:>3} %");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_message(message.to_owned());
        Self(bar)
    }

    /// So much of it is done, 0 to 1, and this is being done.
    pub(in crate::cli) fn at(&self, share: f64, what: Option<&str>) {
        self.0.set_position((share * 1_000.0) as u64);
        if let Some(what) = what {
            self.0.set_message(what.to_owned());
        }
    }

    pub(in crate::cli) fn done(self) {
        self.0.finish_and_clear();
    }
}
