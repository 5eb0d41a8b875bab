//! The directory on a real file system.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
};

use palisade_world::{PolicyDirectory as _, PolicyDirectoryError};

use crate::{FileDirectory, FileFault};

fn names(directory: &mut FileDirectory) -> Vec<String> {
    directory.read().expect("readable").files.into_iter().map(|file| file.name).collect()
}

#[test]
fn unit_store_reads_policy_files_sorted_and_nothing_else() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for name in ["b.yaml", "a.yml", "c.json", ".hidden.yaml", "notes.txt"] {
        fs::write(root.path().join(name), name).expect("written");
    }
    fs::create_dir(root.path().join("sub.yaml")).expect("made");
    assert_eq!(names(&mut FileDirectory::new(root.path())), ["a.yml", "b.yaml", "c.json"]);
}

#[test]
fn unit_store_sees_a_change_once_and_nothing_where_nothing_changed() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let file = root.path().join("a.yaml");
    fs::write(&file, "one").expect("written");
    let mut directory = FileDirectory::new(root.path());
    assert!(directory.changed(), "never read");
    directory.read().expect("readable");
    assert!(!directory.changed());
    fs::write(&file, "longer than before").expect("written");
    assert!(directory.changed());
    directory.read().expect("readable");
    assert!(!directory.changed());
    fs::remove_file(&file).expect("removed");
    assert!(directory.changed());
}

#[test]
fn unit_store_follows_the_symlink_swap_of_a_config_map_volume() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (version, text) in [("..v1", "one"), ("..v2", "two")] {
        fs::create_dir(root.path().join(version)).expect("made");
        fs::write(root.path().join(version).join("a.yaml"), text).expect("written");
    }
    let link = root.path().join("..data");
    symlink("..v1", &link).expect("linked");
    symlink("..data/a.yaml", root.path().join("a.yaml")).expect("linked");
    let mut directory = FileDirectory::new(root.path());
    assert_eq!(directory.read().expect("readable").files[0].content, b"one");
    symlink("..v2", root.path().join("..new")).expect("linked");
    fs::rename(root.path().join("..new"), &link).expect("swapped");
    assert!(directory.changed());
    assert_eq!(directory.read().expect("readable").files[0].content, b"two");
}

#[test]
fn unit_store_says_which_directory_it_cannot_list() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let missing = root.path().join("missing");
    let error = FileDirectory::new(&missing).read().expect_err("there is nothing");
    assert!(matches!(&error, PolicyDirectoryError::Unreadable { path, .. } if *path == missing), "{error}");
}

#[test]
fn unit_store_names_a_dangling_link_and_reads_all_others() {
    let root = tempfile::tempdir().expect("a temporary directory");
    symlink("nowhere", root.path().join("a.yaml")).expect("linked");
    symlink("c.yaml", root.path().join("c.yaml")).expect("linked to itself");
    fs::write(root.path().join("b.yaml"), "one").expect("written");
    let mut directory = FileDirectory::new(root.path());
    let reading = directory.read().expect("a fault of a file is none of the directory");
    assert_eq!(reading.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["b.yaml"]);
    let unreadable: Vec<&str> = reading.unreadable.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(unreadable, ["a.yaml", "c.yaml"]);
    assert!(reading.unreadable[0].reason.contains("No such file"), "{reading:?}");
    assert!(!directory.changed(), "it dangles on");
    fs::write(root.path().join("nowhere"), "two").expect("written");
    assert!(directory.changed(), "it leads somewhere now");
    assert_eq!(names(&mut directory), ["a.yaml", "b.yaml"]);
}

#[test]
fn unit_store_names_what_is_no_regular_file_and_waits_for_none() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let pipe = root.path().join("a.yaml");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    symlink("/dev/zero", root.path().join("b.yaml")).expect("linked");
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("c.yaml")).expect("bound");
    fs::write(root.path().join("d.yaml"), "one").expect("written");
    let mut directory = FileDirectory::new(root.path());
    let reading = directory.read().expect("a fault of a file is none of the directory");
    assert_eq!(reading.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["d.yaml"]);
    let unreadable: Vec<_> = reading.unreadable.iter().map(|file| (file.name.as_str(), file.reason.as_str())).collect();
    assert_eq!(unreadable, ["a.yaml", "b.yaml", "c.yaml"].map(|name| (name, "it is no regular file")));
    assert!(!directory.changed());
    // It was a file when it was listed.
    let listed = fs::metadata(root.path().join("d.yaml")).expect("there");
    let fingerprint = crate::Fingerprint::new("a.yaml".into(), &listed, None);
    assert!(matches!(crate::content(&pipe, &fingerprint), Err(FileFault::NoRegularFile)));
}

#[test]
fn unit_store_names_a_file_past_its_bound_with_the_numbers_and_reads_all_others() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let file = fs::File::create(root.path().join("a.yaml")).expect("made");
    file.set_len(crate::MAX_FILE_BYTES + 1).expect("sparse");
    fs::write(root.path().join("b.yaml"), "one").expect("written");
    let reading = FileDirectory::new(root.path()).read().expect("readable");
    assert_eq!(reading.files.len(), 1);
    let [large] = reading.unreadable.as_slice() else { panic!("{reading:?}") };
    assert_eq!(large.name, "a.yaml");
    assert_eq!(large.reason, "size in bytes is 16777217, at most 16777216 is read");
}

#[test]
fn unit_store_reads_again_what_a_device_failed_to_give_and_not_what_is_forbidden() {
    let fault = |kind| FileFault::from(std::io::Error::from(kind));
    assert!(fault(std::io::ErrorKind::TimedOut).passes());
    assert!(!fault(std::io::ErrorKind::PermissionDenied).passes(), "a permission that is given changes the file");
    assert!(!FileFault::TooLarge(1).passes());
    let root = tempfile::tempdir().expect("a temporary directory");
    // Its size is 0, and to read its beginning fails: nothing is mapped there.
    symlink("/proc/self/mem", root.path().join("a.yaml")).expect("linked");
    let mut directory = FileDirectory::new(root.path());
    assert_eq!(directory.read().expect("readable").unreadable.len(), 1);
    assert!(directory.changed(), "tried at each look");
}

#[test]
fn unit_store_is_settled_once_nothing_changed_between_two_looks() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let file = root.path().join("a.yaml");
    let mut directory = FileDirectory::new(root.path());
    directory.read().expect("readable");
    fs::write(&file, "").expect("truncated, as who writes in place begins");
    assert!(directory.changed());
    fs::write(&file, "and written").expect("written");
    assert!(!directory.settled());
    assert!(directory.settled());
    assert!(directory.changed(), "to be settled is not to be read");
    fs::remove_dir_all(root.path()).expect("removed");
    assert!(!directory.settled());
    assert!(directory.settled(), "gone for good");
}

#[test]
fn unit_store_reads_a_policy_whose_name_is_not_utf8() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::write(root.path().join(OsStr::from_bytes(b"caf\xe9.yaml")), "one").expect("written");
    let read = FileDirectory::new(root.path()).read().expect("readable");
    assert_eq!((read.files[0].name.as_str(), read.files[0].content.as_slice()), ("caf\u{fffd}.yaml", &b"one"[..]));
}

#[test]
fn unit_store_tells_apart_files_whose_names_are_shown_alike() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in
        [(&b"caf\xe8.yaml"[..], "one"), (b"caf\xe9.yaml", "two"), ("caf\u{fffd}.yaml".as_bytes(), "three")]
    {
        fs::write(root.path().join(OsStr::from_bytes(name)), content).expect("written");
    }
    let read = names(&mut FileDirectory::new(root.path()));
    assert_eq!(read, ["caf\u{fffd}.yaml", "caf\u{fffd}.yaml (2)", "caf\u{fffd}.yaml (3)"], "none stands for another");
}

#[test]
fn unit_store_comes_back_when_its_directory_does() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("policies");
    let mut directory = FileDirectory::new(&path);
    fs::create_dir(&path).expect("made");
    fs::write(path.join("a.yaml"), "one").expect("written");
    directory.read().expect("readable");
    fs::remove_dir_all(&path).expect("removed");
    assert!(directory.changed());
    directory.read().expect_err("it is gone");
    assert!(directory.changed(), "looked for at each look");
    fs::create_dir(&path).expect("made again");
    fs::write(path.join("b.yaml"), "two").expect("written");
    assert!(directory.changed());
    assert_eq!(names(&mut directory), ["b.yaml"]);
    assert!(!directory.changed());
}

#[test]
fn unit_store_refuses_a_directory_past_its_bound_with_the_numbers() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for name in ["a.yaml", "b.yaml", "c.yaml"] {
        let file = fs::File::create(root.path().join(name)).expect("made");
        file.set_len(crate::MAX_TOTAL_BYTES / 2).expect("sparse");
    }
    let error = FileDirectory::new(root.path()).read().expect_err("too large");
    assert!(error.to_string().ends_with("total size in bytes is 50331648, at most 33554432 is read"), "{error}");
}
