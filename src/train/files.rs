//! Files and folders that are either whole or absent, whatever interrupts the writing.
//!
//! Everything is written under a temporary name beside its place, synced, then renamed, and the folder that holds it
//! is synced. What a killed process leaves behind ends in `.tmp-<process>-<number>` and is swept at the next start.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Between a name and the process that writes it.
const TEMPORARY: &str = ".tmp-";
/// Between a folder's name and the process that replaces it.
const REPLACED: &str = ".old-";

/// Writes `bytes` to `path`, replacing what is there only once all of it is on the disk.
///
/// # Errors
/// [`Error::Io`]; what was at `path` is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// As [`write()`], with the bytes coming from `fill`.
///
/// # Errors
/// [`Error::Io`]; what was at `path` is then unchanged.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let temporary = beside(path, TEMPORARY);
    let written = File::create(&temporary).and_then(|file| {
        let mut buffered = BufWriter::new(file);
        fill(&mut buffered)?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = moved {
        // The first error is the one to report, whether or not the rest can be taken away.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("write", path, source));
    }
    sync_parent(path)
}

/// Makes the folder `path` out of what `fill` puts into the temporary folder it is given, replacing an older one.
/// `fill` syncs its own files ([`write()`] does).
///
/// # Errors
/// What `fill` returns, or [`Error::Io`]; what was at `path` is then unchanged.
pub fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = beside(path, TEMPORARY);
    let made = fs::create_dir(&temporary).map_err(|e| Error::io("create", &temporary, e));
    let filled = made.and_then(|()| fill(&temporary)).and_then(|()| sync_folder(&temporary));
    let placed = filled.and_then(|()| {
        if path.exists() {
            // A folder cannot be renamed over a full one. `sweep` puts this one back if nothing takes its place.
            let old = beside(path, REPLACED);
            fs::rename(path, &old).map_err(|e| Error::io("replace", path, e))?;
            let renamed = fs::rename(&temporary, path).map_err(|e| Error::io("write", path, e));
            if renamed.is_err() {
                let _ = fs::rename(&old, path);
            }
            renamed?;
            fs::remove_dir_all(&old).map_err(|e| Error::io("remove", &old, e))
        } else {
            fs::rename(&temporary, path).map_err(|e| Error::io("write", path, e))
        }
    });
    if placed.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    placed.and_then(|()| sync_parent(path))
}

/// Removes a folder so that it is never seen half empty: it gets a temporary name first.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_folder(path: &Path) -> Result<()> {
    let temporary = beside(path, TEMPORARY);
    fs::rename(path, &temporary).map_err(|e| Error::io("remove", path, e))?;
    remove(&temporary)
}

/// Removes what an interrupted process left in `folder`, and puts back folders it was replacing. Call it at the start of
/// a run, when nobody else writes there. Returns what was removed or put back.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))? {
        let path = entry.map_err(|e| Error::io("list", folder, e))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if original(name, TEMPORARY).is_some() {
            remove(&path)?;
        } else if let Some(original) = original(name, REPLACED) {
            let place = folder.join(original);
            if place.exists() {
                remove(&path)?;
            } else {
                fs::rename(&path, &place).map_err(|e| Error::io("restore", &place, e))?;
            }
        } else {
            continue;
        }
        swept.push(path);
    }
    swept.sort();
    Ok(swept)
}

/// Whether `name` is one that this module gives to unfinished work.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    original(name, TEMPORARY).is_some() || original(name, REPLACED).is_some()
}

/// This program's folder in the user's cache: `mmae` in `$XDG_CACHE_HOME` or where the system has it. Need not exist.
///
/// # Errors
/// `Error::Config` when the environment names no such folder.
pub fn cache_folder() -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = if cfg!(windows) {
        named("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        named("HOME").map(|home| home.join("Library/Caches"))
    } else {
        named("HOME").map(|home| home.join(".cache"))
    };
    let missing = || Error::config("XDG_CACHE_HOME", "no cache folder is known; set this to an absolute path");
    Ok(named("XDG_CACHE_HOME").or(home).ok_or_else(missing)?.join("mmae"))
}

/// Reads a text file.
///
/// # Errors
/// [`Error::Io`], also when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("read", path, e))
}

/// The name before `mark`, when what follows is `<process>-<number>`.
fn original<'a>(name: &'a str, mark: &str) -> Option<&'a str> {
    let (original, tail) = name.rsplit_once(mark)?;
    let (process, number) = tail.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(process) && digits(number) && !original.is_empty()).then_some(original)
}

/// A name in the same folder that no other process and no earlier call uses.
fn beside(path: &Path, mark: &str) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{mark}{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|e| Error::io("remove", path, e))
}

/// A rename survives a power cut only once the folder itself is on the disk.
fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Windows cannot open a folder as a file, and its file system keeps renames in order by itself.
fn sync_folder(folder: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(folder).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let full = write_with(&path, |file| {
            file.write_all(b"half of th")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(matches!(&full, Err(Error::Io { path: p, .. }) if *p == path), "{full:?}");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["state.json"]);
        let nowhere = write(&folder.path().join("missing/state.json"), b"x");
        assert!(matches!(nowhere, Err(Error::Io { .. })), "{nowhere:?}");
    }

    /// A real full device: every write to it fails with "no space left".
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        write(&path, b"old").unwrap();
        let full = write_with(&path, |_| File::options().write(true).open("/dev/full")?.write_all(b"x"));
        assert!(full.unwrap_err().to_string().contains("No space left"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_folder_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-000500");
        write_folder(&path, |dir| write(&dir.join("a"), b"1")).unwrap();
        let failed = write_folder(&path, |dir| {
            write(&dir.join("b"), b"2")?;
            Err(Error::io("write", dir, io::ErrorKind::StorageFull.into()))
        });
        assert!(failed.is_err());
        assert_eq!((names(folder.path()), names(&path)), (vec!["step-000500".to_owned()], vec!["a".to_owned()]));
        write_folder(&path, |dir| write(&dir.join("b"), b"2")).unwrap();
        assert_eq!((names(folder.path()), names(&path)), (vec!["step-000500".to_owned()], vec!["b".to_owned()]));
        remove_folder(&path).unwrap();
        assert!(names(folder.path()).is_empty());
        assert!(matches!(remove_folder(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn leftovers_of_a_killed_process_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mine = ["notes.tmp-mine", "a.tmp-1", ".tmp-1-2", "latest", "x.old-", "x.tmp-1-2.txt"];
        for name in mine {
            fs::write(at(name), "keep").unwrap();
        }
        fs::write(at("latest.tmp-77-0"), "half").unwrap();
        fs::create_dir(at("step-000500.tmp-77-1")).unwrap();
        fs::write(at("step-000500.tmp-77-1/model"), "half").unwrap();
        // Killed between the two renames of a replacement: the old folder must come back.
        fs::create_dir(at("step-000400.old-77-2")).unwrap();
        fs::write(at("step-000400.old-77-2/model"), "whole").unwrap();
        // Killed after them: the old folder goes.
        fs::create_dir(at("step-000300.old-77-3")).unwrap();
        fs::create_dir(at("step-000300")).unwrap();
        assert_eq!(sweep(folder.path()).unwrap().len(), 4);
        let mut want: Vec<_> = mine.iter().map(|s| (*s).to_owned()).collect();
        want.extend(["step-000300".to_owned(), "step-000400".to_owned()]);
        want.sort();
        assert_eq!(names(folder.path()), want);
        assert_eq!(fs::read_to_string(at("step-000400/model")).unwrap(), "whole");
        assert!(sweep(folder.path()).unwrap().is_empty());
    }
}
