//! Compiles `proto/` with protox, so that no protoc is needed, and writes the descriptor set that
//! reflection, `client` and the golden-descriptor test use.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "skproxy/v1/types.proto",
    "skproxy/v1/invoice_service.proto",
    "skproxy/v1/services.proto",
    "skproxy/admin/v1/access.proto",
    "skproxy/admin/v1/outbox.proto",
    "skproxy/admin/v1/report.proto",
    "skproxy/admin/v1/series.proto",
    "skproxy/admin/v1/admin_service.proto",
    "skproxy/authority/v1/authority_service.proto",
    "skproxy/authority/v1/package.proto",
    "skproxy/authority/v1/simulator_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::pb::codec::RawCodec")
        .bytes(".skproxy.authority.v1.BatchItem.invoice")
        // Keeps the outcome of one item of a stream small.
        .boxed(".skproxy.v1.Issued.budget")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
