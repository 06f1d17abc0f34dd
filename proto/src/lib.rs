//! The gRPC interface `earmark.v1`, generated from `proto/earmark/v1/*.proto`.
//!
//! The `.proto` files are the specification: every rpc and field is commented there, with unit
//! and range. This crate holds no logic, so that the server and its clients share it.

/// Messages, clients and servers of the package `earmark.v1`.
pub mod v1 {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        unreachable_pub,
        clippy::all,
        clippy::unwrap_used,
        clippy::allow_attributes_without_reason,
        reason = "generated code; documented in the .proto files"
    )]
    tonic::include_proto!("earmark.v1");
}

/// The encoded `FileDescriptorSet` of the package, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/earmark_v1.bin"));
