//! With the feature `full`, packs what the crate `k8s-openapi` says about every type into one compressed file.

#[cfg(feature = "full")]
#[path = "build/kinds.rs"]
mod kinds;
#[cfg(feature = "full")]
#[path = "src/layout.rs"]
mod layout;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/layout.rs");
    #[cfg(feature = "full")]
    pack();
}

#[cfg(feature = "full")]
fn pack() {
    use std::io::Write as _;

    let text = layout::write(&kinds::described_types());
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed
        .write_all(text.as_bytes())
        .expect("writing to memory cannot fail");
    let packed = packed.finish().expect("writing to memory cannot fail");
    let directory = std::env::var_os("OUT_DIR").expect("cargo names the directory");
    let file = std::path::Path::new(&directory).join("descriptions.z");
    std::fs::write(file, packed).expect("the directory that cargo made takes a file");
}
