use super::*;

const MINUTE: u64 = 60_000_000;
const ROOM: usize = 1 << 20;
const QUIET: PartitionState = PartitionState { high_watermark: 5, log_start: 0, records: false, failed: false };

fn key(topic: u128, index: i32) -> PartitionKey {
    PartitionKey { topic: TopicKey::Id(Uuid::from_u128(topic)), index }
}

fn asked(offset: i64) -> Asked {
    Asked { offset, max_bytes: 100, current_epoch: -1, last_epoch: -1 }
}

fn request(id: i32, epoch: i32) -> SessionRequest {
    SessionRequest { id, epoch, uses_ids: true, asked: Vec::new(), forgotten: Vec::new() }
}

/// A session with the partitions `0..partitions` of topic 1, all of which have been answered.
fn create(sessions: &mut FetchSessions, minute: u64, id: i32, partitions: i32) -> i32 {
    let partitions = (0..partitions).map(|index| (key(1, index), asked(0), QUIET));
    sessions.create(Instant(minute * MINUTE), || id, true, partitions)
}

fn places(context: &Context) -> Vec<(i32, i64, u64)> {
    let Context::Incremental { partitions, .. } = context else { panic!("{context:?}") };
    partitions.iter().map(|p| (p.key.index, p.asked.offset, p.place)).collect()
}

/// The answer to a request of session 7 is made.
fn end(sessions: &mut FetchSessions, context: &Context) {
    if let Context::Incremental { bytes, .. } = context {
        sessions.end(7, *bytes);
    }
}

/// An incremental request without changes, and its answer to all of its partitions.
fn fetch(sessions: &mut FetchSessions, epoch: i32, states: &[PartitionState]) -> (Vec<i32>, Vec<bool>) {
    let context = sessions.begin(Instant(0), request(7, epoch)).expect("the session is there");
    let places = places(&context);
    let answers: Vec<_> = places.iter().zip(states).map(|((_, _, place), state)| (*place, *state)).collect();
    end(sessions, &context);
    (places.iter().map(|(index, ..)| *index).collect(), sessions.answer(7, &answers))
}

#[test]
fn a_request_is_taken_for_what_its_id_and_epoch_say() {
    let table = [
        (0, -1, true, Ok(Context::Sessionless), true),
        (0, 0, true, Ok(Context::Full), true),
        // A full request ends the session that it names.
        (7, -1, true, Ok(Context::Sessionless), false),
        (7, 0, true, Ok(Context::Full), false),
        (8, 1, true, Err(SessionError::NotFound), true),
        (0, 1, true, Err(SessionError::NotFound), true),
        (7, 2, true, Err(SessionError::InvalidEpoch), true),
        (7, -2, true, Err(SessionError::InvalidEpoch), true),
        (7, 1, false, Err(SessionError::TopicId), true),
        (7, 2, false, Err(SessionError::InvalidEpoch), true),
    ];
    for (id, epoch, uses_ids, expected, stays) in table {
        let mut sessions = FetchSessions::new(10, ROOM);
        assert_eq!(create(&mut sessions, 0, 7, 1), 7);
        let got = sessions.begin(Instant(0), SessionRequest { uses_ids, ..request(id, epoch) });
        assert_eq!(got, expected, "id {id} epoch {epoch}");
        assert_eq!(sessions.len(), usize::from(stays), "id {id} epoch {epoch}");
    }
}

#[test]
fn epochs_count_up_and_begin_at_one_again() {
    let mut sessions = FetchSessions::new(10, ROOM);
    create(&mut sessions, 0, 7, 1);
    for epoch in 1..4 {
        let context = sessions.begin(Instant(0), request(7, epoch)).expect("the expected epoch");
        end(&mut sessions, &context);
        assert_eq!(sessions.begin(Instant(0), request(7, epoch)), Err(SessionError::InvalidEpoch));
    }
    assert_eq!([0, 1, i32::MAX].map(next_epoch), [1, 2, 1]);
}

#[test]
fn a_request_adds_changes_and_forgets_partitions() {
    let mut sessions = FetchSessions::new(10, ROOM);
    create(&mut sessions, 0, 7, 3);
    let asked = vec![(key(1, 1), asked(9)), (key(2, 5), asked(1))];
    let forgotten = vec![key(1, 0), key(3, 0)];
    let context =
        sessions.begin(Instant(0), SessionRequest { asked, forgotten, ..request(7, 1) }).expect("the expected epoch");
    assert_eq!(places(&context), [(1, 9, 1), (2, 0, 2), (5, 1, 3)]);
    end(&mut sessions, &context);
    // A session that has nothing left is over.
    let forgotten = vec![key(1, 1), key(1, 2), key(2, 5)];
    let context = sessions.begin(Instant(0), SessionRequest { forgotten, ..request(7, 2) });
    assert_eq!((context, sessions.len(), sessions.bytes()), (Ok(Context::Sessionless), 0, 0));
}

#[test]
fn an_answer_says_only_what_the_client_does_not_know() {
    let failed = PartitionState { high_watermark: -1, log_start: -1, records: false, failed: true };
    let table = [
        ("nothing new", QUIET, false),
        ("records", PartitionState { records: true, ..QUIET }, true),
        ("another high watermark", PartitionState { high_watermark: 6, ..QUIET }, true),
        ("another start", PartitionState { log_start: 1, ..QUIET }, true),
        ("an error", failed, true),
        ("a truncation", PartitionState { failed: true, ..QUIET }, true),
    ];
    for (name, state, included) in table {
        let mut sessions = FetchSessions::new(10, ROOM);
        create(&mut sessions, 0, 7, 2);
        assert_eq!(fetch(&mut sessions, 1, &[QUIET, state]).1, [false, included], "{name}");
        // Once it is known it is not said again, but errors are, and their end.
        let (again, end) = if state.failed { (true, true) } else { (state.records, state != QUIET && !state.records) };
        let order = fetch(&mut sessions, 2, &[QUIET, state]);
        assert_eq!(order.1[1], again, "{name}");
        assert_eq!(fetch(&mut sessions, 3, &[QUIET, QUIET]).1[1], end, "{name}");
    }
}

#[test]
fn a_partition_that_is_new_to_the_session_is_answered() {
    let mut sessions = FetchSessions::new(10, ROOM);
    create(&mut sessions, 0, 7, 1);
    let more = SessionRequest { asked: vec![(key(2, 0), asked(0))], ..request(7, 1) };
    let context = sessions.begin(Instant(0), more).expect("the expected epoch");
    let answers: Vec<_> = places(&context).iter().map(|(_, _, place)| (*place, QUIET)).collect();
    assert_eq!(sessions.answer(7, &answers), [false, true]);
}

#[test]
fn a_partition_that_had_records_is_read_last_the_next_time() {
    let mut sessions = FetchSessions::new(10, ROOM);
    create(&mut sessions, 0, 7, 3);
    let records = PartitionState { records: true, ..QUIET };
    assert_eq!(fetch(&mut sessions, 1, &[records, QUIET, QUIET]).0, [0, 1, 2]);
    assert_eq!(fetch(&mut sessions, 2, &[records, QUIET, QUIET]).0, [1, 2, 0]);
    assert_eq!(fetch(&mut sessions, 3, &[QUIET, QUIET, QUIET]).0, [2, 0, 1]);
}

#[test]
fn the_answer_of_a_session_that_is_gone_says_everything() {
    let mut sessions = FetchSessions::new(10, ROOM);
    assert_eq!(sessions.answer(7, &[(0, QUIET), (1, QUIET)]), [true, true]);
}

#[test]
fn a_session_gives_way_only_to_what_is_worth_more() {
    // The one that is there: partitions, made and last used in which minute. The new one: partitions, minute.
    let table = [
        ("both new", (1, 0, 0), (9, 1), false),
        ("unused for two minutes", (9, 0, 0), (1, 3), true),
        ("used, and smaller, and there for long", (1, 0, 3), (2, 4), true),
        ("used, and as large", (2, 0, 3), (2, 4), false),
        ("used, and larger", (3, 0, 3), (2, 4), false),
        ("used, and smaller, but not there for long", (1, 0, 1), (2, 2), false),
    ];
    for (name, (partitions, made, used), (new, minute), gives_way) in table {
        let mut sessions = FetchSessions::new(1, ROOM);
        create(&mut sessions, made, 7, partitions);
        sessions.begin(Instant(used * MINUTE), request(7, 1)).expect("the expected epoch");
        let expected = if gives_way { 8 } else { NO_SESSION };
        assert_eq!(create(&mut sessions, minute, 8, new), expected, "{name}");
        assert_eq!(sessions.len(), 1, "{name}");
    }
}

#[test]
fn sessions_take_no_more_memory_than_they_may() {
    let mut sessions = FetchSessions::new(10, SESSION_BYTES + 10 * PARTITION_BYTES);
    assert_eq!(create(&mut sessions, 0, 7, 11), NO_SESSION);
    assert_eq!(create(&mut sessions, 0, 7, 10), 7);
    assert_eq!(create(&mut sessions, 0, 8, 1), NO_SESSION);
    let more = SessionRequest { asked: vec![(key(2, 0), asked(0))], ..request(7, 1) };
    assert_eq!(sessions.begin(Instant(0), more), Err(SessionError::NotFound));
    assert_eq!((sessions.len(), sessions.bytes()), (0, 0));
    // Nobody has a slot where there is none.
    assert_eq!(create(&mut FetchSessions::new(0, ROOM), 0, 7, 1), NO_SESSION);
}

#[test]
fn a_session_is_asked_once_at_a_time() {
    let mut sessions = FetchSessions::new(10, ROOM);
    create(&mut sessions, 0, 7, 3);
    let context = sessions.begin(Instant(0), request(7, 1)).expect("the expected epoch");
    assert_eq!(sessions.begin(Instant(0), request(7, 2)), Err(SessionError::InvalidEpoch));
    end(&mut sessions, &context);
    assert!(sessions.begin(Instant(0), request(7, 2)).is_ok());
}

#[test]
fn who_ends_a_session_that_is_asked_gets_no_more_memory() {
    let mut sessions = FetchSessions::new(10, 2 * (SESSION_BYTES + 3 * PARTITION_BYTES));
    let mut asked = Vec::new();
    for _ in 0..2 {
        assert_eq!(create(&mut sessions, 0, 7, 3), 7);
        asked.push(sessions.begin(Instant(0), request(7, 1)).expect("there is memory"));
        sessions.begin(Instant(0), request(7, FINAL_EPOCH)).expect("it is over");
    }
    assert_eq!(create(&mut sessions, 0, 7, 3), 7);
    assert_eq!(sessions.begin(Instant(0), request(7, 1)), Err(SessionError::NotFound));
    for context in &asked {
        end(&mut sessions, context);
    }
    assert_eq!(create(&mut sessions, 0, 7, 3), 7);
    assert!(sessions.begin(Instant(0), request(7, 1)).is_ok());
}

#[test]
fn an_id_is_positive_and_nobody_elses() {
    let mut sessions = FetchSessions::new(10, ROOM);
    create(&mut sessions, 0, 7, 1);
    let mut drawn = [0, -3, 7, 9].into_iter();
    let id = sessions.create(Instant(0), || drawn.next().expect("9 is free"), true, Vec::new());
    assert_eq!(id, 9);
}
