//! Where recordings are, of builtin recorders and of others, and what is done with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ringback_recorder::{Place, Settings};
use toml::Spanned;

use super::super::raw::{self, At};
use super::super::{Builtin, ModuleConfig, ModuleRun, RecordingsConfig};
use super::Checker;
use crate::sink::{SinkConfig, SinkKind};

/// Recordings are kept at least so long: a shorter time is a slip.
const SHORTEST_KEPT: Duration = Duration::from_secs(60 * 60);

impl Checker<'_> {
    /// A builtin module's own settings, where it is known what they may be.
    pub(super) fn settings_of_builtin(
        &mut self,
        table: &Spanned<raw::Module>,
        run: &ModuleRun,
        config: &serde_json::Value,
    ) {
        if *run == ModuleRun::Builtin(Builtin::Recorder)
            && let Err(problem) = ringback_recorder::check(config, self.context.variable)
        {
            self.problem(table.span(), format!("`config`: {problem}"));
        }
    }

    /// How long recordings are kept, if that is said.
    fn kept_for(&mut self, at: Option<&At<raw::TimeSpan>>) -> Option<Duration> {
        let (span, keep) = at.map(|at| (at.span(), at.get_ref().0))?;
        if keep < SHORTEST_KEPT {
            let why =
                "expected at least \"1h\", such as \"30d\": what is younger may still be needed";
            self.problem(span, why);
        }
        Some(keep)
    }

    pub(super) fn recordings_there_are(
        &mut self,
        raw: &raw::File,
        modules: &[ModuleConfig],
        sinks: &[SinkConfig],
    ) -> RecordingsConfig {
        for at in raw.recordings.dirs.iter().filter(|at| at.get_ref().is_empty()) {
            self.problem(at.span(), "expected a folder, such as \"recordings\"");
        }
        let keep = self.kept_for(raw.recordings.keep.as_ref());
        let mut keep_of = BTreeMap::new();
        for tenant in raw.tenant.iter().map(Spanned::get_ref) {
            if let (Some(name), Some(keep)) = (&tenant.name, self.kept_for(tenant.keep.as_ref())) {
                keep_of.insert(name.get_ref().clone(), keep);
            }
        }
        let mut found = RecordingsConfig {
            when_unusable: raw.recordings.when_unusable,
            keep,
            keep_of,
            ..RecordingsConfig::default()
        };
        let is_recorder = |m: &&ModuleConfig| m.run == ModuleRun::Builtin(Builtin::Recorder);
        let recorders = modules.iter().filter(is_recorder);
        let variable = self.context.variable;
        let settings = |module: &ModuleConfig| ringback_recorder::check(&module.config, variable);
        for Settings { place, keys } in recorders.filter_map(|module| settings(module).ok()) {
            match place {
                Place::Folder(dir) => add(&mut found.dirs, dir),
                Place::File(file) => add(&mut found.files, file),
            }
            keys.iter().for_each(|keys| found.keys.extend(keys));
        }
        raw.recordings.dirs.iter().for_each(|at| add(&mut found.dirs, at.get_ref().into()));
        for sink in sinks {
            if let SinkKind::Recordings(recordings) = &sink.kind {
                add(&mut found.dirs, recordings.dir.clone());
                add(&mut found.stored, recordings.dir.clone());
            }
        }
        found
    }
}

fn add(paths: &mut Vec<PathBuf>, path: PathBuf) {
    if !paths.contains(&path) {
        paths.push(path);
    }
}
