//! What records are read from: bytes in memory, or a stream that is decompressed as it is read.

use super::codecs::Decompress;

/// Why the next bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are not what they should be.
    Malformed(&'static str),
    /// The batch decompresses to more than is allowed.
    TooLong,
}

/// Bytes that are read once, from front to back.
pub(super) trait Input {
    /// Bytes read so far.
    fn position(&self) -> u64;

    /// The next byte.
    fn byte(&mut self) -> Result<u8, Fault>;

    /// Passes over bytes.
    fn skip(&mut self, count: u64) -> Result<(), Fault>;

    /// Whether that many bytes may still come; an input that cannot know says yes.
    fn may_have(&self, count: u64) -> bool;

    /// The end: whatever is left is one byte too many.
    fn finish(&mut self) -> Result<(), Fault>;
}

const ENDS_EARLY: Fault = Fault::Malformed("the records end early");
const TRAILING: Fault = Fault::Malformed("bytes follow the last record");

/// Records that are not compressed.
#[derive(Debug)]
pub(super) struct Slice<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl Input for Slice<'_> {
    #[inline]
    fn position(&self) -> u64 {
        (self.len - self.rest.len()) as u64
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.rest.split_first().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: u64) -> Result<(), Fault> {
        self.rest = usize::try_from(count).ok().and_then(|n| self.rest.get(n..)).ok_or(ENDS_EARLY)?;
        Ok(())
    }

    #[inline]
    fn may_have(&self, count: u64) -> bool {
        count <= self.rest.len() as u64
    }

    fn finish(&mut self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(TRAILING) }
    }
}

/// Records that are decompressed piece by piece: one piece is in memory at a time.
#[derive(Debug)]
pub(super) struct Stream<D> {
    from: D,
    piece: Vec<u8>,
    /// How much of `piece` is filled.
    filled: usize,
    /// How much of that is read.
    at: usize,
    /// Bytes in the pieces before this one.
    before: u64,
    /// Bytes that may come in all.
    max: u64,
}

impl<D: Decompress> Stream<D> {
    /// A stream that may have `max` bytes.
    pub(super) fn new(from: D, max: u64) -> Self {
        Self { from, piece: Vec::new(), filled: 0, at: 0, before: 0, max }
    }

    /// Goes on to the next piece; false at the end.
    #[cold]
    fn next(&mut self) -> Result<bool, Fault> {
        self.before += self.filled as u64;
        (self.filled, self.at) = (0, 0);
        let left = self.max - self.before;
        self.filled = self.from.next(&mut self.piece, left)?;
        if self.filled as u64 > left {
            return Err(Fault::TooLong);
        }
        Ok(self.filled > 0)
    }
}

impl<D: Decompress> Input for Stream<D> {
    #[inline]
    fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        if self.at == self.filled && !self.next()? {
            return Err(ENDS_EARLY);
        }
        let byte = self.piece[self.at];
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, mut count: u64) -> Result<(), Fault> {
        loop {
            let here = (self.filled - self.at) as u64;
            if count <= here {
                self.at += count as usize;
                return Ok(());
            }
            count -= here;
            if !self.next()? {
                return Err(ENDS_EARLY);
            }
        }
    }

    #[inline]
    fn may_have(&self, _count: u64) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), Fault> {
        // The decoders check what stands behind the data (checksums, end marks) when they are asked for more of it.
        if self.at < self.filled || self.next()? { Err(TRAILING) } else { Ok(()) }
    }
}

/// A zigzag varint of up to 32 bits: five bytes at most, as Kafka's `ByteUtils.readVarint`.
#[inline]
pub(super) fn varint(from: &mut impl Input) -> Result<i32, Fault> {
    let first = from.byte()?;
    if first < 0x80 {
        return Ok(i32::from(first >> 1) ^ -i32::from(first & 1));
    }
    let value = long_varint(from, first, 5)?;
    let value = u32::try_from(value).map_err(|_| Fault::Malformed("a varint of more than 32 bits"))?;
    Ok((value >> 1) as i32 ^ -((value & 1) as i32))
}

/// A zigzag varint of up to 64 bits: ten bytes at most, as Kafka's `ByteUtils.readVarlong`.
#[inline]
pub(super) fn varlong(from: &mut impl Input) -> Result<i64, Fault> {
    let first = from.byte()?;
    if first < 0x80 {
        return Ok(i64::from(first >> 1) ^ -i64::from(first & 1));
    }
    let value = long_varint(from, first, 10)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// The rest of a varint that has more than one byte.
fn long_varint(from: &mut impl Input, first: u8, max_bytes: u32) -> Result<u64, Fault> {
    let mut value = u64::from(first & 0x7f);
    for shift in (1..max_bytes).map(|n| n * 7) {
        let byte = from.byte()?;
        if shift == 63 && byte > 1 {
            return Err(Fault::Malformed("a varint of more than 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Fault::Malformed("a varint that does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_read_and_those_that_are_too_long_refused() {
        let long = |bytes: &[u8]| varlong(&mut Slice::new(bytes));
        let short = |bytes: &[u8]| varint(&mut Slice::new(bytes));
        assert_eq!(long(&[0x01]), Ok(-1));
        assert_eq!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(i64::MIN));
        assert_eq!(long(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(i64::MAX));
        assert!(long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(long(&[0xff; 11]).is_err());
        assert_eq!(short(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN));
        assert_eq!(short(&[0xac, 0x02]), Ok(150));
        assert!(short(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
        assert!(short(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).is_err());
        assert_eq!(short(&[0x80]), Err(ENDS_EARLY));
    }
}
