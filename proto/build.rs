//! Compiles the `.proto` files without needing `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["admin.proto", "instance.proto", "link.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    // What is forwarded, or opaque to whoever forwards it, is not copied.
    let opaque = [
        ".starling.link.v1.Batch.body",
        ".starling.link.v1.Stanza",
        ".starling.link.v1.Request",
        ".starling.link.v1.Response",
        ".starling.link.v1.Notice",
    ];
    let configured = opaque.iter().fold(tonic_prost_build::configure(), |builder, path| builder.bytes(path));
    configured.compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}
