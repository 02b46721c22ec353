//! Lines of calls that are deleted from files of lines, whoever writes to them meanwhile. Knows the events' calls and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{JsonLines, Piece, Template, private};
use crate::lockfile;

/// Stands for any value in a part of a path.
const ANY: char = '\u{0}';

/// Takes the lines of these calls out of all files that are there, and says how many. Each file is rewritten beside itself and then put
/// in its own place; one of which nothing is left is deleted. May block for long.
pub(crate) fn erase(config: &JsonLines, calls: &BTreeSet<String>) -> io::Result<u64> {
    let mut gone = 0;
    for path in files(&config.path)? {
        gone += rewrite(&path, calls)?;
    }
    Ok(gone)
}

/// The files that a template may have made.
pub(super) fn files(template: &Template) -> io::Result<Vec<PathBuf>> {
    let mut text = String::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Date | Piece::Call | Piece::Listener | Piece::Route => text.push(ANY),
        }
    }
    let (root, rest) = match text.strip_prefix('/') {
        Some(rest) => (PathBuf::from("/"), rest),
        None => (PathBuf::new(), text.as_str()),
    };
    let (folders, last) = rest.rsplit_once('/').unwrap_or(("", rest));
    let mut found = vec![root];
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(ANY) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut inside = Vec::new();
        for path in &found {
            inside.extend(named(path, |name| fits(part, name))?);
        }
        found = inside.into_iter().filter(|path| path.is_dir()).collect();
    }
    let (stem, end) = match last.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem, format!(".{end}")),
        _ => (last, String::new()),
    };
    let is_one = |name: &str| {
        let Some(name) = name.strip_suffix(&end) else { return fits(last, name) };
        let numbered = name.rsplit_once('.').filter(|(_, number)| number.parse::<u32>().is_ok());
        fits(stem, name) || numbered.is_some_and(|(name, _)| fits(stem, name))
    };
    let mut files = Vec::new();
    for path in &found {
        files.extend(named(path, is_one)?.into_iter().filter(|path| path.is_file()));
    }
    files.sort();
    Ok(files)
}

/// What is in a folder and has such a name; nothing, if that is none.
fn named(folder: &Path, fits: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&fits) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a name is of that pattern.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((before, behind)) = pattern.split_once(ANY) else { return pattern == name };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let Some(rest) = name.strip_prefix(before) else { return false };
    let most = rest.find(|c| !plain(c)).unwrap_or(rest.len());
    (1..=most).any(|length| fits(behind, &rest[length..]))
}

fn rewrite(path: &Path, calls: &BTreeSet<String>) -> io::Result<u64> {
    for _ in 0..lockfile::TRIES {
        // What a link leads to is rewritten in its own place, and the link stays.
        let opened = fs::canonicalize(path)
            .and_then(|real| Ok((File::options().read(true).write(true).open(&real)?, real)));
        let (file, real) = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            opened => opened?,
        };
        lockfile::acquire(&file)?;
        if lockfile::is_at(&file, &real) {
            return without(&file, &real, calls);
        }
    }
    Err(lockfile::never_still())
}

/// Puts the same file without lines of these calls in its place.
fn without(file: &File, path: &Path, calls: &BTreeSet<String>) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Line {
        call: String,
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".part");
    let new = PathBuf::from(new);
    let mut out = BufWriter::new(private().write(true).create(true).truncate(true).open(&new)?);
    let (mut gone, mut left) = (0, 0_u64);
    let copied = (|| {
        let (mut reader, mut line) = (BufReader::new(file), Vec::new());
        while reader.read_until(b'\n', &mut line)? > 0 {
            // What is no line of ours is nobody's.
            let of = serde_json::from_slice::<Line>(&line);
            if of.is_ok_and(|line| calls.contains(&line.call)) {
                gone += 1;
            } else {
                left += 1;
                out.write_all(&line)?;
            }
            line.clear();
        }
        out.flush()?;
        out.get_ref().sync_all()
    })();
    if copied.is_err() || gone == 0 || left == 0 {
        fs::remove_file(&new)?;
        copied?;
    }
    match (gone, left) {
        (0, _) => {}
        (_, 0) => fs::remove_file(path)?,
        _ => fs::rename(&new, path)?,
    }
    if gone > 0
        && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventKind;
    use crate::sink::testing::{Folder, event};

    #[test]
    fn lines_of_a_call_go_from_all_files_there_are_and_others_stay() {
        let folder = Folder::new("erase");
        let template: Template = folder.path("t/{date}/{route}-x.jsonl").parse().unwrap();
        let kind = EventKind::Turn;
        let lines = |of: &[(&str, u64)]| -> String {
            of.iter().map(|(call, n)| event(call, *n, kind).json + "\n").collect()
        };
        let mixed = lines(&[("a", 1), ("b", 1), ("a", 2)]) + "no line of ours\n";
        for (name, text) in [
            ("t/2026-11-20/de-x.jsonl", mixed.clone()),
            ("t/2026-11-20/de-x.12.jsonl", lines(&[("a", 3)])),
            ("t/2026-11-21/fr-x.jsonl", lines(&[("c", 1)])),
            ("t/2026-11-21/fr-y.jsonl", mixed.clone()),
            ("t/other", mixed.clone()),
        ] {
            fs::create_dir_all(folder.0.join(name).parent().unwrap()).unwrap();
            fs::write(folder.0.join(name), text).unwrap();
        }
        let config =
            JsonLines { path: template, max_file: None, flush_every: std::time::Duration::ZERO };
        let calls = BTreeSet::from(["a".to_owned(), "c".to_owned()]);
        assert_eq!(erase(&config, &calls).unwrap(), 4);
        assert_eq!(
            folder.read("t/2026-11-20/de-x.jsonl"),
            lines(&[("b", 1)]) + "no line of ours\n"
        );
        assert!(!folder.0.join("t/2026-11-20/de-x.12.jsonl").exists());
        assert!(!folder.0.join("t/2026-11-21/fr-x.jsonl").exists());
        for others in ["t/2026-11-21/fr-y.jsonl", "t/other"] {
            assert_eq!(folder.read(others), mixed, "not of this sink");
        }
        assert_eq!(erase(&config, &calls).unwrap(), 0, "again");
        let nowhere =
            JsonLines { path: folder.path("none/{call}.jsonl").parse().unwrap(), ..config };
        assert_eq!(erase(&nowhere, &calls).unwrap(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_a_link_is_written_and_rewritten_where_it_leads() {
        use std::sync::Arc;

        use super::super::Writer;

        let folder = Folder::new("erase-link");
        fs::create_dir(folder.0.join("disk")).unwrap();
        std::os::unix::fs::symlink(folder.0.join("disk/real"), folder.0.join("all.jsonl")).unwrap();
        let path = folder.path("all.jsonl").parse().unwrap();
        let config = JsonLines { path, max_file: None, flush_every: std::time::Duration::ZERO };
        let mut writer = Writer { config: config.clone(), open: std::collections::BTreeMap::new() };
        let mut write = |call: &str| {
            let (written, failed) = writer.write(&[Arc::new(event(call, 1, EventKind::Turn))]);
            assert!(written == 1 && failed.is_none(), "{failed:?}");
        };
        write("a");
        write("b");
        let calls = BTreeSet::from(["a".to_owned()]);
        assert_eq!(erase(&config, &calls).unwrap(), 1);
        write("c");
        let wanted = ["b", "c"].map(|call| event(call, 1, EventKind::Turn).json + "\n").concat();
        assert_eq!(folder.read("disk/real"), wanted);
        assert!(folder.0.join("all.jsonl").is_symlink());
        assert_eq!(fs::read_dir(folder.0.join("disk")).unwrap().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_writes_meanwhile_loses_no_line_and_goes_on_in_the_new_file() {
        use std::sync::Arc;

        use super::super::Writer;

        const LINES: u64 = 2_000;
        let folder = Folder::new("erase-meanwhile");
        let path = folder.path("all.jsonl").parse().unwrap();
        let config = JsonLines { path, max_file: None, flush_every: std::time::Duration::ZERO };
        let mut writer = Writer { config: config.clone(), open: std::collections::BTreeMap::new() };
        let writing = std::thread::spawn(move || {
            for n in 1..=LINES {
                let call = if n % 2 == 0 { "kept" } else { "gone" };
                let (written, failed) = writer.write(&[Arc::new(event(call, n, EventKind::Turn))]);
                assert!(written == 1 && failed.is_none(), "{failed:?}");
            }
        });
        let calls = BTreeSet::from(["gone".to_owned()]);
        let mut erased = 0;
        while !writing.is_finished() {
            erased += erase(&config, &calls).unwrap();
        }
        writing.join().unwrap();
        erased += erase(&config, &calls).unwrap();
        let left = folder.read("all.jsonl");
        let wanted: String =
            (1..=LINES / 2).map(|n| event("kept", 2 * n, EventKind::Turn).json + "\n").collect();
        assert!(left == wanted, "{} lines of {}", left.lines().count(), LINES / 2);
        assert_eq!(erased, LINES / 2);
    }

    #[test]
    fn a_pattern_fits_what_its_template_makes() {
        for (pattern, name, does) in [
            ("a", "a", true),
            ("a", "b", false),
            ("x\0", "x", false),
            ("x\0y", "x1y", true),
            ("\0-\0", "2026-11-20-de", true),
            ("\0", "a.b", false),
            ("\0", "..", false),
        ] {
            assert_eq!(fits(pattern, name), does, "{pattern:?} {name:?}");
        }
    }
}
