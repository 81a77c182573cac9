//! A server connection's stream between TLS and HTTP/2: gives back the preface that the handshake
//! read, and lingers when it closes.
//!
//! Closing a socket that holds unread bytes (a ping, a window update) makes the kernel send a
//! reset, and a reset can destroy an answer that the client has not read yet. So after the last
//! byte and the close notice, what still arrives is read and dropped until the client closes too,
//! or a second has passed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a closing connection waits for its client to close.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes dropped in one read while lingering.
const SCRATCH_LEN: usize = 1024;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Session<T> {
    inner: T,
    /// What the reader gets before the stream's own bytes.
    ahead: &'static [u8],
    /// Runs once the write side is closed.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<T> Session<T> {
    /// Wraps `inner`, of which `ahead` was read already.
    pub(super) fn new(inner: T, ahead: &'static [u8]) -> Self {
        Self { inner, ahead, lingering: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Session<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        let (now, later) = this.ahead.split_at(this.ahead.len().min(buffer.remaining()));
        buffer.put_slice(now);
        this.ahead = later;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Session<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let lingering = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scratch = [0; SCRATCH_LEN];
        loop {
            if lingering.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer));
            // A client that resets now has what it wanted.
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_the_handshake_read_comes_first() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut session = Session::new(near, b"PRI");
        far.write_all(b" and the rest").await.unwrap();
        drop(far);
        let mut first = [0; 2];
        session.read_exact(&mut first).await.unwrap();
        let mut rest = String::new();
        session.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&first, rest.as_str()), (b"PR", "I and the rest"));
    }

    #[tokio::test]
    async fn a_closing_session_waits_for_its_client_to_close() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut session = Session::new(near, b"");
        let client = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            far.write_all(&[0; 4096]).await.unwrap();
            drop(far);
            all
        };
        let server = async {
            session.write_all(b"answer").await.unwrap();
            session.shutdown().await.unwrap();
        };
        let (all, ()) = tokio::join!(client, server);
        assert_eq!(all, b"answer");
    }

    #[tokio::test]
    async fn a_closing_session_does_not_wait_for_ever() {
        let (near, far) = tokio::io::duplex(64);
        let mut session = Session::new(near, b"");
        let closed = tokio::time::timeout(LINGER * 60, session.shutdown()).await;
        assert!(closed.expect("lingering ends by itself").is_ok());
        drop(far);
    }
}
