// kafkajs against a running cluster. Usage: node main.js BOOTSTRAP.
const assert = require("node:assert/strict");
const { Kafka, CompressionTypes, ConfigResourceTypes, PartitionAssigners, logLevel } = require("kafkajs");
const { check, until, end } = require("./checks");

const PARTITIONS = 6;
const RECORDS = 60;

const kafka = new Kafka({
  clientId: "chronik-tests",
  brokers: process.argv[2].split(","),
  logLevel: logLevel.NOTHING,
});
const admin = kafka.admin();

async function create(topic, numPartitions = 1) {
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 3 }] });
  return topic;
}

async function write(topic, messages, { compression, ...settings } = {}) {
  const producer = kafka.producer({ idempotent: true, ...settings });
  await producer.connect();
  const acknowledged = await producer.send({ topic, messages, compression });
  await producer.disconnect();
  return acknowledged;
}

async function filled(topic) {
  await create(topic, PARTITIONS);
  const messages = Array.from({ length: RECORDS }, (_, n) => ({ value: String(n), partition: n % PARTITIONS }));
  await write(topic, messages);
  return topic;
}

/** A member of a group that notes what it reads and what it is assigned. */
async function member(topic, groupId, settings = {}) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 500, maxWaitTimeInMs: 200, ...settings });
  const seen = { records: [], share: [] };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    seen.share = payload.memberAssignment[topic] ?? [];
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      seen.records.push({ partition, ...message });
    },
  });
  return { consumer, seen };
}

async function readAll(topic, count) {
  const { consumer, seen } = await member(topic, `reads-${topic}`);
  await until(`${count} records`, () => seen.records.length >= count);
  await consumer.disconnect();
  const ends = await admin.fetchTopicOffsets(topic);
  assert.equal(
    ends.reduce((sum, { offset }) => sum + Number(offset), 0),
    count,
  );
  assert.equal(seen.records.length, count);
  return seen.records;
}

async function idempotentProducer(compression) {
  const topic = await create(`js-idempotent-${compression}`);
  const values = Array.from({ length: 300 }, (_, n) => `${n} ${"x".repeat(100)}`);
  for (let from = 0; from < values.length; from += 100) {
    const messages = values.slice(from, from + 100).map((value) => ({ value }));
    const acknowledged = await write(topic, messages, { compression });
    assert.equal(acknowledged[0].baseOffset, String(from));
  }
  const found = await readAll(topic, values.length);
  assert.deepEqual(
    found.map(({ value }) => value.toString()),
    values,
  );
}

async function keysAndHeaders() {
  const topic = await create("js-headers");
  await write(topic, [
    { key: "k", value: "v", headers: { name: ["1", "again"] } },
    { key: "gone", value: null },
  ]);
  const [first, tombstone] = await readAll(topic, 2);
  assert.equal(`${first.key} ${first.value} ${first.headers.name}`, "k v 1,again");
  assert.equal(tombstone.value, null);
}

async function goesOn() {
  const topic = await filled("js-goes-on");
  const first = await member(topic, "js-goes-on");
  await until("all records", () => first.seen.records.length >= RECORDS);
  await first.consumer.disconnect();
  await write(topic, [{ value: "after", partition: 0 }]);
  const second = await member(topic, "js-goes-on");
  await until("the record after the commit", () => second.seen.records.length > 0);
  await second.consumer.disconnect();
  assert.deepEqual(
    second.seen.records.map(({ value }) => value.toString()),
    ["after"],
  );
}

async function shares() {
  const topic = await filled("js-share");
  const settings = { partitionAssigners: [PartitionAssigners.roundRobin] };
  const members = await Promise.all([0, 1, 2].map(() => member(topic, "js-share", settings)));
  const shared = (each) => () => {
    const all = members.map(({ seen }) => seen.share);
    const whole = all.flat().sort().join() === [...Array(PARTITIONS).keys()].join();
    return whole && all.every((share) => share.length === each);
  };
  await until("a share of two each", shared(2));
  await members.pop().consumer.disconnect();
  await until("a share of three each", shared(3));
  await Promise.all(members.map(({ consumer }) => consumer.disconnect()));
}

async function groupAdmin() {
  const topic = await filled("js-group-admin");
  const groupId = "js-group-admin";
  const { consumer, seen } = await member(topic, groupId);
  await until("all records", () => seen.records.length >= RECORDS);
  const { groups } = await admin.listGroups();
  assert.ok(groups.some((group) => group.groupId === groupId));
  const described = await admin.describeGroups([groupId]);
  assert.equal(`${described.groups[0].state} ${described.groups[0].members.length}`, "Stable 1");
  await consumer.disconnect();
  const offsets = async () => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] });
    return partitions.map(({ offset }) => Number(offset)).reduce((sum, offset) => sum + offset, 0);
  };
  assert.equal(await offsets(), RECORDS);
  await admin.resetOffsets({ groupId, topic, earliest: true });
  const again = await member(topic, groupId);
  await until("all records again", () => again.seen.records.length >= RECORDS);
  await again.consumer.disconnect();
  await admin.deleteGroups([groupId]);
  const after = await admin.listGroups();
  assert.ok(!after.groups.some((group) => group.groupId === groupId));
}

async function topicAdmin() {
  const topic = await create("js-admin", 2);
  assert.equal(await admin.createTopics({ topics: [{ topic }] }), false);
  await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] });
  await until("four partitions", async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return topics[0].partitions.length === 4;
  });
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
  const configEntries = [{ name: "retention.ms", value: "604800001" }];
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] });
  await until("the altered config", async () => {
    const { resources } = await admin.describeConfigs({ resources: [resource], includeSynonyms: false });
    const found = resources[0].configEntries.find(({ configName }) => configName === "retention.ms");
    return found.configValue === "604800001";
  });
  await write(topic, [0, 1, 2].map((n) => ({ value: String(n), partition: 0 })));
  // It deletes records of topics alone whose metadata it has fetched before.
  assert.equal((await admin.fetchTopicOffsets(topic)).length, 4);
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "2" }] });
  const offsets = await admin.fetchTopicOffsets(topic);
  assert.equal(offsets.find(({ partition }) => partition === 0).low, "2");
  await admin.deleteTopics({ topics: [topic] });
  await until("the end of the topic", async () => !(await admin.listTopics()).includes(topic));
}

/**
 * A topic is deleted and made again under a producer that writes all the time, one record after the other. The first
 * offset below those of before says that the second log has begun.
 */
async function madeAgain() {
  const before = 200;
  const after = 50;
  const goesOnMs = 15_000;
  const topic = await create("js-recreated");
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  const acknowledged = [];
  let ended = false;
  let failure;
  const writes = (async () => {
    for (let number = 0; !ended; number += 1) {
      try {
        const [{ baseOffset }] = await producer.send({ topic, messages: [{ value: String(number) }] });
        acknowledged.push({ value: String(number), offset: Number(baseOffset) });
      } catch (error) {
        failure = error;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  })();
  await until("records in the first topic", () => acknowledged.length > before);
  const first = acknowledged.length;
  await admin.deleteTopics({ topics: [topic] });
  // If the producer was faster, which creates it by asking for it, this says false.
  await create(topic);
  const begin = Date.now();
  const taken = () => {
    const since = acknowledged.slice(first);
    const begun = since.findIndex(({ offset }) => offset < before);
    return begun < 0 ? [] : since.slice(begun);
  };
  await until("records in the second topic", () => {
    const waited = Date.now() - begin;
    assert.ok(waited < goesOnMs, `${taken().length} records after ${waited} ms; the last error: ${failure}`);
    return taken().length >= after;
  });
  ended = true;
  await writes;
  await producer.disconnect();
  const found = await readAll(topic, taken().at(-1).offset + 1);
  for (const { value, offset } of taken()) assert.equal(found[offset].value.toString(), value);
  assert.equal(new Set(found.map(({ value }) => value.toString())).size, found.length);
}

async function cluster() {
  const { brokers } = await admin.describeCluster();
  assert.equal(brokers.length, 3);
}

async function main() {
  await admin.connect();
  await check("idempotent producer", () => idempotentProducer(CompressionTypes.None));
  await check("idempotent producer, gzip", () => idempotentProducer(CompressionTypes.GZIP));
  await check("keys, headers, tombstones", keysAndHeaders);
  await check("a group goes on where it was", goesOn);
  await check("three members share a topic, and one leaves", shares);
  await check("a group is listed, described, reset and deleted", groupAdmin);
  await check("topics are created, grown, altered, emptied and deleted", topicAdmin);
  await check("a topic is made again under an idempotent producer", madeAgain);
  await check("the cluster is described", cluster);
  await admin.disconnect();
  end();
}

main();
