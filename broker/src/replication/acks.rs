//! The ACK reader: what one follower says, to the partitions that it is about.

use super::frame::{Frame, FrameError, MAX_FOLLOWER_FRAME};
use super::link::{FollowerLink, SILENCE_MAX};
use crate::partitions::{Input, Owners};
use tokio::io::BufReader;
use tokio::net::tcp::OwnedReadHalf;

/// Runs until the connection is gone, and says why.
pub(super) async fn run(from: OwnedReadHalf, link: &FollowerLink, owners: &Owners) -> Result<(), FrameError> {
    let mut from = BufReader::with_capacity(8 << 10, from);
    loop {
        let frame = Frame::read(&mut from, MAX_FOLLOWER_FRAME, SILENCE_MAX).await?;
        match frame {
            Frame::FromFollower { partition, leader_epoch, message } => owners.send(
                partition,
                Input::FromFollower {
                    partition,
                    follower: link.follower,
                    broker_epoch: link.broker_epoch,
                    leader_epoch,
                    stream: link.stream,
                    message,
                },
            ),
            Frame::Acks(acks) => {
                let (follower, broker_epoch, stream) = (link.follower, link.broker_epoch, link.stream);
                let input = |acks| Input::Acks { follower, broker_epoch, stream, acks };
                owners.send_shares(acks, |ack| ack.partition, input);
            }
            Frame::Credit { bytes } => {
                if link.credit.returned(bytes) {
                    owners.broadcast(|| Input::Writable { follower: link.follower });
                }
            }
            Frame::Ping => {}
            _ => return Err(FrameError::Magic),
        }
    }
}
