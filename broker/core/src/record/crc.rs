//! CRC-32C of bytes that follow others, from the CRCs of both: what has been read once to be checked is not read again.
//!
//! A CRC is the remainder of its bytes as a polynomial. Bytes that follow multiply what is before them by x to the power of
//! their bits, so the CRC before is multiplied by that and the one of what follows added (zlib's `crc32_combine`). The
//! complements that CRC-32C begins and ends with cancel each other.

/// The polynomial, with the bits of a byte in the order in which CRC-32C has them: x^0 is the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^8 to the power of 2^n: so many zero bytes.
static ZERO_BYTES: [u32; 32] = {
    let mut powers = [1 << 23; 32];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = multiplied(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// The product of two polynomials, as a remainder.
const fn multiplied(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 0 { 0 } else { POLYNOMIAL };
        bit >>= 1;
    }
    product
}

/// The CRC-32C of bytes whose CRC-32C is `before`, and of `len` bytes after them, whose own is `after`. It takes about as
/// long as computing that of ten kilobytes.
pub(super) fn combined(before: u32, after: u32, len: u32) -> u32 {
    let powers = ZERO_BYTES.iter().enumerate().filter(|(n, _)| (len >> n) & 1 != 0).map(|(_, power)| *power);
    powers.fold(before, multiplied) ^ after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crc32c::{crc32c, crc32c_append, crc32c_combine};

    #[test]
    fn two_crcs_give_that_of_both_together() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for at in [0, 1, 21, 4_096, 65_535, 99_999, 100_000] {
            let (before, after) = bytes.split_at(at);
            let found = combined(crc32c(before), crc32c(after), after.len() as u32);
            assert_eq!(found, crc32c_append(crc32c(before), after), "{at}");
        }
    }

    #[test]
    fn any_length_is_taken() {
        for len in [1, 0x8000_0000, u32::MAX] {
            assert_eq!(combined(0x1234_5678, 0x9abc_def0, len), crc32c_combine(0x1234_5678, 0x9abc_def0, len as usize));
        }
    }
}
