//! A body as it comes over an HTTP/1 connection, of either side: decoded, and framed anew for where it goes.

use super::buffer::{Buffer, Buffers, READ_BYTES};
use super::framing::{Chunks, Framing, Step, chunk_head};
use crate::fields::Fields;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncRead;

/// Decoded bytes gathered before they are written.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// What is still to come of a body.
#[derive(Debug)]
pub enum Remaining {
    Nothing,
    Length(u64),
    Chunked(Box<Chunks>),
    UntilClose,
}

/// What a poll of a body brought.
#[derive(Debug)]
pub enum Piece {
    /// So many bytes of the body, framed where that was asked for, were appended.
    Data(usize),
    /// That was all. Trailers, if there were any.
    End(Option<Fields>),
}

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The other side is gone, or never was as far as it said.
    Gone,
    /// What it sent is no body.
    Malformed,
}

impl Remaining {
    pub fn new(framing: Framing) -> Remaining {
        match framing {
            Framing::Absent | Framing::Length(0) => Remaining::Nothing,
            Framing::Length(length) => Remaining::Length(length),
            Framing::Chunked => Remaining::Chunked(Box::default()),
            Framing::UntilClose => Remaining::UntilClose,
        }
    }

    pub fn framing(&self) -> Framing {
        match self {
            Remaining::Nothing => Framing::Absent,
            Remaining::Length(length) => Framing::Length(*length),
            Remaining::Chunked(_) => Framing::Chunked,
            Remaining::UntilClose => Framing::UntilClose,
        }
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Remaining::Nothing)
    }

    /// Appends what there is to `out`; `input` is what was read before. `wrap`: as chunks.
    pub fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        input: &mut Buffer,
        out: &mut Buffer,
        wrap: bool,
        buffers: &Buffers,
    ) -> Poll<Result<Piece, Broken>> {
        match self {
            Remaining::Nothing => Poll::Ready(Ok(Piece::End(None))),
            Remaining::Length(left) => {
                let max = usize::try_from(*left).unwrap_or(usize::MAX);
                let size = if input.is_empty() && !wrap {
                    ready!(out.poll_read(cx, from, max, buffers)).map_err(|_| Broken::Gone)?
                } else {
                    if input.is_empty() {
                        ready!(input.poll_read(cx, from, max, buffers)).map_err(|_| Broken::Gone)?;
                    }
                    move_into(input, max, out, wrap, buffers)
                };
                if size == 0 {
                    return Poll::Ready(Err(Broken::Gone));
                }
                *left -= size as u64;
                if *left == 0 {
                    *self = Remaining::Nothing;
                }
                Poll::Ready(Ok(Piece::Data(size)))
            }
            Remaining::Chunked(chunks) => {
                if input.is_empty() && !chunks.is_ended() {
                    let read = ready!(input.poll_read(cx, from, READ_BYTES, buffers)).map_err(|_| Broken::Gone)?;
                    if read == 0 {
                        return Poll::Ready(Err(Broken::Gone));
                    }
                }
                match gather(chunks, input, out, wrap, buffers)? {
                    0 if chunks.is_ended() => {
                        let trailers = chunks.trailers().map_err(|_| Broken::Malformed)?;
                        *self = Remaining::Nothing;
                        Poll::Ready(Ok(Piece::End(trailers)))
                    }
                    size => Poll::Ready(Ok(Piece::Data(size))),
                }
            }
            Remaining::UntilClose => {
                if input.is_empty() {
                    let read = ready!(input.poll_read(cx, from, READ_BYTES, buffers)).map_err(|_| Broken::Gone)?;
                    if read == 0 {
                        *self = Remaining::Nothing;
                        return Poll::Ready(Ok(Piece::End(None)));
                    }
                }
                Poll::Ready(Ok(Piece::Data(move_into(input, usize::MAX, out, wrap, buffers))))
            }
        }
    }
}

/// Appends bytes of a body, as a chunk where that is asked for.
pub fn append(data: &[u8], out: &mut Buffer, wrap: bool, buffers: &Buffers) {
    if !wrap {
        return out.put(data, buffers);
    }
    if !data.is_empty() {
        let (head, size) = chunk_head(data.len());
        out.put(&head[..size], buffers);
        out.put(data, buffers);
        out.put(b"\r\n", buffers);
    }
}

/// Appends the end of a chunked body.
pub fn append_end(trailers: Option<&Fields>, out: &mut Buffer, buffers: &Buffers) {
    let Some(trailers) = trailers else { return out.put(super::framing::LAST_CHUNK, buffers) };
    let mut text = b"0\r\n".to_vec();
    trailers.write(&mut text);
    text.extend_from_slice(b"\r\n");
    out.put(&text, buffers);
}

fn move_into(input: &mut Buffer, max: usize, out: &mut Buffer, wrap: bool, buffers: &Buffers) -> usize {
    let size = input.len().min(max);
    append(&input.filled()[..size], out, wrap, buffers);
    input.consume(size);
    buffers.release(input);
    size
}

/// Decodes what has been read. 0 without an end: only framing has come so far.
fn gather(
    chunks: &mut Chunks,
    input: &mut Buffer,
    out: &mut Buffer,
    wrap: bool,
    buffers: &Buffers,
) -> Result<usize, Broken> {
    let mut gathered = 0;
    while !input.is_empty() && gathered < GATHERED_BYTES_MAX {
        match chunks.step(input.filled()).map_err(|_| Broken::Malformed)? {
            Step::Framing(size) => input.consume(size),
            Step::Data(size) => {
                append(&input.filled()[..size], out, wrap, buffers);
                input.consume(size);
                gathered += size;
            }
            Step::Ended => break,
        }
        if chunks.is_ended() {
            break;
        }
    }
    buffers.release(input);
    Ok(gathered)
}
