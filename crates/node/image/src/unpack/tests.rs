//! Properties of unpacking: nothing outside is touched, and the kernel shows what the archive means.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::*;

/// One entry as it is written into an archive.
#[derive(Debug, Clone)]
struct RawEntry {
    kind: EntryType,
    path: String,
    link: String,
    data: Vec<u8>,
}

impl RawEntry {
    fn new(kind: EntryType, path: &str) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            link: String::new(),
            data: Vec::new(),
        }
    }
}

fn archive(entries: &[RawEntry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(0o755);
        header.set_size(entry.data.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        gnu.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_cksum();
        builder.append(&header, entry.data.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Directories of one test case: `outside` stands for the host.
struct Sandbox {
    directory: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

impl Sandbox {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/sentinel"), b"host").unwrap();
        Self {
            directory,
            layers: Vec::new(),
        }
    }

    /// Unpacks a layer on top of those before it.
    fn add(&mut self, entries: &[RawEntry]) -> Result<(), UnpackError> {
        let at = |name: &str| self.directory.path().join(format!("{name}{}", self.layers.len()));
        let (root, discarded) = (at("layer"), at("discarded"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&discarded).unwrap();
        let layer = Layer {
            root: &root,
            discarded: &discarded,
            lowers: &self.layers,
            limits: UnpackLimits::default(),
            cancelled: &|| false,
        };
        let outcome = unpack(&layer, archive(entries).as_slice());
        self.layers.insert(0, root);
        outcome.map(drop)
    }

    /// Everything beside the layers, with its content.
    fn host(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = entries
            .map(|path| (path.display().to_string(), Vec::new()))
            .collect();
        for entry in fs::read_dir(self.directory.path().join("outside")).unwrap() {
            let path = entry.unwrap().path();
            names.push((path.display().to_string(), fs::read(path).unwrap()));
        }
        names.sort();
        names
    }

    /// What the kernel shows of all layers: files with content, directories with none. The mount is never attached to
    /// anything and ends with its descriptor.
    fn merged(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let empty = self.directory.path().join("empty");
        fs::create_dir_all(&empty).unwrap();
        let lowers = self
            .layers
            .iter()
            .chain([&empty])
            .map(|path| path.display().to_string());
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        let lowers = lowers.collect::<Vec<_>>().join(":");
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", lowers).unwrap();
        rustix::mount::fsconfig_create(context.as_fd()).unwrap();
        let mount = rustix::mount::fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        );
        let mount = mount.unwrap();
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        let mut found = BTreeMap::new();
        let mut pending = vec![String::new()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(root.join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let path = if directory.is_empty() {
                    name
                } else {
                    format!("{directory}/{name}")
                };
                if entry.file_type().unwrap().is_dir() {
                    found.insert(path.clone(), None);
                    pending.push(path);
                } else {
                    found.insert(path, Some(fs::read(entry.path()).unwrap()));
                }
            }
        }
        found
    }
}

/// What a layer means, written down naively: paths to content (none for a directory).
#[derive(Default)]
struct Model {
    merged: BTreeMap<String, Option<Vec<u8>>>,
    /// Brought by the layer being applied.
    own: BTreeSet<String>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        let path = change.path();
        for (slash, _) in path.match_indices('/') {
            self.directory(&path[..slash]);
        }
        match change {
            Change::File(_, data) => {
                self.remove(path, true);
                self.merged.insert(path.to_owned(), Some(data.clone()));
                self.own.insert(path.to_owned());
            }
            Change::Directory(_) => self.directory(path),
            Change::Whiteout(_) => {
                if !self.own.contains(path) {
                    self.remove(path, true);
                } else if self.merged[path].is_none() {
                    self.remove_lower_below(path);
                }
            }
            Change::Opaque(_) => {
                self.directory(path);
                self.remove_lower_below(path);
            }
        }
    }

    fn directory(&mut self, path: &str) {
        if self.merged.get(path).is_none_or(Option::is_some) {
            self.remove(path, true);
            self.merged.insert(path.to_owned(), None);
        }
        self.own.insert(path.to_owned());
    }

    fn remove(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        let gone = |other: &String| (itself && other == path) || other.starts_with(&below);
        self.merged.retain(|other, _| !gone(other));
        self.own.retain(|other| !gone(other));
    }

    fn remove_lower_below(&mut self, path: &str) {
        let below = format!("{path}/");
        let own = &self.own;
        self.merged
            .retain(|other, _| !other.starts_with(&below) || own.contains(other));
    }

    /// Whether an own file stands where a directory is needed: unpacking refuses that.
    fn blocked(&self, change: &Change) -> bool {
        let whole = matches!(change, Change::Opaque(_)).then_some(change.path());
        let parents = change
            .path()
            .match_indices('/')
            .map(|(slash, _)| &change.path()[..slash]);
        parents
            .chain(whole)
            .any(|path| self.own.contains(path) && self.merged[path].is_some())
    }
}

#[derive(Debug, Clone)]
enum Change {
    File(String, Vec<u8>),
    Directory(String),
    Whiteout(String),
    Opaque(String),
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::File(path, _) | Self::Directory(path) | Self::Whiteout(path) | Self::Opaque(path) => path,
        }
    }

    fn entry(&self) -> RawEntry {
        match self {
            Self::File(path, data) => RawEntry {
                data: data.clone(),
                ..RawEntry::new(EntryType::Regular, path)
            },
            Self::Directory(path) => RawEntry::new(EntryType::Directory, path),
            Self::Whiteout(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                RawEntry::new(EntryType::Regular, &format!("{parent}/.wh.{name}"))
            }
            Self::Opaque(path) => RawEntry::new(EntryType::Regular, &format!("{path}/.wh..wh..opq")),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let path = || "[ab](/[ab]){0,2}";
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Change::File(path, vec![byte])),
        2 => path().prop_map(Change::Directory),
        2 => path().prop_map(Change::Whiteout),
        1 => path().prop_map(Change::Opaque),
    ]
}

fn hostile_entry() -> impl Strategy<Value = RawEntry> {
    let kind = prop_oneof![
        Just(EntryType::Regular),
        Just(EntryType::Directory),
        Just(EntryType::Symlink),
        Just(EntryType::Symlink),
        Just(EntryType::Link),
        Just(EntryType::Fifo),
    ];
    let name = "(/|\\.\\./)?(a|b|\\.wh\\.a|\\.\\.|\\.)(/(a|b|\\.wh\\.b|\\.wh\\.\\.wh\\.\\.opq|sentinel|\\.\\.)){0,3}";
    let target = "(/|(\\.\\./){1,4})?(a|b|outside|\\.|\\.\\.)(/(a|b|outside|sentinel|\\.\\.)){0,3}";
    (kind, name, target).prop_map(|(kind, path, link)| {
        let data = if kind == EntryType::Regular {
            b"evil".to_vec()
        } else {
            Vec::new()
        };
        RawEntry {
            kind,
            path,
            link,
            data,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_archive_touches_anything_outside_its_layer(
        lower in proptest::collection::vec(hostile_entry(), 0..8),
        upper in proptest::collection::vec(hostile_entry(), 0..12),
    ) {
        let mut sandbox = Sandbox::new();
        let _ = sandbox.add(&lower);
        let host: Vec<_> = sandbox.host();
        let below = snapshot(&sandbox.layers[0]);
        let _ = sandbox.add(&upper);
        let added = ["layer1", "discarded1"].map(|name| sandbox.directory.path().join(name).display().to_string());
        let after: Vec<_> = sandbox.host().into_iter().filter(|(path, _)| !added.contains(path)).collect();
        prop_assert_eq!(after, host);
        prop_assert_eq!(snapshot(&sandbox.layers[1]), below, "a lower layer was changed");
    }

    #[test]
    fn the_kernel_shows_what_two_layers_mean(
        lower in proptest::collection::vec(change(), 0..8),
        upper in proptest::collection::vec(change(), 0..10),
    ) {
        let mut sandbox = Sandbox::new();
        let mut model = Model::default();
        for changes in [lower, upper] {
            model.own.clear();
            let mut applied = Vec::new();
            for change in changes {
                if !model.blocked(&change) {
                    model.apply(&change);
                    applied.push(change.entry());
                }
            }
            sandbox.add(&applied).unwrap();
        }
        prop_assert_eq!(sandbox.merged(), model.merged);
    }
}

/// Names and kinds of everything in a layer.
fn snapshot(root: &Path) -> Vec<(PathBuf, u64, u32)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            found.push((path.clone(), metadata.ino(), metadata.mode()));
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}
