//! The keys that somebody at the terminal presses.

use std::io::Read as _;
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The broker above is the chosen one now.
    Up,
    /// The broker below.
    Down,
    /// The broker with this number.
    Number(i32),
    /// Kill the chosen broker, as a crash would.
    Kill,
    /// Stop it, as its service manager would.
    Stop,
    /// Start it again.
    Start,
    /// End everything.
    End,
}

/// The keys, as they are pressed. They are read by a thread of its own, which ends with the process: a read of a terminal
/// cannot be taken back.
pub(super) fn pressed() -> mpsc::UnboundedReceiver<Key> {
    let (to, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(read @ 1..) = std::io::stdin().read(&mut bytes) {
            for key in decode(&bytes[..read]) {
                if to.send(key).is_err() {
                    return;
                }
            }
        }
    });
    keys
}

/// The keys in what a terminal sends at once.
fn decode(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        match first {
            // An arrow is ESC [ A, or ESC O A; other keys of this kind mean nothing, and neither do their letters.
            0x1b => {
                if let [b'[' | b'O', rest @ ..] = bytes {
                    let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
                    match end.map(|end| &rest[..=end]) {
                        Some([b'A']) => keys.push(Key::Up),
                        Some([b'B']) => keys.push(Key::Down),
                        _ => {}
                    }
                    bytes = end.map_or(&[], |end| &rest[end + 1..]);
                }
            }
            b'0'..=b'9' => keys.push(Key::Number(i32::from(first - b'0'))),
            b'k' => keys.push(Key::Kill),
            b's' => keys.push(Key::Stop),
            b'a' => keys.push(Key::Start),
            b'q' => keys.push(Key::End),
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_numbers_and_letters_are_keys_and_nothing_else_is() {
        for (bytes, keys) in [
            (&b"k"[..], &[Key::Kill][..]),
            (b"2sa", &[Key::Number(2), Key::Stop, Key::Start]),
            (b"\x1b[A\x1b[B\x1bOA", &[Key::Up, Key::Down, Key::Up]),
            (b"\x1b[3~k", &[Key::Kill]),
            (b"\x1b[1;5A\x1b", &[]),
            (b"\x1b[", &[]),
            (b"xyz\n \xff", &[]),
            (b"q", &[Key::End]),
        ] {
            assert_eq!(decode(bytes), keys, "{bytes:?}");
        }
    }
}
