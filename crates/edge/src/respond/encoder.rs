//! A body compressed as it passes: whenever the app pauses, what has come is sent.

use super::accept::Coding;
use crate::body::{Answer, Cut};
use crate::core::Core;
use crate::fields::Fields;
use crate::http1::body::{Piece, append};
use crate::http1::buffer::Buffer;
use flate2::write::GzEncoder;
use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bodies compressed at once on one core, each with up to 1.5 MB of state; more pass as they are.
const ENCODERS_MAX: u32 = 128;
/// For what is made anew at each request: most of the saving for a small part of the time.
const GZIP_LEVEL: u32 = 5;
const BR_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// 512 KiB: how far back a repetition is found, and most of what an encoder weighs.
const WINDOW_BITS: u32 = 19;
const BR_BUFFER_BYTES: usize = 4096;
/// An encoder's output that grew past this is given back.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How many encoders a core has.
pub type Count = Rc<Cell<u32>>;

struct Place(Count);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

enum Codec {
    Gzip(GzEncoder<Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Ended(Vec<u8>),
}

/// Sits between a body and whoever writes it.
pub struct Encoder {
    codec: Codec,
    trailers: Option<Fields>,
    /// Something went in that has not come out.
    holds: bool,
    ended: bool,
    bytes: u64,
    _place: Place,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("ended", &self.ended).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Encoder {
    /// `None`: the core has as many as it may.
    pub fn new(coding: Coding, count: &Count) -> Option<Encoder> {
        if count.get() >= ENCODERS_MAX {
            return None;
        }
        let codec = Codec::new(coding).ok()?;
        count.set(count.get() + 1);
        let place = Place(count.clone());
        Some(Encoder { codec, trailers: None, holds: false, ended: false, bytes: 0, _place: place })
    }

    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Appends what has come of `answer`'s body, compressed.
    pub fn poll(
        &mut self,
        answer: &mut Answer,
        cx: &mut Context<'_>,
        core: &Core,
        out: &mut Buffer,
        wrap: bool,
    ) -> Poll<Result<Piece, Cut>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(Piece::End(self.trailers.take())));
            }
            let mut plain = Buffer::default();
            let polled = answer.poll_plain(cx, core, &mut plain, false);
            let encoded = match &polled {
                Poll::Ready(Err(cut)) => return Poll::Ready(Err(*cut)),
                Poll::Pending if !self.holds => return Poll::Pending,
                Poll::Pending => self.codec.flush(),
                Poll::Ready(Ok(Piece::Data(_))) => self.codec.write(plain.filled()),
                Poll::Ready(Ok(Piece::End(_))) => self.codec.finish(),
            };
            let took = plain.len();
            plain.consume(took);
            core.buffers.release(&mut plain);
            if encoded.is_err() {
                return Poll::Ready(Err(Cut));
            }
            match polled {
                Poll::Ready(Ok(Piece::End(trailers))) => (self.ended, self.trailers) = (true, trailers),
                Poll::Ready(_) => self.holds |= took > 0,
                Poll::Pending => self.holds = false,
            }
            let size = self.codec.hand_over(|encoded| append(encoded, out, wrap, &core.buffers));
            self.bytes += size as u64;
            answer.count(self.bytes);
            if size > 0 {
                return Poll::Ready(Ok(Piece::Data(size)));
            }
        }
    }
}

impl Codec {
    fn new(coding: Coding) -> io::Result<Codec> {
        Ok(match coding {
            Coding::Gzip => Codec::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Coding::Br => {
                Codec::Br(Box::new(brotli::CompressorWriter::new(Vec::new(), BR_BUFFER_BYTES, BR_QUALITY, WINDOW_BITS)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW_BITS)?;
                Codec::Zstd(encoder)
            }
        })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Codec::Gzip(to) => to.write_all(data),
            Codec::Br(to) => to.write_all(data),
            Codec::Zstd(to) => to.write_all(data),
            Codec::Ended(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Codec::Gzip(to) => to.flush(),
            Codec::Br(to) => to.flush(),
            Codec::Zstd(to) => to.flush(),
            Codec::Ended(_) => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let last = match std::mem::replace(self, Codec::Ended(Vec::new())) {
            Codec::Gzip(to) => to.finish()?,
            Codec::Br(to) => to.into_inner(),
            Codec::Zstd(to) => to.finish()?,
            Codec::Ended(last) => last,
        };
        *self = Codec::Ended(last);
        Ok(())
    }

    fn hand_over(&mut self, to: impl FnOnce(&[u8])) -> usize {
        let made = match self {
            Codec::Gzip(of) => of.get_mut(),
            Codec::Br(of) => of.get_mut(),
            Codec::Zstd(of) => of.get_mut(),
            Codec::Ended(last) => last,
        };
        let size = made.len();
        if size > 0 {
            to(made);
        }
        made.clear();
        made.shrink_to(KEPT_BYTES_MAX);
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).map(drop),
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).map(drop),
            Coding::Zstd => zstd::stream::copy_decode(bytes, &mut out),
        }
        .expect("what we made can be read");
        out
    }

    proptest! {
        /// Whatever the pieces and wherever it is flushed, what comes out is what went in.
        #[test]
        fn a_body_in_pieces_comes_out_whole(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..12)
        ) {
            for coding in Coding::ALL {
                let mut codec = Codec::new(coding).expect("codec");
                let (mut expected, mut made) = (Vec::new(), Vec::new());
                for (piece, flush) in &pieces {
                    codec.write(piece).expect("write");
                    expected.extend_from_slice(piece);
                    if *flush {
                        codec.flush().expect("flush");
                    }
                    codec.hand_over(|bytes| made.extend_from_slice(bytes));
                }
                codec.finish().expect("finish");
                codec.hand_over(|bytes| made.extend_from_slice(bytes));
                prop_assert_eq!(plain(coding, &made), expected);
            }
        }
    }

    /// What was flushed can be read although more may come: nothing is held back.
    #[test]
    fn what_is_flushed_can_be_read_at_once() {
        for coding in Coding::ALL {
            let mut codec = Codec::new(coding).expect("codec");
            codec.write(b"first line\n").expect("write");
            codec.flush().expect("flush");
            let mut made = Vec::new();
            codec.hand_over(|bytes| made.extend_from_slice(bytes));
            let mut out = [0; 11];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&made[..]).read_exact(&mut out),
                Coding::Br => brotli::Decompressor::new(&made[..], 4096).read_exact(&mut out),
                Coding::Zstd => zstd::stream::read::Decoder::new(&made[..]).expect("decoder").read_exact(&mut out),
            }
            .unwrap_or_else(|e| panic!("{coding:?}: {e}"));
            assert_eq!(&out, b"first line\n", "{coding:?}");
        }
    }

    #[test]
    fn a_core_has_only_so_many() {
        let count = Count::default();
        let all: Vec<_> = (0..ENCODERS_MAX).map(|_| Encoder::new(Coding::Gzip, &count)).collect();
        assert!(all.iter().all(Option::is_some) && Encoder::new(Coding::Gzip, &count).is_none());
        drop(all);
        assert!(Encoder::new(Coding::Gzip, &count).is_some());
    }
}
