//! The twin and real files do the same where nothing goes wrong.

use std::io::ErrorKind;

use tally_storage::{RealStorage, Storage, StorageFile};
use tally_testkit::MemStorage;

fn names<S: Storage>(storage: &S) -> Vec<String> {
    let mut names = storage.list().expect("lists");
    names.sort();
    names
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("refused").kind()
}

fn text<S: Storage>(storage: &S, name: &str) -> String {
    let file = storage.open(name).expect("opens");
    let mut bytes = vec![0; file.len().expect("has a length") as usize + 10];
    let read = file.read_full_at(&mut bytes, 0).expect("reads");
    bytes.truncate(read);
    String::from_utf8(bytes).expect("text").replace('\0', "0")
}

fn files<S: Storage>(storage: &S) {
    assert_eq!(names(storage), [""; 0]);
    assert_eq!(kind(storage.open("a")), ErrorKind::NotFound);
    let file = storage.create("a").expect("creates");
    assert_eq!(kind(storage.create("a")), ErrorKind::AlreadyExists);
    assert!(file.is_empty().expect("has a length"));
    file.write_at(b"hello", 2).expect("writes");
    assert_eq!(text(storage, "a"), "00hello");
    assert_eq!(file.read_at(&mut [0; 4], 7).expect("reads"), 0, "the end");
    assert_eq!(file.read_at(&mut [0; 4], 700).expect("reads"), 0, "behind the end");
    file.set_len(4).expect("cuts");
    file.set_len(6).expect("extends");
    assert_eq!(text(storage, "a"), "00he00");
    file.allocate(3).expect("there already");
    assert_eq!(text(storage, "a"), "00he00");
    file.allocate(8).expect("reserves");
    assert_eq!(text(storage, "a"), "00he0000");
    file.sync_data().and_then(|()| file.sync_all()).and_then(|()| storage.sync_dir()).expect("syncs");

    storage.create("b").and_then(|file| file.write_at(b"other", 0)).expect("creates and writes");
    storage.rename("a", "b").expect("replaces");
    assert_eq!((names(storage), text(storage, "b")), (vec!["b".to_owned()], "00he0000".to_owned()));
    file.write_at(b"!", 0).expect("follows its file");
    assert_eq!(text(storage, "b"), "!0he0000");
    storage.remove("b").expect("removes");
    assert_eq!(kind(storage.remove("b")), ErrorKind::NotFound);
    assert_eq!(kind(storage.rename("b", "c")), ErrorKind::NotFound);
    file.write_at(b"?", 0).expect("an open file outlives its name");
    assert_eq!(kind(storage.modified("b")), ErrorKind::NotFound);
}

fn folders<S: Storage>(storage: &S) {
    let folder = storage.folder("folder").expect("is made");
    storage.folder("folder").expect("is there");
    assert_eq!(names(storage), ["folder"]);
    folder.create("inner").and_then(|file| file.write_at(b"x", 0)).expect("creates");
    assert_eq!(text(storage, "folder/inner"), "x", "by its path");
    storage.create("moved").expect("creates");
    storage.rename("moved", "folder/moved").expect("into it");
    folder.create_folder("deeper").expect("creates");
    assert_eq!(kind(folder.create_folder("deeper")), ErrorKind::AlreadyExists);
    folder.rename("inner", "deeper/inner").and_then(|()| folder.sync_folder("deeper")).expect("deeper");
    assert_eq!((names(storage), names(&folder)), (vec!["folder".to_owned()], vec!["deeper".into(), "moved".into()]));
    assert_eq!(text(&folder.folder("deeper").expect("is there"), "inner"), "x");
    assert!(folder.describe("inner").ends_with("folder/inner") && folder.describe("").ends_with("folder"));
    assert_eq!(kind(storage.create("missing/file")), ErrorKind::NotFound);
    assert_eq!(kind(storage.rename("folder/moved", "missing/file")), ErrorKind::NotFound);
    assert_eq!(kind(storage.sync_folder("missing")), ErrorKind::NotFound);
}

fn locks<S: Storage>(storage: &S) {
    storage.create("lock").expect("creates");
    let exclusive = storage.lock("lock").expect("works").expect("is free");
    assert!(storage.lock("lock").expect("works").is_none() && storage.lock_shared("lock").expect("works").is_none());
    drop(exclusive);
    let shared = [storage.lock_shared("lock").expect("works"), storage.lock_shared("lock").expect("works")];
    assert!(shared.iter().all(Option::is_some) && storage.lock("lock").expect("works").is_none());
    drop(shared);
    assert!(storage.lock("lock").expect("works").is_some());
    assert_eq!(kind(storage.lock_shared("no lock")), ErrorKind::NotFound);
}

#[test]
fn real_files_and_the_twin_do_the_same() {
    let fresh = || tempfile::tempdir().expect("a directory");
    let (one, two, three) = (fresh(), fresh(), fresh());
    let real = |dir: &tempfile::TempDir| RealStorage::new(dir.path()).expect("a directory");
    files(&real(&one));
    files(&MemStorage::new());
    files(&MemStorage::new().folder("below").expect("is made"));
    folders(&real(&two));
    folders(&MemStorage::new());
    folders(&MemStorage::new().folder("below").expect("is made"));
    locks(&real(&three));
    locks(&MemStorage::new());
}

#[test]
fn reading_only_makes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    RealStorage::new(dir.path()).and_then(|storage| storage.create("file")).expect("a file");
    let storage = RealStorage::read_only(dir.path()).expect("a directory");
    assert_eq!(kind(storage.folder("folder")), ErrorKind::NotFound);
    assert!(storage.lock_shared("file").expect("works").is_some());
    for kind in [
        kind(storage.create("new")),
        kind(storage.create_folder("new")),
        kind(storage.rename("file", "new")),
        kind(storage.remove("file")),
        kind(storage.lock("file")),
    ] {
        assert_eq!(kind, ErrorKind::ReadOnlyFilesystem);
    }
    assert!(storage.open("file").expect("opens").write_at(b"x", 0).is_err());
    assert_eq!(names(&storage), ["file"]);
}
