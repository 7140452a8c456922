//! How a valid frame is spoiled. Pure: the same random numbers give the same bytes.

use rand::Rng;

/// What was done to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mutation {
    Untouched,
    FlippedBits,
    RandomBytes,
    BlownUpCount,
    BlownUpVarint,
    Truncated,
    Shortened,
    Extended,
    Spliced,
    TruncatedWithOldLength,
    LyingLength,
    Noise,
}

const ALL: [Mutation; 12] = [
    Mutation::Untouched,
    Mutation::FlippedBits,
    Mutation::RandomBytes,
    Mutation::BlownUpCount,
    Mutation::BlownUpVarint,
    Mutation::Truncated,
    Mutation::Shortened,
    Mutation::Extended,
    Mutation::Spliced,
    Mutation::TruncatedWithOldLength,
    Mutation::LyingLength,
    Mutation::Noise,
];

/// The length prefix, the API key and its version are left alone where the mutation is meant for what is behind.
const HEAD: usize = 8;

/// A spoiled copy of `frame`; `other` is what it may be spliced with. Most mutations keep an honest length, so that
/// the bytes behind the frame are taken for the next one.
pub(super) fn mutate(random: &mut impl Rng, frame: &[u8], other: &[u8]) -> (Mutation, Vec<u8>) {
    // Lies about the length end a connection, and with it the frames behind: they are a small share.
    let mutation =
        if random.random_ratio(1, 20) { ALL[random.random_range(9..12)] } else { ALL[random.random_range(0..9)] };
    let mut bytes = frame.to_vec();
    match mutation {
        Mutation::Untouched => return (mutation, bytes),
        Mutation::FlippedBits => {
            for _ in 0..random.random_range(1..=8) {
                let at = random.random_range(4..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        Mutation::RandomBytes => {
            let (from, to) = stretch(random, bytes.len());
            random.fill(&mut bytes[from..to]);
        }
        Mutation::BlownUpCount => blow_up(random, &mut bytes),
        Mutation::BlownUpVarint => {
            let at = random.random_range(HEAD..=bytes.len());
            let varint: &[u8] = if random.random() { &[0xff, 0xff, 0xff, 0xff, 0x0f] } else { &[0xff; 10] };
            let replaced = if random.random() { (at + 1).min(bytes.len()) } else { at };
            bytes.splice(at..replaced, varint.iter().copied());
        }
        Mutation::Truncated => bytes.truncate(random.random_range(4..=frame.len())),
        Mutation::Shortened => {
            let (from, to) = stretch(random, bytes.len());
            bytes.drain(from..to);
        }
        Mutation::Extended => {
            let at = random.random_range(HEAD..=bytes.len());
            let extra: Vec<u8> = (0..random.random_range(1..64)).map(|_| random.random()).collect();
            bytes.splice(at..at, extra);
        }
        Mutation::Spliced => {
            bytes.truncate(random.random_range(HEAD..=frame.len()));
            bytes.extend_from_slice(&other[random.random_range(HEAD..=other.len())..]);
        }
        Mutation::TruncatedWithOldLength => {
            bytes.truncate(random.random_range(0..frame.len()));
            return (mutation, bytes);
        }
        Mutation::LyingLength => {
            let lie: i32 = *[i32::MAX, i32::MIN, -1, 0, 1, 3, 104_857_600, 104_857_601, random.random()]
                .get(random.random_range(0..9))
                .unwrap_or(&0);
            bytes[..4].copy_from_slice(&lie.to_be_bytes());
            return (mutation, bytes);
        }
        Mutation::Noise => {
            bytes = (0..random.random_range(1..256)).map(|_| random.random()).collect();
            return (mutation, bytes);
        }
    }
    let length = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    (mutation, bytes)
}

impl Mutation {
    /// Whether the frame's length is that of what is behind it.
    pub(super) fn is_honest(self) -> bool {
        self < Self::TruncatedWithOldLength
    }
}

/// Takes from a fetch that has got a long wait that wait: who attacks does not wait, and a broker may.
pub(super) fn hurry(frame: &mut [u8]) {
    const LONG: i32 = 1_000;
    if let Some(wait) = max_wait(frame)
        && i32::from_be_bytes(*wait) > LONG
    {
        *wait = 1_i32.to_be_bytes();
    }
}

/// Where a frame, if it is a fetch, says how long the broker may wait.
fn max_wait(frame: &mut [u8]) -> Option<&mut [u8; 4]> {
    let number = |at: usize| Some(i16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let (api, version, client_id) = (number(4)?, number(6)?, number(12)?);
    if api != 1 {
        return None;
    }
    // Tagged fields end the header of a flexible version, and the replica's id was the first field until 14.
    let tags = usize::from(version >= 12);
    let replica_id = if version <= 14 { 4 } else { 0 };
    let at = 14 + usize::try_from(client_id).unwrap_or(0) + tags + replica_id;
    frame.get_mut(at..at + 4)?.try_into().ok()
}

/// A stretch behind the head, of one byte at least where there is one.
fn stretch(random: &mut impl Rng, length: usize) -> (usize, usize) {
    let from = random.random_range(HEAD.min(length)..length);
    (from, (from + random.random_range(1..=16)).min(length))
}

/// Overwrites what may be a count or a length with one that nobody can have sent.
fn blow_up(random: &mut impl Rng, bytes: &mut [u8]) {
    let counts: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x7f, 0xff],
        &[0x00, 0x0f, 0x42, 0x40],
        &[0x80, 0, 0, 0],
        &[0x03, 0xff, 0xff, 0xff],
    ];
    let count = counts[random.random_range(0..counts.len())];
    let at = random.random_range(HEAD.min(bytes.len() - 1)..bytes.len());
    for (byte, value) in bytes[at..].iter_mut().zip(count) {
        *byte = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::collections::BTreeSet;

    const FRAME: [u8; 44] = {
        let mut frame = [7; 44];
        (frame[0], frame[1], frame[2], frame[3]) = (0, 0, 0, 40);
        frame
    };

    #[test]
    fn every_kind_of_mutation_happens_and_all_but_three_keep_an_honest_length() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            let (mutation, bytes) = mutate(&mut random, &FRAME, &FRAME);
            seen.insert(mutation);
            if mutation.is_honest() {
                let length = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                assert_eq!(length as usize, bytes.len() - 4, "{mutation:?}");
            }
        }
        assert_eq!(seen.len(), ALL.len());
    }

    #[test]
    fn a_fetch_that_would_wait_is_hurried_in_every_version() {
        use crate::harness::raw::frame;
        use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, RequestKind};
        use kafka_protocol::protocol::Message;
        for version in FetchRequest::VERSIONS.min..=FetchRequest::VERSIONS.max {
            let with = |wait| {
                let request = FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(wait);
                frame(ApiKey::Fetch, version, &RequestKind::Fetch(request)).expect("a fetch").to_vec()
            };
            let mut frame = with(i32::MAX);
            hurry(&mut frame);
            assert_eq!(frame, with(1), "version {version}");
            let mut short = with(1_000);
            hurry(&mut short);
            assert_eq!(short, with(1_000));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let once = || mutate(&mut SmallRng::seed_from_u64(42), &FRAME, &FRAME);
        assert_eq!(once(), once());
    }
}
