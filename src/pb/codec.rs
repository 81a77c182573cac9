//! The gRPC codec: prost, and the undecoded bytes of the message beside it.
//!
//! Message signatures are checked over the bytes that the caller sent, so a handler must be able to
//! see them. tonic's decoder can hand on the message alone; the bytes therefore go into a
//! task-local slot that `with_raw_message` opens around the call.

use bytes::{Buf as _, Bytes};
use prost::Message;
use std::{cell::RefCell, future::Future, marker::PhantomData};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

tokio::task_local! {
    static RAW: RefCell<Bytes>;
}

/// Runs `call` with a slot for the raw bytes of the message being handled.
pub async fn with_raw_message<F: Future>(call: F) -> F::Output {
    RAW.scope(RefCell::new(Bytes::new()), call).await
}

/// The undecoded bytes of the message decoded last in this call; empty outside `with_raw_message`.
#[must_use]
pub fn raw_message() -> Bytes {
    RAW.try_with(|slot| slot.borrow().clone()).unwrap_or_default()
}

/// Prost codec that keeps the raw bytes of what it decodes.
#[derive(Debug)]
pub struct RawCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for RawCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for RawCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = RawDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RawDecoder(PhantomData)
    }
}

/// Decodes a message and remembers its bytes.
#[derive(Debug)]
pub struct RawDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for RawDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let raw = source.copy_to_bytes(source.remaining());
        let message = U::decode(raw.clone()).map_err(|error| crate::status::malformed(&error))?;
        // Outside a server call (our own clients) there is no slot, and nothing wants the bytes.
        drop(RAW.try_with(|slot| slot.replace(raw)));
        Ok(Some(message))
    }
}
