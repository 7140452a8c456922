// What each check prints: a line `pass NAME` or `FAIL NAME: WHY` for the harness to count.
const assert = require("node:assert/strict");

const PATIENCE_MS = 30_000;
let failed = false;

/** Runs one check; a check that resolves has passed. */
async function check(name, attempt) {
  try {
    await attempt();
    console.log(`pass ${name}`);
  } catch (error) {
    failed = true;
    console.error(error);
    console.log(`FAIL ${name}: ${error}`.replaceAll("\n", " ").slice(0, 500));
  }
}

/** Asks until there is an answer that is neither undefined nor false. */
async function until(what, ask) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    assert.ok(Date.now() < deadline, `no ${what} within ${PATIENCE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Says that every check had its turn. */
function end() {
  console.log("end");
  process.exit(failed ? 1 : 0);
}

module.exports = { check, until, end };
