//! Making a store that was not there, so that an interruption leaves none rather than half of one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use redb::{Database, ReadableDatabase};

use crate::FORMAT;
use crate::commit::{AGGREGATORS, FORMAT_TABLE, PENDINGS, RECORDS, RUNS};
use crate::error::StateError;
use crate::guard::{Failed, guarded};
use crate::store::builder;

/// Where a new store is made before it gets its name: an interruption leaves only this.
const NEW_FILE_NAME: &str = "state.redb.new";

/// Makes an empty store under another name, and gives it its own once it is whole and durable.
pub(crate) fn create(data_dir: &Path, path: &Path) -> Result<(), StateError> {
    let new = data_dir.join(NEW_FILE_NAME);
    create_dir(data_dir).map_err(StateError::io("create the directory", data_dir))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&new)
        .map_err(StateError::io("create", &new))?;
    guarded(&new, "create the tables", || initialise(&builder().create_file(file)?))?;
    let synced = File::open(&new).and_then(|file| file.sync_all());
    synced.map_err(StateError::io("sync", &new))?;
    fs::rename(&new, path).map_err(StateError::io("give its name to", &new))?;
    sync_dir(data_dir).map_err(StateError::io("sync the directory", data_dir))
}

/// Creates a directory and makes its name durable, and so for every ancestor that had to be made.
fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes the format and makes the tables, unless they are there.
pub(crate) fn initialise(database: &Database) -> Result<(), Failed> {
    if format_of(database)?.is_some() {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(FORMAT_TABLE)?.insert("format", FORMAT)?;
    transaction.open_table(AGGREGATORS)?;
    transaction.open_table(RUNS)?;
    transaction.open_table(PENDINGS)?;
    transaction.open_table(RECORDS)?;
    Ok(transaction.commit()?)
}

/// The format that the file says it has; `None` in an empty one.
pub(crate) fn format_of(database: &Database) -> Result<Option<u32>, Failed> {
    let table = match database.begin_read()?.open_table(FORMAT_TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table.get("format")?.map(|format| format.value()))
}
