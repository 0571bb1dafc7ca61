//! Kafka's variable-length numbers: zigzag, then seven bits a byte, the lowest first.

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`put`] appends.
pub(super) fn bytes(value: i64) -> usize {
    // At least one bit, also of 0.
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Takes a 64-bit number off the front. None when the bytes end or there are more than ten.
pub(super) fn take64(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if shift == 63 && low > 1 {
            return None;
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Takes a 32-bit number off the front. None when it does not fit one.
pub(super) fn take32(bytes: &mut &[u8]) -> Option<i32> {
    take64(bytes).and_then(|value| i32::try_from(value).ok())
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        let cases: [(i64, &[u8]); 9] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(bytes(value), expected.len(), "{value}");
        }
    }

    #[test]
    fn every_magnitude_comes_back() {
        for shift in 0..63 {
            for value in [1i64 << shift, -(1i64 << shift), (1i64 << shift) - 1, i64::MIN, i64::MAX] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(bytes(value), out.len(), "{value}");
                out.push(0xaa);
                let mut rest = out.as_slice();
                assert_eq!(take64(&mut rest), Some(value));
                assert_eq!(rest, [0xaa]);
                let mut rest = out.as_slice();
                assert_eq!(take32(&mut rest), i32::try_from(value).ok());
            }
        }
    }

    #[test]
    fn too_long_and_too_short() {
        let one_bit_too_many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        let cases: [&[u8]; 6] = [&[], &[0x80], &[0xff; 9], &[0xff; 10], &[0x80; 11], &one_bit_too_many];
        for mut bytes in cases {
            assert_eq!(take64(&mut bytes), None);
        }
    }
}
