//! The WAL receiver: what one leader says, to the partitions that it is about.

use super::frame::{Frame, FrameError, MAX_FRAME};
use super::link::{CreditAccount, SILENCE_MAX};
use crate::partitions::{Input, Owners};
use chronik_core::replication::StreamId;
use std::sync::Arc;
use tokio::io::BufReader;
use tokio::net::tcp::OwnedReadHalf;

/// Runs until the connection is gone, and says why.
pub(super) async fn run(
    mut from: BufReader<OwnedReadHalf>,
    stream: StreamId,
    account: &Arc<CreditAccount>,
    owners: &Owners,
) -> Result<(), FrameError> {
    loop {
        let frame = Frame::read(&mut from, MAX_FRAME, SILENCE_MAX).await?;
        let bytes = frame.credit_bytes();
        match frame {
            Frame::FromLeader { partition, leader_epoch, message } => {
                let credit = (bytes > 0).then(|| account.received(bytes));
                owners.send(partition, Input::FromLeader { partition, leader_epoch, stream, message, credit });
            }
            Frame::Ping => {}
            _ => return Err(FrameError::Magic),
        }
    }
}
