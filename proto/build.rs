//! Generates the gRPC code without `protoc`, where the feature `wire` asks for it.
#![allow(clippy::disallowed_methods, reason = "a build script is no part of the pure room beside it")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "wire")]
    generate()?;
    Ok(())
}

#[cfg(feature = "wire")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    use prost::Message;

    let files = ["dictionary", "snapshot", "cluster", "replication"].map(|file| format!("heirloom/v1/{file}.proto"));
    let set = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("heirloom.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}
