//! Free ports on loopback. They lie below the range that the kernel gives to outgoing connections, or a client's
//! own socket might sit on a broker's port while that broker is down; and they come in blocks of which each belongs
//! to one process at a time, or another test might take the port of a broker that was killed a moment ago.

use anyhow::{Result, bail};
use rand::Rng;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u16 = 12_000;
const BLOCK: u16 = 25;
const BLOCKS: u16 = 800;

/// Ports of locked blocks that are still to be given away.
struct Stock {
    ports: Vec<u16>,
    /// The kernel releases a lock when the process that holds the file is gone.
    locks: Vec<File>,
}

static STOCK: Mutex<Stock> = Mutex::new(Stock { ports: Vec::new(), locks: Vec::new() });

/// A port that nobody listens on and that no test has been given.
pub fn free() -> Result<u16> {
    let mut stock = STOCK.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..10_000 {
        let Some(port) = stock.ports.pop() else {
            if let Some((lock, block)) = take_block()? {
                stock.locks.push(lock);
                stock.ports = (0..BLOCK).map(|n| FIRST + block * BLOCK + n).collect();
            }
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}

/// A random block, if nobody has it.
fn take_block() -> Result<Option<(File, u16)>> {
    let folder = std::env::temp_dir().join("chronik-test-ports");
    fs::create_dir_all(&folder)?;
    let block = rand::rng().random_range(0..BLOCKS);
    let lock = File::create(folder.join(block.to_string()))?;
    Ok(lock.try_lock().is_ok().then_some((lock, block)))
}

#[cfg(test)]
mod tests {
    use super::free;
    use std::collections::HashSet;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<_> = (0..100).map(|_| free().expect("a free port")).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 100);
    }
}
