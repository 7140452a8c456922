use super::*;
use chronik_core::record::RecordBatch;

fn wire(frame: &Frame) -> Vec<u8> {
    let (mut small, mut out) = (BytesMut::new(), Vec::new());
    frame.encode(&mut small, &mut out);
    out.push(small.freeze());
    out.concat()
}

fn batch() -> RecordBatch {
    let mut bytes = vec![0; 70];
    bytes[8..12].copy_from_slice(&58_i32.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::check(bytes.into()).unwrap()
}

fn acks(count: i32) -> Vec<Ack> {
    let ack = |n| Ack {
        partition: TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: PartitionId(n) },
        leader_epoch: LeaderEpoch(n + 1),
        appended: Offset(i64::from(n) + 2),
        durable: Offset(1),
        log_start: Offset(0),
    };
    (0..count).map(ack).collect()
}

fn frames() -> Vec<Frame> {
    let partition = TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition: PartitionId(3) };
    let leader_epoch = LeaderEpoch(5);
    let follower = |message| Frame::FromFollower { partition, leader_epoch, message };
    let leader = |message| Frame::FromLeader { partition, leader_epoch, message };
    let (high_watermark, log_start) = (Offset(9), Offset(6));
    let batches = |from| {
        let batches = vec![batch(), batch()];
        LeaderMessage::Batches { from: Offset(from), batches, high_watermark, log_start }
    };
    vec![
        Frame::Hello(Hello {
            cluster: ClusterId(uuid::Uuid::from_u128(1)),
            from: BrokerId(1),
            broker_epoch: BrokerEpoch(77),
            directory: DirectoryId(uuid::Uuid::from_u128(2)),
            to: BrokerId(2),
            stream: StreamId(4),
        }),
        Frame::Welcome { from: BrokerId(2), minor: MINOR },
        Frame::Refused { reason: "no".into() },
        Frame::Ping,
        Frame::Credit { bytes: 1 << 40 },
        follower(FollowerMessage::Subscribe { log_end: Offset(1), last_epoch: None, log_start: None }),
        follower(FollowerMessage::Subscribe {
            log_end: Offset(1),
            last_epoch: Some(LeaderEpoch(0)),
            log_start: Some(Offset(0)),
        }),
        Frame::Acks(acks(3)),
        follower(FollowerMessage::Ack { appended: Offset(2), durable: Offset(1), log_start: None }),
        follower(FollowerMessage::Ack { appended: Offset(2), durable: Offset(1), log_start: Some(Offset(1)) }),
        leader(LeaderMessage::Started { high_watermark, log_start }),
        leader(LeaderMessage::BeginAt { at: Offset(5), producers: None }),
        leader(LeaderMessage::BeginAt { at: Offset(5), producers: Some(Bytes::from_static(b"who wrote")) }),
        leader(LeaderMessage::Diverged { epoch: LeaderEpoch(2), end: Offset(8) }),
        leader(LeaderMessage::NotLeader { leader_epoch: LeaderEpoch(-1) }),
        leader(batches(0)),
        leader(batches(-300)),
        leader(LeaderMessage::HighWatermark { high_watermark, log_start }),
    ]
}

#[tokio::test]
async fn every_frame_is_read_back_as_it_was_written() {
    let all = frames();
    let bytes: Vec<u8> = all.iter().flat_map(wire).collect();
    let mut input = &bytes[..];
    for frame in &all {
        let read = Frame::read(&mut input, MAX_FRAME, Duration::from_secs(5)).await.unwrap();
        assert_eq!(format!("{read:?}"), format!("{frame:?}"));
    }
    assert!(input.is_empty());
}

/// Each step is a call at least. A connection has 16 KiB of a frame when it begins with it.
#[test]
fn a_megabyte_that_is_there_is_read_in_few_steps() {
    let steps = std::iter::successors(Some(16 << 10), |len| Some(len + growth(*len)));
    assert_eq!(steps.take_while(|len| *len < 1_000_000).count(), 2, "before the last one");
    assert_eq!((growth(0), growth(1 << 30)), (READ_FIRST, 1 << 30));
}

#[tokio::test]
async fn a_frame_cut_short_anywhere_is_an_error_and_no_panic() {
    for frame in frames() {
        let bytes = wire(&frame);
        for cut in 5..bytes.len() {
            let mut short = bytes[..cut].to_vec();
            assert!(Frame::read(&mut &short[..], MAX_FRAME, Duration::from_secs(5)).await.is_err());
            let length = (cut as u32 - 4).to_be_bytes();
            short[..4].copy_from_slice(&length);
            // A reason may be of any length; everything else must be whole.
            let read = Frame::read(&mut &short[..], MAX_FRAME, Duration::from_secs(5)).await;
            let cut_between_batches =
                matches!(&read, Ok(Frame::FromLeader { message: LeaderMessage::Batches { .. }, .. }));
            let cut_before_producers =
                matches!(&read, Ok(Frame::FromLeader { message: LeaderMessage::BeginAt { producers: None, .. }, .. }));
            let cut_before_start = matches!(
                &read,
                Ok(Frame::FromFollower {
                    message: FollowerMessage::Subscribe { log_start: None, .. }
                        | FollowerMessage::Ack { log_start: None, .. },
                    ..
                })
            );
            let cut_before_minor = matches!(&read, Ok(Frame::Welcome { minor: 0, .. }));
            let may_be_whole = cut_before_minor || cut_between_batches || cut_before_producers || cut_before_start;
            assert!(read.is_err() || matches!(frame, Frame::Refused { .. }) || may_be_whole, "{read:?}");
        }
    }
}

#[tokio::test]
async fn the_most_acknowledgements_make_the_longest_frame_of_a_follower() {
    let frame = Frame::Acks(acks(MAX_ACKS as i32));
    let bytes = wire(&frame);
    let read = Frame::read(&mut &bytes[..], MAX_FOLLOWER_FRAME, Duration::from_secs(5)).await.unwrap();
    assert_eq!(format!("{read:?}"), format!("{frame:?}"));
}

#[tokio::test]
async fn a_leader_of_a_former_release_names_no_minor_version_and_its_followers_read_none() {
    let bytes = wire(&Frame::Welcome { from: BrokerId(2), minor: MINOR });
    let former = [&5_u32.to_be_bytes()[..], &bytes[4..9]].concat();
    let read = Frame::read(&mut &former[..], MAX_FRAME, Duration::from_secs(5)).await.unwrap();
    assert!(matches!(read, Frame::Welcome { from: BrokerId(2), minor: 0 }), "{read:?}");
}

#[tokio::test]
async fn an_announced_length_beyond_the_limit_is_refused_before_anything_is_read() {
    let mut input = &[0xff_u8; 8][..];
    assert!(matches!(Frame::read(&mut input, MAX_FRAME, Duration::from_secs(5)).await, Err(FrameError::TooLong(_))));
}

#[tokio::test]
async fn more_producers_than_anybody_remembers_are_refused() {
    for (len, taken) in [(MAX_ENCODED_LEN, true), (MAX_ENCODED_LEN + 1, false)] {
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
        let message = LeaderMessage::BeginAt { at: Offset(1), producers: Some(vec![0; len].into()) };
        let bytes = wire(&Frame::FromLeader { partition, leader_epoch: LeaderEpoch(0), message });
        let read = Frame::read(&mut &bytes[..], MAX_FRAME, Duration::from_secs(5)).await;
        assert_eq!(read.is_ok(), taken, "{len} bytes");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_batch_is_noticed() {
    let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
    let message = LeaderMessage::Batches {
        from: Offset(0),
        batches: vec![batch()],
        high_watermark: Offset(0),
        log_start: Offset(0),
    };
    let mut bytes = wire(&Frame::FromLeader { partition, leader_epoch: LeaderEpoch(0), message });
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(Frame::read(&mut &bytes[..], MAX_FRAME, Duration::from_secs(5)).await, Err(FrameError::Batch(_))));
}
