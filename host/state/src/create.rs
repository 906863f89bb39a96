//! Making a store that was not there, so that an interruption leaves none rather than half of one.

use std::io;
use std::sync::Arc;

use redb::{Database, ReadableDatabase};
use tally_storage::{Storage, StorageFile};

use crate::FORMAT;
use crate::backend::Backend;
use crate::commit::{AGGREGATORS, FORMAT_TABLE, PENDINGS, RECORDS, RUNS};
use crate::error::StateError;
use crate::guard::{Failed, guarded};
use crate::store::{FILE_NAME, builder, path};

/// Where a new store is made before it gets its name: an interruption leaves only this.
const NEW_FILE_NAME: &str = "state.redb.new";

/// Makes an empty store under another name, and gives it its own once it is whole and durable. The name itself is not durable yet.
pub(crate) fn create<S: Storage>(storage: &S) -> Result<(), StateError> {
    let new = path(storage, NEW_FILE_NAME);
    let file = match storage.open(NEW_FILE_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => storage.create(NEW_FILE_NAME),
        opened => opened,
    };
    let file = file.map_err(StateError::io("create", &new))?;
    let lock = storage.lock(NEW_FILE_NAME).map_err(StateError::io("lock", &new))?;
    let lock = lock.ok_or_else(|| StateError::InUse { path: new.clone() })?;
    file.set_len(0).map_err(StateError::io("empty", &new))?;
    guarded(&new, "create the tables", || {
        initialise(&builder().create_with_backend(Backend::new(file, Arc::new(lock)))?)
    })?;
    let synced = storage.open(NEW_FILE_NAME).and_then(|file| file.sync_all());
    synced.map_err(StateError::io("sync", &new))?;
    storage.rename(NEW_FILE_NAME, FILE_NAME).map_err(StateError::io("give its name to", &new))
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
