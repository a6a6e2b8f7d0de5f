//! The image that test pods run: Debian's static busybox, as `docker save` writes it.

use std::path::Path;

use cloudeck_testkit::image::docker_archive;
use serde_json::json;

/// Its name.
pub const BUSYBOX: &str = "example.test/busybox:1";

const APPLETS: &str = "sh cat cp date dd echo env false grep head hostname httpd id kill ln ls mkdir nc nslookup ps \
                       pwd readlink rm sed seq sleep stat stty tail tee test touch tr true tty wc wget";

/// The archive.
pub fn busybox() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("these tests need Debian's busybox-static");
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin/", "etc/", "tmp/", "www/"] {
        append(&mut layer, tar::EntryType::Directory, folder, b"", None);
    }
    append(&mut layer, tar::EntryType::Regular, "bin/busybox", &program, None);
    for name in APPLETS.split_ascii_whitespace() {
        append(
            &mut layer,
            tar::EntryType::Symlink,
            &format!("bin/{name}"),
            b"",
            Some(Path::new("busybox")),
        );
    }
    append(
        &mut layer,
        tar::EntryType::Regular,
        "etc/passwd",
        b"root:x:0:0:root:/:/bin/sh\n",
        None,
    );
    let layer = layer.into_inner().unwrap();
    docker_archive(
        BUSYBOX,
        &[layer],
        &json!({ "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"] }),
    )
}

fn append(
    layer: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    content: &[u8],
    link: Option<&Path>,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    match link {
        Some(target) => layer.append_link(&mut header, path, target).unwrap(),
        None => layer.append_data(&mut header, path, content).unwrap(),
    }
}
