//! What a disk keeps of names: those of directories that were synced, and of the others any.

use std::collections::BTreeMap;

use crate::fault::Reached;
use crate::random::Random;

/// Paths on the disk, each with the number of its file.
pub(crate) type Paths = BTreeMap<String, usize>;

/// The names as everybody sees them and as the disk has them.
#[derive(Clone, Default)]
pub(crate) struct Names {
    pub(crate) seen: Paths,
    durable: Paths,
    pending: Vec<NameChange>,
}

#[derive(Clone)]
pub(crate) enum NameChange {
    Set { name: String, inode: usize },
    Move { from: String, to: String, inode: usize },
    Unset { name: String },
}

impl Names {
    /// Names that are all durable.
    pub(crate) fn durable(paths: Paths) -> Names {
        Names { seen: paths.clone(), durable: paths, pending: Vec::new() }
    }

    /// Does a change as far as everybody sees.
    pub(crate) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Begins a change that nobody sees any more, because the power goes off.
    pub(crate) fn begin(&mut self, change: NameChange) {
        self.pending.push(change);
    }

    /// Gives a name behind everybody's back, durably, and its folders too.
    pub(crate) fn place(&mut self, name: &str, inode: usize, mut folder: impl FnMut(&str) -> usize) {
        for (at, _) in name.match_indices('/') {
            let above = &name[..at];
            if !self.seen.contains_key(above) {
                let inode = folder(above);
                self.place_one(above, inode);
            }
        }
        self.place_one(name, inode);
    }

    fn place_one(&mut self, name: &str, inode: usize) {
        self.seen.insert(name.to_owned(), inode);
        self.durable.insert(name.to_owned(), inode);
    }

    /// Makes the pending changes durable that touch the directory whose paths begin with `prefix`, in their order, and leaves the others
    /// pending. A move between two directories needs one sync, since a file system's journal knows both ends of it.
    pub(crate) fn sync(&mut self, prefix: &str) {
        let concerned = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/'));
        for change in std::mem::take(&mut self.pending) {
            if change.names().any(concerned) {
                change.apply(&mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// The names after a power loss: some of the pending changes in order, or any of them. What is in a folder that is lost is lost too.
    pub(crate) fn survivors(&self, random: &mut Random, reached: &mut Reached) -> Paths {
        let mut paths = self.durable.clone();
        let in_order = random.one_in(2).then(|| random.below(self.pending.len() as u64 + 1));
        for (change, at) in self.pending.iter().zip(0..) {
            if in_order.map_or_else(|| random.one_in(2), |kept| at < kept) {
                reached.kept_names += 1;
                change.apply(&mut paths);
                // Of several renames only the last may be kept; the file has one name all the same.
                if let NameChange::Move { to, inode, .. } = change {
                    paths.retain(|name, other| other != inode || name == to);
                }
            } else {
                reached.lost_names += 1;
            }
        }
        let orphans = paths.keys().filter(|name| !has_folder(&paths, name)).cloned().collect::<Vec<_>>();
        for name in orphans {
            reached.lost_names += 1;
            paths.remove(&name);
        }
        paths
    }
}

/// Whether all folders that a path names are there.
pub(crate) fn has_folder(paths: &Paths, name: &str) -> bool {
    name.match_indices('/').all(|(at, _)| paths.contains_key(&name[..at]))
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            NameChange::Move { from, to, .. } => (from, Some(to)),
            NameChange::Set { name, .. } | NameChange::Unset { name } => (name, None),
        };
        std::iter::once(one).chain(other).map(String::as_str)
    }

    fn apply(&self, names: &mut Paths) {
        match self {
            NameChange::Set { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Move { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameChange::Unset { name } => {
                names.remove(name);
            }
        }
    }
}
