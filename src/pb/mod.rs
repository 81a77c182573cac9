//! Generated code of `proto/`, and the codec that it uses. Holds no logic of its own.

pub mod codec;

/// The contract for platforms, `skproxy.v1`.
#[expect(
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::as_conversions,
    clippy::large_enum_variant,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("skproxy.v1");
}

/// The operators' contract, `skproxy.admin.v1`.
pub mod admin {
    /// Version 1.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        clippy::as_conversions,
        reason = "generated"
    )]
    pub mod v1 {
        tonic::include_proto!("skproxy.admin.v1");
    }
}

/// The acceptance side's contract, `skproxy.authority.v1`.
pub mod authority {
    /// Version 1.
    #[expect(
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        clippy::as_conversions,
        reason = "generated"
    )]
    pub mod v1 {
        tonic::include_proto!("skproxy.authority.v1");
    }
}

/// The encoded `FileDescriptorSet` of everything in `proto/`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
