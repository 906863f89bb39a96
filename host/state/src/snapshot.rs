//! Reading: one moment of the store, unaffected by later commits. Every byte that leaves here was checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable};

use crate::codec;
use crate::commit::{AGGREGATORS, PENDINGS, POSITION, RECORDS, RUNS};
use crate::dead_letters::{self, DeadLetter};
use crate::error::StateError;
use crate::guard::{Failed, guarded};
use crate::run::{RunInfo, Saved};

/// One moment of the store. Holding one keeps the space of what is replaced meanwhile, so don't hold it long.
pub struct Snapshot {
    transaction: ReadTransaction,
    path: Arc<Path>,
}

impl Snapshot {
    pub(crate) fn new(transaction: ReadTransaction, path: Arc<Path>) -> Snapshot {
        Snapshot { transaction, path }
    }

    /// The names of all aggregators that have saved state, in byte order.
    pub fn aggregators(&self) -> Result<Vec<String>, StateError> {
        self.reading("list the aggregators", || {
            let table = self.transaction.open_table(AGGREGATORS)?;
            table.iter()?.map(|entry| Ok(entry?.0.value().to_owned())).collect()
        })
    }

    /// What is saved of an aggregator; `None` when it never saved anything.
    pub fn load(&self, name: &str) -> Result<Option<Saved>, StateError> {
        let sealed = self.reading(&format!("read the state of aggregator {name:?}"), || {
            let table = self.transaction.open_table(AGGREGATORS)?;
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        })?;
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        decode_saved(name, &sealed).map(Some).map_err(|what| self.damaged(what))
    }

    /// The bytes of a run, checked against its hash.
    pub fn run(&self, name: &str, run: &RunInfo) -> Result<Vec<u8>, StateError> {
        let RunInfo { first, last, .. } = *run;
        let bytes = self.reading(&format!("read the run of cuts {first}..={last} of aggregator {name:?}"), || {
            let table = self.transaction.open_table(RUNS)?;
            let mut bytes = None;
            for part in table.range((name, first, last, 0)..=(name, first, last, u32::MAX))? {
                bytes.get_or_insert_with(Vec::new).extend_from_slice(part?.1.value());
            }
            Ok(bytes)
        })?;
        match bytes {
            Some(bytes) if run.describes(&bytes) => Ok(bytes),
            Some(_) => Err(self.damaged(format!(
                "the run of cuts {first}..={last} of aggregator {name:?} does not have the bytes that were saved"
            ))),
            None => Err(self.damaged(format!("the run of cuts {first}..={last} of aggregator {name:?} is missing"))),
        }
    }

    /// The report of one aggregator that waits for the record of this cut.
    pub fn pending(&self, cut_frame: u64, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let sealed = self.reading(&format!("read the report of aggregator {name:?} at cut {cut_frame}"), || {
            let table = self.transaction.open_table(PENDINGS)?;
            Ok(table.get((cut_frame, name))?.map(|value| value.value().to_vec()))
        })?;
        sealed.map(|sealed| self.unseal_pending(cut_frame, name, &sealed)).transpose()
    }

    /// All reports that wait for the record of this cut, by name in byte order.
    pub fn pendings(&self, cut_frame: u64) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let sealed = self.reading(&format!("read the reports of cut {cut_frame}"), || {
            let table = self.transaction.open_table(PENDINGS)?;
            let mut found = Vec::new();
            for entry in table.range((cut_frame, "")..)? {
                let (key, value) = entry?;
                let (cut, name) = key.value();
                if cut != cut_frame {
                    break;
                }
                found.push((name.to_owned(), value.value().to_vec()));
            }
            Ok(found)
        })?;
        sealed
            .into_iter()
            .map(|(name, sealed)| self.unseal_pending(cut_frame, &name, &sealed).map(|report| (name, report)))
            .collect()
    }

    /// The cuts that reports wait for, ascending: what the record writer has to go through after a start.
    pub fn pending_cuts(&self) -> Result<Vec<u64>, StateError> {
        self.reading("list the waiting reports", || {
            let table = self.transaction.open_table(PENDINGS)?;
            let mut cuts = Vec::new();
            for entry in table.iter()? {
                cuts.push(entry?.0.value().0);
            }
            cuts.dedup();
            Ok(cuts)
        })
    }

    /// How far the analytics files are committed, as it was given to `commit_records`.
    pub fn records_position(&self) -> Result<Option<Vec<u8>>, StateError> {
        let sealed = self.reading("read the position of the analytics files", || {
            let table = self.transaction.open_table(RECORDS)?;
            Ok(table.get(POSITION)?.map(|value| value.value().to_vec()))
        })?;
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        match codec::unseal("records", &[], &sealed) {
            Some(position) => Ok(Some(position.to_vec())),
            None => {
                Err(self.damaged("the position of the analytics files does not have the bytes that were saved".into()))
            }
        }
    }

    /// The dead letters that are kept, oldest event first, but for those of names with a NUL.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, StateError> {
        self.reading("read the dead letters", || dead_letters::all(&self.transaction, false))
    }

    /// The dead letters of names with a NUL, of states that are put aside.
    pub fn letters_aside(&self) -> Result<Vec<DeadLetter>, StateError> {
        self.reading("read the dead letters", || dead_letters::all(&self.transaction, true))
    }

    /// Every run in the store, listed or not: (name, first cut, last cut).
    pub(crate) fn stored_runs(&self) -> Result<Vec<(String, u64, u64)>, StateError> {
        self.reading("list the runs", || {
            let table = self.transaction.open_table(RUNS)?;
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (key, _) = entry?;
                let (name, first, last, _) = key.value();
                found.push((name.to_owned(), first, last));
            }
            found.dedup();
            Ok(found)
        })
    }

    fn unseal_pending(&self, cut_frame: u64, name: &str, sealed: &[u8]) -> Result<Vec<u8>, StateError> {
        match codec::unseal("pendings", &[&cut_frame.to_le_bytes(), name.as_bytes()], sealed) {
            Some(report) => Ok(report.to_vec()),
            None => Err(self.damaged(format!(
                "the report of aggregator {name:?} at cut {cut_frame} does not have the bytes that were saved"
            ))),
        }
    }

    fn reading<T>(&self, doing: &str, read: impl FnOnce() -> Result<T, Failed>) -> Result<T, StateError> {
        guarded(&self.path, doing, read)
    }

    fn damaged(&self, what: String) -> StateError {
        StateError::Damaged { path: PathBuf::from(&*self.path), what }
    }
}

/// The saved state under this name, or what is damaged.
pub(crate) fn decode_saved(name: &str, sealed: &[u8]) -> Result<Saved, String> {
    let payload = codec::unseal("aggregators", &[name.as_bytes()], sealed)
        .ok_or_else(|| format!("the state of aggregator {name:?} does not have the bytes that were saved"))?;
    codec::decode_saved(payload).map_err(|what| format!("the state of aggregator {name:?} cannot be read: {what}"))
}
