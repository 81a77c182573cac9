//! Flush coalescing: many small flushes of one connection become one system call.
//!
//! h2 flushes after almost every frame, and a TLS stream turns each write into a record and a
//! system call; that was half of the cost of a call. Here writes gather in a buffer, and a flush is
//! only marked: the connection's task is woken, and what gathered leaves when the task is polled
//! again, together with what other calls added meanwhile. The wrapper sits outside the TLS stream,
//! so that one record holds it.
//!
//! Invariant: a flush that answered `Pending` has woken its task (or the stream below will), so
//! whoever polls it until `Ready`, as `AsyncWrite` asks, has his bytes sent without another event
//! from outside.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that gathers before it is sent without a flush: two full TLS records. Unit: bytes.
const GATHERED_MAX: usize = 32 * 1024;

/// What an idle connection keeps of its buffer. Unit: bytes.
const GATHERED_KEPT: usize = 8 * 1024;

/// Wraps a stream and lets flushes coalesce.
#[derive(Debug)]
pub struct CoalesceIo<T> {
    inner: T,
    gathered: Vec<u8>,
    /// How much of `gathered` the stream below has taken already.
    taken: usize,
    /// A flush was asked for and its task woken; the next one is carried out.
    marked: bool,
}

impl<T> CoalesceIo<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, gathered: Vec::new(), taken: 0, marked: false }
    }

    /// The wrapped stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    fn room(&self) -> usize {
        GATHERED_MAX.saturating_sub(self.gathered.len())
    }

    fn gather(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.gathered.extend_from_slice(&bytes[..count]);
        count
    }
}

impl<T: AsyncWrite + Unpin> CoalesceIo<T> {
    /// Hands everything gathered to the stream below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.gathered.len() {
            let rest = &self.gathered[self.taken..];
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken = self.taken.saturating_add(count);
        }
        self.gathered.clear();
        self.gathered.shrink_to(GATHERED_KEPT);
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least one byte, sending what gathered when there is none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.room() == 0 {
            return self.poll_drain(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CoalesceIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        Poll::Ready(Ok(this.gather(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        let mut count: usize = 0;
        for part in parts {
            let gathered = this.gather(part);
            count = count.saturating_add(gathered);
            if gathered < part.len() {
                break;
            }
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // With nothing gathered there is nothing to coalesce with: what TLS itself holds leaves
        // now.
        if !this.marked && !this.gathered.is_empty() {
            this.marked = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(this.poll_drain(cx))?;
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        this.marked = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for CoalesceIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::VecDeque, future::poll_fn, task::Waker, time::Duration};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Counts what reaches it; takes at most `window` bytes until it is opened again.
    #[derive(Debug, Default)]
    struct Below {
        received: Vec<u8>,
        writes: usize,
        flushes: usize,
        shut: bool,
        window: Option<usize>,
        waiting: Option<Waker>,
    }

    impl Below {
        fn open(&mut self, window: usize) {
            self.window = Some(window);
            if let Some(waker) = self.waiting.take() {
                waker.wake();
            }
        }
    }

    impl AsyncWrite for Below {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = self.window.map_or(bytes.len(), |window| window.min(bytes.len()));
            if count == 0 {
                self.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.window = self.window.map(|window| window - count);
            self.received.extend_from_slice(&bytes[..count]);
            self.writes += 1;
            Poll::Ready(Ok(count))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn write_now(io: &mut CoalesceIo<Below>, cx: &mut Context<'_>, bytes: &[u8]) {
        let written = Pin::new(io).poll_write(cx, bytes);
        assert!(matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()));
    }

    /// Runs a task as h2 does: in each poll it writes one queued part, if any, and flushes; it ends
    /// when nothing is queued and a flush is through. Nothing from outside wakes it.
    async fn drive(parts: &[&[u8]]) -> Below {
        let mut io = CoalesceIo::new(Below::default());
        let mut queue: VecDeque<&[u8]> = parts.iter().copied().collect();
        let run = poll_fn(|cx| {
            if let Some(part) = queue.pop_front() {
                write_now(&mut io, cx, part);
            }
            let flushed = Pin::new(&mut io).poll_flush(cx);
            if !queue.is_empty() && flushed.is_ready() {
                cx.waker().wake_by_ref();
            }
            if queue.is_empty() { flushed } else { Poll::Pending }
        });
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .expect("it ends by itself")
            .unwrap();
        io.inner
    }

    #[tokio::test]
    async fn what_was_written_and_flushed_arrives_without_another_event() {
        for (parts, flushes) in [
            (&[b"a".as_slice()][..], 1),
            (&[b"a", b"b"], 1),
            (&[b"a", b"b", b"c"], 2),
            (&[b"a", b"b", b"c", b"d"], 2),
        ] {
            let below = drive(parts).await;
            assert_eq!(below.received, parts.concat());
            assert_eq!((below.writes, below.flushes), (flushes, flushes), "{} parts", parts.len());
        }
    }

    #[tokio::test]
    async fn a_flush_with_nothing_gathered_goes_straight_through() {
        let mut io = CoalesceIo::new(Below::default());
        let flushed = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_flush(cx))).await;
        assert!(flushed.is_ready());
        assert_eq!((io.inner.writes, io.inner.flushes), (0, 1));
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_gathered() {
        let mut io = CoalesceIo::new(Below::default());
        io.write_all(b"last words").await.unwrap();
        assert!(io.inner.received.is_empty());
        io.shutdown().await.unwrap();
        assert_eq!(io.inner.received, b"last words");
        assert!(io.inner.shut);
    }

    #[tokio::test]
    async fn a_full_stream_below_holds_the_writer_back_and_loses_nothing() {
        let mut io = CoalesceIo::new(Below { window: Some(0), ..Below::default() });
        let sent: Vec<u8> = (0..=250).cycle().take(GATHERED_MAX * 2).collect();
        let taken = io.write(&sent).await.unwrap();
        assert_eq!(taken, GATHERED_MAX, "the buffer has a bound");
        poll_fn(|cx| {
            assert!(Pin::new(&mut io).poll_write(cx, &sent[taken..]).is_pending());
            assert!(io.inner.waiting.is_some(), "the stream below knows whom to wake");
            Poll::Ready(())
        })
        .await;
        io.inner.open(1000);
        poll_fn(|cx| {
            assert!(Pin::new(&mut io).poll_write(cx, &sent[taken..]).is_pending());
            Poll::Ready(())
        })
        .await;
        io.inner.open(usize::MAX);
        io.write_all(&sent[taken..]).await.unwrap();
        io.flush().await.unwrap();
        assert_eq!(io.inner.received, sent);
    }

    #[tokio::test]
    async fn a_flush_waits_for_a_full_stream_below() {
        let mut io = CoalesceIo::new(Below { window: Some(3), ..Below::default() });
        poll_fn(|cx| {
            write_now(&mut io, cx, b"abcdef");
            for _ in 0..3 {
                assert!(Pin::new(&mut io).poll_flush(cx).is_pending());
            }
            assert_eq!(io.inner.received, b"abc");
            io.inner.open(100);
            Pin::new(&mut io).poll_flush(cx)
        })
        .await
        .unwrap();
        assert_eq!((io.inner.received.as_slice(), io.inner.flushes), (b"abcdef".as_slice(), 1));
    }

    #[tokio::test]
    async fn a_vectored_write_gathers_every_part() {
        let mut io = CoalesceIo::new(Below::default());
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        assert!(io.is_write_vectored());
        assert_eq!(io.write_vectored(&parts).await.unwrap(), 4);
        io.flush().await.unwrap();
        assert_eq!((io.inner.received.as_slice(), io.inner.writes), (b"abcd".as_slice(), 1));
    }

    #[tokio::test]
    async fn both_ways_work_over_a_small_pipe() {
        let (near, far) = tokio::io::duplex(100);
        let (mut near, mut far) = (CoalesceIo::new(near), CoalesceIo::new(far));
        let sent = vec![7; 300_000];
        let send = async {
            near.write_all(&sent).await.unwrap();
            near.flush().await.unwrap();
            let mut answer = [0; 2];
            near.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ok");
        };
        let receive = async {
            let mut received = vec![0; sent.len()];
            far.read_exact(&mut received).await.unwrap();
            far.write_all(b"ok").await.unwrap();
            far.flush().await.unwrap();
            assert_eq!(received, sent);
        };
        let both = async { tokio::join!(send, receive) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("no side is stuck");
    }
}
