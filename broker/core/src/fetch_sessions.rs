//! Fetch sessions (KIP-227): what a reader asks of its partitions is kept between its requests. A request names only
//! what is different this time, and an answer only the partitions of which there is something to say.

#[cfg(test)]
mod tests;

use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The epoch of a request that asks for a session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants none.
pub const FINAL_EPOCH: i32 = -1;
/// The id of no session.
pub const NO_SESSION: i32 = 0;

/// A session that has not been used for so long gives way to any other; one that has been there for as long, to one
/// with more partitions.
const EVICTABLE_AFTER: Duration = Duration::from_mins(2);
/// What a partition takes in a session, in bytes, besides its topic's name.
const PARTITION_BYTES: usize = 240;
/// What a session without partitions takes.
const SESSION_BYTES: usize = 256;

/// A topic as the requests of a session name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// Before version 13.
    Name(Arc<str>),
    /// From version 13 on (KIP-516).
    Id(Uuid),
}

/// A partition as the requests of a session name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// Its topic.
    pub topic: TopicKey,
    /// Its index.
    pub index: i32,
}

/// What is asked of a partition, as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The first offset wanted.
    pub offset: i64,
    /// Bytes at most.
    pub max_bytes: i32,
    /// The leader epoch that the client knows of; -1 for none.
    pub current_epoch: i32,
    /// The epoch of the client's last record; -1 for none.
    pub last_epoch: i32,
}

/// What an answer says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The high watermark.
    pub high_watermark: i64,
    /// The log's first offset.
    pub log_start: i64,
    /// Whether there are records.
    pub records: bool,
    /// An error, or a truncation: always said, and what comes after it as well.
    pub failed: bool,
}

/// A request, as far as sessions are concerned.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// The session; [`NO_SESSION`] for none.
    pub id: i32,
    /// Which of the session's requests it is.
    pub epoch: i32,
    /// Whether it names topics by their ids.
    pub uses_ids: bool,
    /// Partitions that are new, or of which something else is asked; or all of them, in a full request.
    pub asked: Vec<(PartitionKey, Asked)>,
    /// Partitions that are not wanted any more.
    pub forgotten: Vec<PartitionKey>,
}

/// What a request turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Context {
    /// Complete in itself, and no session comes of it.
    Sessionless,
    /// Complete in itself; its answer may begin a session.
    Full,
    /// One of a session.
    Incremental {
        /// What the session asks.
        partitions: Vec<SessionPartition>,
        /// What is counted for it until [`FetchSessions::end`] is told.
        bytes: usize,
    },
}

/// A partition of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPartition {
    /// Its place in the session's order.
    pub place: u64,
    /// Which.
    pub key: PartitionKey,
    /// What is asked of it.
    pub asked: Asked,
}

/// Why a request cannot be one of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It is not there, or not any more.
    #[error("no such fetch session")]
    NotFound,
    /// The session expects another epoch.
    #[error("another epoch of the fetch session is next")]
    InvalidEpoch,
    /// A session's topics are named in one way.
    #[error("the fetch session names topics the other way")]
    TopicId,
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    max_bytes: usize,
    bytes: usize,
    /// Bytes of the sessions whose requests are being answered, also of those that are over.
    asking: usize,
    sessions: HashMap<i32, Session>,
    by_use: BTreeSet<(Instant, i32)>,
    /// Those that have been there for long, the smallest first.
    by_size: BTreeSet<(usize, i32)>,
}

#[derive(Debug)]
struct Session {
    uses_ids: bool,
    /// That of the next request.
    epoch: i32,
    created: Instant,
    used: Instant,
    /// In the order in which they are read. One that had records goes to the end: a reader whose answers are full must
    /// not read some partitions only.
    partitions: BTreeMap<u64, Cached>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
    bytes: usize,
    /// A request of it is being answered.
    asking: bool,
}

#[derive(Debug)]
struct Cached {
    key: PartitionKey,
    asked: Asked,
    bytes: usize,
    high_watermark: i64,
    log_start: i64,
}

impl FetchSessions {
    /// No sessions, of which there may be so many (`max.incremental.fetch.session.cache.slots`), which may take so
    /// many bytes together.
    pub fn new(slots: usize, max_bytes: usize) -> Self {
        Self {
            slots,
            max_bytes,
            bytes: 0,
            asking: 0,
            sessions: HashMap::new(),
            by_use: BTreeSet::new(),
            by_size: BTreeSet::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a request in. One of a session takes a few bytes, and its answer as much as the session: each session is
    /// asked once at a time, as a client that waits for its answers does.
    pub fn begin(&mut self, now: Instant, request: SessionRequest) -> Result<Context, SessionError> {
        let SessionRequest { id, epoch, uses_ids, asked, forgotten } = request;
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            // A session that a full request names is over.
            self.remove(id);
            return Ok(if epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Full });
        }
        let session = self.sessions.get_mut(&id).ok_or(SessionError::NotFound)?;
        if session.epoch != epoch || session.asking {
            return Err(SessionError::InvalidEpoch);
        }
        if session.uses_ids != uses_ids {
            return Err(SessionError::TopicId);
        }
        self.by_use.remove(&(session.used, id));
        self.by_size.remove(&(session.partitions.len(), id));
        self.bytes -= session.bytes;
        session.update(asked, &forgotten);
        self.bytes += session.bytes;
        session.epoch = next_epoch(epoch);
        session.used = now;
        self.index(id);
        if self.sessions[&id].partitions.is_empty() {
            self.remove(id);
            return Ok(Context::Sessionless);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Err(SessionError::NotFound) };
        // Those who are asked and over may take as much again.
        if self.bytes > self.max_bytes || self.asking + session.bytes > self.max_bytes {
            // Without a session the client goes on with full requests.
            self.remove(id);
            return Err(SessionError::NotFound);
        }
        session.asking = true;
        self.asking += session.bytes;
        Ok(Context::Incremental { partitions: session.asked(), bytes: session.bytes })
    }

    /// A request of a session is answered, or nobody waits for that any more; `bytes` are those of its
    /// [`Context::Incremental`].
    pub fn end(&mut self, id: i32, bytes: usize) {
        self.asking -= bytes;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.asking = false;
        }
    }

    /// Makes a session of a full request and its answer, with an id that `draw` gives. Without room for it there is
    /// none ([`NO_SESSION`]).
    pub fn create(
        &mut self,
        now: Instant,
        mut draw: impl FnMut() -> i32,
        uses_ids: bool,
        partitions: impl IntoIterator<Item = (PartitionKey, Asked, PartitionState)>,
    ) -> i32 {
        let mut session = Session::new(now, uses_ids);
        for (key, asked, state) in partitions {
            session.ask(key.clone(), asked);
            if let Some(cached) = session.places.get(&key).and_then(|place| session.partitions.get_mut(place)) {
                cached.update(state);
            }
            if session.bytes > self.max_bytes {
                return NO_SESSION;
            }
        }
        while self.sessions.len() >= self.slots || self.bytes + session.bytes > self.max_bytes {
            if !self.evict_for(session.partitions.len(), now) {
                return NO_SESSION;
            }
        }
        let id = loop {
            let id = draw();
            if id > NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.bytes += session.bytes;
        self.sessions.insert(id, session);
        self.index(id);
        id
    }

    /// Takes the state of each partition that the session asked for, in their order, and returns which of them have to
    /// be in the answer, as something about them has changed.
    pub fn answer(&mut self, id: i32, states: &[(u64, PartitionState)]) -> Vec<bool> {
        let Some(session) = self.sessions.get_mut(&id) else { return vec![true; states.len()] };
        states.iter().map(|(place, state)| session.note(*place, *state)).collect()
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.bytes -= session.bytes;
            self.by_use.remove(&(session.used, id));
            self.by_size.remove(&(session.partitions.len(), id));
        }
    }

    fn index(&mut self, id: i32) {
        let Some(session) = self.sessions.get(&id) else { return };
        self.by_use.insert((session.used, id));
        if session.used.since(session.created) > EVICTABLE_AFTER {
            self.by_size.insert((session.partitions.len(), id));
        }
    }

    /// Makes room for a session with so many partitions, if there is one that is worth less.
    fn evict_for(&mut self, partitions: usize, now: Instant) -> bool {
        let Some(&(used, oldest)) = self.by_use.first() else { return false };
        if now.since(used) > EVICTABLE_AFTER {
            self.remove(oldest);
            return true;
        }
        match self.by_size.first() {
            Some(&(size, smallest)) if size < partitions => {
                self.remove(smallest);
                true
            }
            _ => false,
        }
    }
}

/// The epoch after that one.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl Session {
    fn new(now: Instant, uses_ids: bool) -> Self {
        Self {
            uses_ids,
            epoch: next_epoch(INITIAL_EPOCH),
            created: now,
            used: now,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
            bytes: SESSION_BYTES,
            asking: false,
        }
    }

    fn asked(&self) -> Vec<SessionPartition> {
        let of = |(place, cached): (&u64, &Cached)| SessionPartition {
            place: *place,
            key: cached.key.clone(),
            asked: cached.asked,
        };
        self.partitions.iter().map(of).collect()
    }

    fn update(&mut self, asked: Vec<(PartitionKey, Asked)>, forgotten: &[PartitionKey]) {
        for (key, asked) in asked {
            self.ask(key, asked);
        }
        for key in forgotten {
            if let Some(cached) = self.places.remove(key).and_then(|place| self.partitions.remove(&place)) {
                self.bytes -= cached.bytes;
            }
        }
    }

    fn ask(&mut self, key: PartitionKey, asked: Asked) {
        if let Some(cached) = self.places.get(&key).and_then(|place| self.partitions.get_mut(place)) {
            cached.asked = asked;
            return;
        }
        let bytes = PARTITION_BYTES + self.name_bytes(&key.topic);
        self.bytes += bytes;
        self.places.insert(key.clone(), self.next_place);
        self.partitions.insert(self.next_place, Cached { key, asked, bytes, high_watermark: -1, log_start: -1 });
        self.next_place += 1;
    }

    /// Bytes of a name that the partition before does not share.
    fn name_bytes(&self, topic: &TopicKey) -> usize {
        let TopicKey::Name(name) = topic else { return 0 };
        match self.partitions.last_key_value().map(|(_, last)| &last.key.topic) {
            Some(TopicKey::Name(last)) if Arc::ptr_eq(last, name) => 0,
            _ => name.len(),
        }
    }

    fn note(&mut self, place: u64, state: PartitionState) -> bool {
        // Forgotten meanwhile, which a client does not do that waits for its answers.
        let Some(cached) = self.partitions.get_mut(&place) else { return true };
        let changed = cached.update(state);
        if state.records
            && let Some(cached) = self.partitions.remove(&place)
        {
            if let Some(place) = self.places.get_mut(&cached.key) {
                *place = self.next_place;
            }
            self.partitions.insert(self.next_place, cached);
            self.next_place += 1;
        }
        changed
    }
}

impl Cached {
    /// Whether the client does not know all of this yet.
    fn update(&mut self, state: PartitionState) -> bool {
        let changed = self.high_watermark != state.high_watermark || self.log_start != state.log_start;
        // After a failure the client knows nothing, so that the next answer says whether it is over.
        self.high_watermark = if state.failed { -1 } else { state.high_watermark };
        self.log_start = state.log_start;
        changed || state.records || state.failed
    }
}
