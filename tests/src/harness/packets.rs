//! Packets that the kernel's filter hands over (`NFQUEUE`), to be let go some time later, in their order: a line that is
//! longer. `tc`'s netem does the same, where a kernel has it, but for whole devices alone.

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read as _};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Packets that may wait: many times what goes over a line in its delay.
const WAITING_MAX: u32 = 100_000;

/// From `linux/socket.h`, `errno.h` and `linux/netlink.h`.
const AF_NETLINK: i32 = 16;
const ENOBUFS: i32 = 105;
const NETLINK_NETFILTER: i32 = 12;
const HEADER_BYTES: usize = 16;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const MESSAGE_ERROR: u16 = 2;
/// From `linux/netfilter/nfnetlink.h` and `nfnetlink_queue.h`.
const SUBSYSTEM: u16 = 3 << 8;
const FAMILY_HEADER_BYTES: usize = 4;
const MESSAGE_PACKET: u16 = 0;
const MESSAGE_CONFIG: u16 = 2;
const MESSAGE_VERDICT_BATCH: u16 = 3;
const CONFIG_COMMAND: u16 = 1;
const CONFIG_PARAMETERS: u16 = 2;
const CONFIG_LENGTH: u16 = 3;
const COMMAND_BIND: u8 = 1;
const COPY_META: u8 = 1;
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const ACCEPT: u32 = 1;

/// Delays each packet that the filter hands to the queue of this number by so much, to the end of this process. The number is
/// one of a network namespace that is the tests' own, and is taken once.
pub fn delay_by(number: u16, delay: Duration) -> Result<()> {
    let queue = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_NETFILTER)))?;
    let mut parameters = 0_u32.to_be_bytes().to_vec();
    parameters.push(COPY_META);
    for (kind, content) in [
        (CONFIG_COMMAND, vec![COMMAND_BIND, 0, 0, 0]),
        (CONFIG_PARAMETERS, parameters),
        (CONFIG_LENGTH, WAITING_MAX.to_be_bytes().to_vec()),
    ] {
        send_message(&queue, number, MESSAGE_CONFIG, REQUEST | ACKNOWLEDGE, kind, &content)?;
        let error = refusal(&queue)?;
        ensure!(error == 0, "the kernel has no queue of packets: error {error}");
    }
    let verdicts = queue.try_clone()?;
    let (came, due) = channel();
    thread::spawn(move || {
        if let Err(error) = receive(&queue, &came) {
            println!("packets are not received any more: {error:#}");
        }
    });
    thread::spawn(move || {
        if let Err(error) = let_go(&verdicts, number, &due, delay) {
            println!("packets are not let go any more: {error:#}");
        }
    });
    Ok(())
}

/// Sends a netlink message with one attribute.
fn send_message(queue: &Socket, number: u16, message: u16, flags: u16, kind: u16, content: &[u8]) -> Result<()> {
    let attribute = 4 + content.len();
    let padded = attribute.next_multiple_of(4);
    let length = HEADER_BYTES + FAMILY_HEADER_BYTES + padded;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend((SUBSYSTEM | message).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0, 0]);
    bytes.extend(number.to_be_bytes());
    bytes.extend((attribute as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(length, 0);
    // Without an address it goes to the kernel.
    let sent = queue.send(&bytes)?;
    ensure!(sent == length, "{sent} of {length} bytes were taken");
    Ok(())
}

fn receive(mut queue: &Socket, came: &Sender<(Instant, u32)>) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let bytes = match queue.read(&mut buffer) {
            Ok(bytes) => bytes,
            // Word of some packets is lost. They go with the next one.
            Err(error) if error.kind() == ErrorKind::Interrupted || error.raw_os_error() == Some(ENOBUFS) => continue,
            Err(error) => return Err(error).context("receive"),
        };
        if let Some(id) = packet(&buffer[..bytes]) {
            came.send((Instant::now(), id)).context("nobody lets packets go")?;
        }
    }
}

/// The error number in the kernel's answer to a command; 0 for none.
fn refusal(mut queue: &Socket) -> Result<i32> {
    let mut buffer = [0; 256];
    let bytes = queue.read(&mut buffer)?;
    let message = &buffer[..bytes];
    ensure!(field(message, 4) == Some(MESSAGE_ERROR), "no answer from the kernel");
    let code = message.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|code| code.try_into().ok());
    Ok(-code.map(i32::from_ne_bytes).context("an error number")?)
}

fn field(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes)
}

/// A packet's number, if the message is of one, and not of one that is gone: those that wait are dropped when the filter
/// changes.
fn packet(message: &[u8]) -> Option<u32> {
    if field(message, 4) != Some(SUBSYSTEM | MESSAGE_PACKET) {
        return None;
    }
    let mut at = HEADER_BYTES + FAMILY_HEADER_BYTES;
    loop {
        let (length, kind) = (field(message, at)?, field(message, at + 2)?);
        if kind == PACKET_HEADER {
            return message.get(at + 4..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        }
        at += usize::from(length.max(4)).next_multiple_of(4);
    }
}

/// Numbers ascend, and what is let go with one are all that came before.
fn let_go(queue: &Socket, number: u16, due: &Receiver<(Instant, u32)>, delay: Duration) -> Result<()> {
    while let Ok((came, id)) = due.recv() {
        thread::sleep((came + delay).saturating_duration_since(Instant::now()));
        let verdict = [ACCEPT.to_be_bytes(), id.to_be_bytes()].concat();
        send_message(queue, number, MESSAGE_VERDICT_BATCH, REQUEST, VERDICT_HEADER, &verdict)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + FAMILY_HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn a_packet_is_known_by_its_header_behind_other_attributes() {
        let mut attributes = [8_u16.to_ne_bytes(), 9_u16.to_ne_bytes()].concat();
        attributes.extend([0; 4]);
        attributes.extend([11_u16.to_ne_bytes(), PACKET_HEADER.to_ne_bytes()].concat());
        attributes.extend([0, 0, 1, 2, 8, 0, 2, 0]);
        assert_eq!(packet(&message(SUBSYSTEM | MESSAGE_PACKET, &attributes)), Some(258));
        assert_eq!(packet(&message(SUBSYSTEM | MESSAGE_PACKET, &[])), None);
    }

    #[test]
    fn what_is_said_of_a_packet_that_is_gone_is_no_packet() {
        assert_eq!(packet(&message(MESSAGE_ERROR, &[0; 8])), None);
    }
}
