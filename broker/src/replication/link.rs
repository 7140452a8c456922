//! The sending ends of replication connections, as partition owners have them, and the loop that writes.

use super::frame::{Ack, Frame, MAX_ACKS, MINOR_ACKS};
use bytes::{Bytes, BytesMut};
use chronik_core::ids::{BrokerEpoch, BrokerId, LeaderEpoch, TopicPartition};
use chronik_core::producers::MAX_ENCODED_LEN;
use chronik_core::replication::{FollowerMessage, LeaderMessage, StreamId};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

/// Record bytes on their way to one follower at most: in the queue, in the sockets, and at the follower
/// before its disk has them.
const CREDIT_BYTES: u64 = 8 << 20;
/// Of those, what was read for partitions in which the follower catches up, from the read's begin on. What is just being
/// written goes the same way and waits behind it, on the connection and for the follower's disk: so it is no more than keeps
/// both of them busy.
pub const CATCH_UP_BYTES: usize = 2 << 20;
/// What logs begin with may be so much beyond [`CREDIT_BYTES`]: who needs it waits in no queue, but asks again after a while,
/// and would find the credit used up by appends for as long as there are enough of them.
const BEGINNINGS_BYTES: u64 = MAX_ENCODED_LEN as u64;
/// What a follower is done with is worth a write of its own from so many bytes on. Less goes with what is written next, which
/// mostly is the acknowledgement of the same round, a moment later. A producer's largest batch, by default, is less.
const CREDIT_ALONE: u64 = CREDIT_BYTES / 8;
const _: () = assert!(
    CREDIT_ALONE <= CATCH_UP_BYTES as u64 / 2,
    "what a follower is done with and has not said must leave room to read more for it"
);
/// Frames gathered into one write.
const WRITE_FRAMES: usize = 256;
/// What is written when there is nothing to say, so that the peer knows that this side is there.
pub(super) const PING_EVERY: Duration = Duration::from_millis(250);
/// A peer that says nothing for this long is gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A leader's end of the connection to one follower.
#[derive(Clone, Debug)]
pub struct FollowerLink {
    /// Who is at the other end.
    pub follower: BrokerId,
    /// Its registration, as its handshake said.
    pub broker_epoch: BrokerEpoch,
    /// The connection.
    pub stream: StreamId,
    pub(super) frames: mpsc::UnboundedSender<Frame>,
    pub(super) credit: Arc<Credit>,
}

/// A follower's end of the connection to one leader. Its queue is bounded by what the leader's credits let
/// through: acknowledgements answer batches.
#[derive(Clone, Debug)]
pub struct LeaderLink {
    /// Who is at the other end.
    pub leader: BrokerId,
    /// The connection.
    pub stream: StreamId,
    frames: mpsc::UnboundedSender<Frame>,
    /// The leader reads many acknowledgements from one frame.
    takes_acks: bool,
    /// Acknowledgements that are to go together.
    acks: Vec<Ack>,
}

/// How much a leader may still send on one connection.
#[derive(Debug, Default)]
pub(super) struct Credit {
    sent: AtomicU64,
    done: AtomicU64,
    /// How much was sent in all when something was last sent that a log begins with.
    begun: AtomicU64,
    refused: AtomicBool,
    /// An owner got no room to catch up, and waits for some.
    behind: AtomicBool,
    catching_up: Mutex<CatchingUp>,
}

/// What is read for a follower that catches up, until it is on the follower's disk.
#[derive(Debug, Default)]
struct CatchingUp {
    /// Bytes that reads under way may bring.
    reading: u64,
    /// Bytes of reads that were sent, and how much was sent in all by then: what is done with is taken to be the first of it.
    sent: VecDeque<(u64, u64)>,
}

impl CatchingUp {
    fn bytes(&self) -> u64 {
        self.reading + self.sent.iter().map(|(bytes, _)| bytes).sum::<u64>()
    }

    /// Whether one more may be read for an owner that reads for so many `others`. The first read of each owner takes what
    /// there is: no owner must block another one for ever. More only take what that leaves.
    fn has_room(&self, bytes: u64, others: usize) -> bool {
        const ALL: u64 = CATCH_UP_BYTES as u64;
        self.bytes() <= if others == 0 { ALL.saturating_sub(bytes) } else { ALL / 2 }
    }
}

impl FollowerLink {
    /// Queues a message; false if the follower has as much on its way as it may have. What carries neither batches nor
    /// producers is always taken: it is small, and bounded by the subscriptions. `catches_up` says that it counts among what
    /// the follower catches up with.
    pub fn send(
        &self,
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        message: LeaderMessage,
        catches_up: bool,
    ) -> bool {
        let begins = matches!(message, LeaderMessage::BeginAt { .. });
        let frame = Frame::FromLeader { partition, leader_epoch, message };
        let bytes = frame.credit_bytes() as u64;
        let takes = || if begins { self.credit.take_to_begin(bytes) } else { self.credit.take(bytes) };
        if bytes > 0 && !takes() {
            return false;
        }
        if catches_up {
            self.credit.has_sent(bytes);
        }
        // A closed queue is a closed connection, of which the owner hears by another way.
        let _ = self.frames.send(frame);
        true
    }

    /// Whether somebody has been refused since there was last room.
    pub fn refuses(&self) -> bool {
        self.credit.refused.load(Ordering::SeqCst)
    }

    /// Whether `bytes` may be read for the follower to catch up with, for whom so many `others` are being read for the same
    /// owner. If not, [`Credit::returned`] will tell.
    pub fn may_catch_up(&self, bytes: usize, others: usize) -> bool {
        self.credit.may_catch_up(|all| all.has_room(bytes as u64, others))
    }

    /// The same, and counts them as being read if they may: [`Self::has_read`] must follow.
    pub fn begin_to_read(&self, bytes: usize, others: usize) -> bool {
        self.credit.may_catch_up(|all| {
            let may = all.has_room(bytes as u64, others);
            all.reading += if may { bytes as u64 } else { 0 };
            may
        })
    }

    /// A read of at most `wanted` bytes has ended, and what it brought was sent, or was not. True if others may have waited
    /// for that, of other owners too.
    pub fn has_read(&self, wanted: usize) -> bool {
        self.credit.has_read(wanted as u64)
    }
}

impl LeaderLink {
    /// The link to a leader that speaks this minor version.
    pub(super) fn new(leader: BrokerId, stream: StreamId, frames: mpsc::UnboundedSender<Frame>, minor: u16) -> Self {
        Self { leader, stream, frames, takes_acks: minor >= MINOR_ACKS, acks: Vec::new() }
    }

    /// Queues a message. An acknowledgement may wait for others, until [`Self::send_acks`], and for nothing but them: of
    /// one partition no message overtakes another.
    pub fn send(&mut self, partition: TopicPartition, leader_epoch: LeaderEpoch, message: FollowerMessage) {
        if let FollowerMessage::Ack { appended, durable, log_start: Some(log_start) } = message
            && self.takes_acks
        {
            self.acks.push(Ack { partition, leader_epoch, appended, durable, log_start });
            if self.acks.len() == MAX_ACKS {
                self.send_acks();
            }
            return;
        }
        self.send_acks();
        let _ = self.frames.send(Frame::FromFollower { partition, leader_epoch, message });
    }

    /// Queues the acknowledgements that wait, as one frame. A single one is cheaper by itself.
    pub fn send_acks(&mut self) {
        let frame = match &self.acks[..] {
            [] => return,
            [Ack { partition, leader_epoch, appended, durable, log_start }] => {
                let message =
                    FollowerMessage::Ack { appended: *appended, durable: *durable, log_start: Some(*log_start) };
                let frame = Frame::FromFollower { partition: *partition, leader_epoch: *leader_epoch, message };
                self.acks.clear();
                frame
            }
            _ => Frame::Acks(std::mem::take(&mut self.acks)),
        };
        let _ = self.frames.send(frame);
    }
}

impl Credit {
    /// Takes credit for `bytes`. One message is always allowed, however long.
    fn take(&self, bytes: u64) -> bool {
        let on_their_way = self.on_their_way();
        let others_wait = self.refused.load(Ordering::SeqCst);
        if on_their_way > 0 && (others_wait || on_their_way + bytes > CREDIT_BYTES) {
            self.refused.store(true, Ordering::SeqCst);
            // What was done meanwhile may have been the last of it: then nobody else would say so.
            if self.on_their_way() > 0 {
                return false;
            }
        }
        self.sent.fetch_add(bytes, Ordering::SeqCst);
        true
    }

    /// Takes credit for what a log begins with. If there is none, it is asked for again. Before those who wait for credit
    /// goes one at a time: the connection would never be half free for them otherwise.
    fn take_to_begin(&self, bytes: u64) -> bool {
        let on_their_way = self.on_their_way();
        let in_turn = !self.refused.load(Ordering::SeqCst)
            || self.done.load(Ordering::SeqCst) >= self.begun.load(Ordering::SeqCst);
        let may = on_their_way == 0 || (in_turn && on_their_way + bytes <= CREDIT_BYTES + BEGINNINGS_BYTES);
        if may {
            let sent = self.sent.fetch_add(bytes, Ordering::SeqCst) + bytes;
            self.begun.fetch_max(sent, Ordering::SeqCst);
        }
        may
    }

    fn may_catch_up(&self, room: impl Fn(&mut CatchingUp) -> bool) -> bool {
        let has_room = || !self.refused.load(Ordering::SeqCst) && room(&mut self.catching_up());
        if has_room() {
            return true;
        }
        self.behind.store(true, Ordering::SeqCst);
        // What came back meanwhile may have been the last of it: then nobody else would say so.
        has_room()
    }

    /// So many bytes for which credit was taken are what the follower catches up with.
    fn has_sent(&self, bytes: u64) {
        let sent = self.sent.load(Ordering::SeqCst);
        self.catching_up().sent.push_back((bytes, sent));
    }

    fn has_read(&self, wanted: u64) -> bool {
        {
            let mut all = self.catching_up();
            all.reading = all.reading.saturating_sub(wanted);
        }
        self.behind.swap(false, Ordering::SeqCst)
    }

    /// Without what the follower is done with.
    fn catching_up(&self) -> MutexGuard<'_, CatchingUp> {
        // Plain sums: a panic leaves nothing half done in them.
        let mut all = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.done.load(Ordering::SeqCst);
        while all.sent.front().is_some_and(|(_, sent)| *sent <= done) {
            all.sent.pop_front();
        }
        all
    }

    fn on_their_way(&self) -> u64 {
        self.sent.load(Ordering::SeqCst).saturating_sub(self.done.load(Ordering::SeqCst))
    }

    /// The follower says how many bytes it is done with since the start. True if somebody waits for credit, and should
    /// try again.
    pub(super) fn returned(&self, done: u64) -> bool {
        self.done.fetch_max(done.min(self.sent.load(Ordering::SeqCst)), Ordering::SeqCst);
        let half_free = self.on_their_way() <= CREDIT_BYTES / 2;
        let refused = half_free && self.refused.swap(false, Ordering::SeqCst);
        // Those who are behind look for themselves whether there is room for them.
        self.behind.swap(false, Ordering::SeqCst) || refused
    }
}

/// Credit for batches that a follower has received: goes back to the leader when dropped, which is when the
/// batches are on the disk, or were not wanted.
#[derive(Debug)]
pub struct BatchCredit {
    bytes: u64,
    account: Arc<CreditAccount>,
}

/// What a follower is done with on one connection.
#[derive(Debug, Default)]
pub(super) struct CreditAccount {
    done: AtomicU64,
    /// Of that, what the leader was told of.
    returned: AtomicU64,
    /// There is more than [`CREDIT_ALONE`] to tell of.
    much: Notify,
}

impl CreditAccount {
    pub(super) fn received(self: &Arc<Self>, bytes: usize) -> BatchCredit {
        BatchCredit { bytes: bytes as u64, account: Arc::clone(self) }
    }

    /// Waits until much more is done with than was returned.
    async fn has_much(&self) {
        while self.done.load(Ordering::Acquire) - self.returned.load(Ordering::Acquire) < CREDIT_ALONE {
            self.much.notified().await;
        }
    }

    /// What to tell the leader, if it is news.
    fn news(&self) -> Option<u64> {
        let done = self.done.load(Ordering::Acquire);
        (self.returned.swap(done, Ordering::AcqRel) != done).then_some(done)
    }
}

impl Drop for BatchCredit {
    fn drop(&mut self) {
        let done = self.account.done.fetch_add(self.bytes, Ordering::AcqRel) + self.bytes;
        // Whoever writes is woken for nothing else. Of credits that come back at once the last one sees all of them. The leader
        // may have been told of more meanwhile.
        if done.saturating_sub(self.account.returned.load(Ordering::Acquire)) >= CREDIT_ALONE {
            self.account.much.notify_one();
        }
    }
}

/// Writes what is queued until the queue's senders are gone, or the connection is; pings when idle. With an
/// account, returns credits.
pub(super) async fn write_loop(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::UnboundedReceiver<Frame>,
    account: Option<Arc<CreditAccount>>,
) -> io::Result<()> {
    let mut queued = Vec::with_capacity(WRITE_FRAMES);
    let mut small = BytesMut::new();
    let mut out: Vec<Bytes> = Vec::new();
    loop {
        tokio::select! {
            n = frames.recv_many(&mut queued, WRITE_FRAMES) => if n == 0 { return Ok(()) },
            () = has_much(account.as_deref()) => {}
            () = tokio::time::sleep(PING_EVERY) => queued.push(Frame::Ping),
        }
        queued.extend(account.as_deref().and_then(CreditAccount::news).map(|bytes| Frame::Credit { bytes }));
        for frame in queued.drain(..) {
            frame.encode(&mut small, &mut out);
        }
        if !small.is_empty() {
            out.push(small.split().freeze());
        }
        write_all(&mut to, &mut out).await?;
    }
}

async fn has_much(account: Option<&CreditAccount>) {
    match account {
        Some(account) => account.has_much().await,
        None => std::future::pending().await,
    }
}

/// Writes all chunks with as few calls as possible, without copying them together.
async fn write_all(to: &mut (impl AsyncWrite + Unpin), chunks: &mut Vec<Bytes>) -> io::Result<()> {
    const AT_ONCE: usize = 64;
    let mut next = 0;
    let mut offset = 0;
    while next < chunks.len() {
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        let mut used = 0;
        for (i, chunk) in chunks[next..].iter().take(AT_ONCE).enumerate() {
            slices[i] = IoSlice::new(if i == 0 { &chunk[offset..] } else { chunk });
            used += 1;
        }
        let mut written = to.write_vectored(&slices[..used]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while next < chunks.len() && written >= chunks[next].len() - offset {
            written -= chunks[next].len() - offset;
            next += 1;
            offset = 0;
        }
        offset += written;
    }
    chunks.clear();
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{Offset, PartitionId, TopicId};
    use std::task::{Context, Wake, Waker};

    #[test]
    fn credit_runs_out_and_comes_back() {
        let credit = Credit::default();
        assert!(credit.take(CREDIT_BYTES));
        assert!(!credit.take(1));
        assert!(!credit.returned(1), "more than half is still on its way");
        assert!(credit.returned(CREDIT_BYTES), "the one that was refused may go on");
        assert!(!credit.returned(CREDIT_BYTES), "once");
        assert!(credit.take(CREDIT_BYTES * 2), "one message is always allowed");
        assert!(!credit.take(1));
        assert!(credit.returned(u64::MAX), "all of it is back");
        assert!(credit.take(CREDIT_BYTES));
        assert!(!credit.take(1), "and no more than was sent");
    }

    fn catches_up(credit: &Credit, bytes: u64, others: usize) -> bool {
        let room = |all: &mut CatchingUp| {
            let may = all.has_room(bytes, others);
            all.reading += if may { bytes } else { 0 };
            may
        };
        credit.may_catch_up(room)
    }

    #[test]
    fn who_catches_up_leaves_room_for_others_and_goes_on_when_there_is_some() {
        const ALL: u64 = CATCH_UP_BYTES as u64;
        const READ: u64 = ALL / 4;
        let credit = Credit::default();
        assert!(credit.take(CREDIT_BYTES / 2), "what is being written");
        for _ in 0..3 {
            assert!(catches_up(&credit, READ, 0), "does not block who catches up");
        }
        assert!(!credit.returned(0), "nobody waits");
        assert!(!catches_up(&credit, READ, 1), "a second read leaves some");
        assert!(catches_up(&credit, READ, 0), "a first read takes what there is");
        assert!(!catches_up(&credit, READ, 0));
        assert!(credit.take(CREDIT_BYTES / 4), "what is just written is not blocked");
        assert!(credit.take(READ));
        credit.has_sent(READ);
        assert!(credit.has_read(READ), "others look whether there is room");
        assert!(!catches_up(&credit, READ, 0), "there is no more than before");
        assert!(credit.returned(CREDIT_BYTES * 3 / 4), "the ones that wait may go on");
        assert!(!catches_up(&credit, READ, 0), "it is not on the follower's disk yet");
        assert!(credit.returned(CREDIT_BYTES * 3 / 4 + READ));
        assert!(!credit.returned(CREDIT_BYTES * 3 / 4 + READ), "once");
        assert!(catches_up(&credit, READ, 0));
        assert!(credit.take(CREDIT_BYTES));
        assert!(!credit.take(1));
        assert!(!credit.has_read(READ), "nobody has begun to wait since");
        assert!(!catches_up(&credit, READ * 2, 0));
        assert!(credit.has_read(READ), "nothing is on its way that would say so later");
        for _ in 0..2 {
            credit.has_read(READ);
        }
        assert!(!catches_up(&credit, READ, 0), "those who were refused go first");
        assert!(credit.returned(u64::MAX));
        assert!(catches_up(&credit, ALL * 2, 0), "a first read may be of any length");
    }

    /// It is refused as the credit is used up, or the partition is gone by then: nothing is on its way that would give it
    /// back.
    #[test]
    fn what_was_read_and_never_sent_takes_no_room() {
        const ALL: u64 = CATCH_UP_BYTES as u64;
        let credit = Credit::default();
        for _ in 0..3 {
            assert!(catches_up(&credit, ALL, 0));
            credit.has_read(ALL);
        }
        assert!(catches_up(&credit, CREDIT_BYTES, 0), "of whatever length it is");
    }

    #[test]
    fn acknowledgements_go_together_and_no_message_overtakes_another() {
        let (frames, mut queue) = mpsc::unbounded_channel();
        let mut link = LeaderLink::new(BrokerId(1), StreamId(1), frames, MINOR_ACKS);
        let partition = |index| TopicPartition { topic: TopicId::default(), partition: PartitionId(index) };
        let send = |link: &mut LeaderLink, index| {
            let log_start = Some(Offset(0));
            let message = FollowerMessage::Ack { appended: Offset(2), durable: Offset(1), log_start };
            link.send(partition(index), LeaderEpoch(3), message);
        };
        (0..3).for_each(|index| send(&mut link, index));
        let subscribe = FollowerMessage::Subscribe { log_end: Offset(0), last_epoch: None, log_start: None };
        link.send(partition(0), LeaderEpoch(3), subscribe);
        (0..=2 * MAX_ACKS as i32).for_each(|index| send(&mut link, index));
        link.send_acks();
        link.send_acks();
        drop(link);
        let listed = |frame| match frame {
            Frame::Acks(acks) => Some(acks.len()),
            Frame::FromFollower { message: FollowerMessage::Ack { .. }, .. } => None,
            _ => Some(0),
        };
        let frames: Vec<_> = std::iter::from_fn(|| queue.try_recv().ok()).map(listed).collect();
        let (most, alone) = (Some(MAX_ACKS), None);
        assert_eq!(
            frames,
            [Some(3), Some(0), most, most, alone],
            "as many as a frame may have, and one without a list"
        );
    }

    /// Who asks for it waits in no queue: without room of its own it would have to come at a moment when there is some.
    #[test]
    fn what_a_log_begins_with_has_room_beside_as_many_appends_as_may_be_on_their_way() {
        let (frames, mut queue) = mpsc::unbounded_channel();
        let (follower, broker_epoch, stream) = (BrokerId(1), BrokerEpoch(1), StreamId(1));
        let link = FollowerLink { follower, broker_epoch, stream, frames, credit: Arc::default() };
        assert!(link.credit.take(CREDIT_BYTES) && !link.credit.take(1), "an append waits");
        let begin = |bytes: usize| {
            let partition = TopicPartition { topic: TopicId::default(), partition: PartitionId(0) };
            let message = LeaderMessage::BeginAt { at: Offset(7), producers: Some(vec![0_u8; bytes].into()) };
            link.send(partition, LeaderEpoch(3), message, false)
        };
        assert!(begin(MAX_ENCODED_LEN));
        assert!(!begin(1), "no more than that");
        assert!(queue.try_recv().is_ok() && queue.try_recv().is_err());
        assert!(link.credit.returned(CREDIT_BYTES), "the append goes on");
        assert!(link.credit.take(1) && begin(1));
    }

    #[test]
    fn one_beginning_at_a_time_goes_before_appends_that_wait() {
        let credit = Credit::default();
        assert!(credit.take_to_begin(1) && credit.take_to_begin(1), "nobody waits");
        assert!(credit.take(CREDIT_BYTES - 2) && !credit.take(1));
        assert!(!credit.take_to_begin(1), "those before are on their way");
        assert!(!credit.returned(2) && credit.take_to_begin(1) && !credit.take_to_begin(1));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A round that made little durable costs the follower one write, and the leader one read.
    #[tokio::test]
    async fn a_little_credit_goes_with_the_next_frame_and_much_at_once() {
        let account = Arc::new(CreditAccount::default());
        let little = CREDIT_ALONE - 1;
        drop(account.received(little as usize));
        {
            let mut much = std::pin::pin!(account.has_much());
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut context = Context::from_waker(&waker);
            assert!(much.as_mut().poll(&mut context).is_pending());
            drop(account.received(0));
            assert!(!woken.0.load(Ordering::Relaxed), "nobody is woken for a little");
            drop(account.received(1));
            assert!(woken.0.load(Ordering::Relaxed));
            assert!(much.as_mut().poll(&mut context).is_ready());
        }
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (frames, queue) = mpsc::unbounded_channel();
        account.done.store(little, Ordering::Release);
        frames.send(Frame::Refused { reason: String::new() }).unwrap();
        let both = async {
            let mut read = async || Frame::read(&mut far, 1 << 10, Duration::from_mins(1)).await.unwrap();
            (read().await, read().await)
        };
        let both = tokio::select! {
            both = both => both,
            ended = write_loop(near, queue, Some(Arc::clone(&account))) => panic!("{ended:?}"),
        };
        assert!(matches!(both, (Frame::Refused { .. }, Frame::Credit { bytes }) if bytes == little), "{both:?}");
    }

    #[tokio::test]
    async fn chunks_of_any_length_arrive_whole_over_a_narrow_pipe() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut chunks: Vec<Bytes> = (0..200_u8).map(|n| Bytes::from(vec![n; usize::from(n % 13)])).collect();
        let expected = chunks.concat();
        let write = tokio::spawn(async move {
            let mut near = near;
            write_all(&mut near, &mut chunks).await.unwrap();
        });
        let mut read = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut read).await.unwrap();
        write.await.unwrap();
        assert_eq!(read, expected);
    }
}
