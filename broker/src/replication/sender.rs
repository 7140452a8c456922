//! The sender worker: writes a leader's messages to one follower.

use super::frame::Frame;
use super::link::write_loop;
use std::io;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

/// Runs until the connection is gone. Only record batches take much room in the queue, and those are bounded by
/// the connection's credit.
pub(super) async fn run(to: OwnedWriteHalf, frames: mpsc::UnboundedReceiver<Frame>) -> io::Result<()> {
    write_loop(to, frames, None).await
}
