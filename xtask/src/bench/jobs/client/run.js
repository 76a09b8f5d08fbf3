// The load client of one peer: reads a command a line, does it, answers a line. Every job carries its number; a
// worker notes each start by it, so that one lost and one done twice are seen.
const readline = require('node:readline');

const [peer, ...given] = process.argv.slice(2);
const JOBS_MAX = 2_000_000;
const BULK = 1000;
// No call, and no wait for the last job, takes longer.
const PATIENCE_MS = 60_000;
// A backlog of a million takes a minute or two.
const BACKLOG_PATIENCE_MS = 300_000;
// A slow peer gives fewer samples, and the bench ends in time.
const LATENCY_MS = 5_000;

const starts = new Uint8Array(JOBS_MAX);
const wanted = { jobs: 0, started: 0, finished: 0, twice: 0, latencies: null };
let done = () => {};

// About 100 bytes of JSON.
const job = () => ({ n: wanted.jobs++, at: performance.now(), url: 'https://example.com/files/report-2026.pdf', user: 'u-1042' });

function handle(data) {
  if (starts[data.n]++) wanted.twice++;
  wanted.started++;
  if (wanted.latencies) wanted.latencies.push(performance.now() - data.at);
}

function finished() {
  wanted.finished++;
  if (wanted.finished >= wanted.jobs) done();
}

const counted = () => JSON.stringify({ ...wanted, latencies: undefined });

/** Times what is done, on the clock and on this process's processor. */
async function timed(what) {
  const [cpu, began] = [process.cpuUsage(), performance.now()];
  await what();
  const used = process.cpuUsage(cpu);
  return { seconds: (performance.now() - began) / 1000, cpu_us: used.user + used.system };
}

function within(promise, what, millis = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Error(`${what} took longer than ${millis} ms: ${counted()}`)), millis);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What is added in one turn of the event loop goes as one array. */
function gathering(addMany) {
  let turn = null;
  return (data) => {
    if (!turn) {
      const list = [];
      const sent = new Promise((resolve) => setImmediate(resolve)).then(() => {
        turn = null;
        return addMany(list);
      });
      turn = { list, sent };
    }
    turn.list.push(data);
    return turn.sent;
  };
}

/** So many calls at a time, until so many jobs are added. */
async function add(client, { count, flight, bulk, gathered }) {
  const addOne = gathered ? gathering(client.addMany) : client.add;
  let left = count;
  const one = async () => {
    while (left > 0) {
      const size = bulk ? Math.min(BULK, left) : 1;
      left -= size;
      if (bulk) await client.addMany(Array.from({ length: size }, job));
      else await addOne(job());
    }
  };
  await Promise.all(Array.from({ length: flight }, one));
}

const empty = () => within(new Promise((resolve) => {
  done = resolve;
  if (wanted.finished >= wanted.jobs) resolve();
}), 'processing');

/** All that was added was started once and ended once, and nothing is left. */
async function check(client) {
  const left = await client.left();
  if (left || wanted.twice || wanted.started !== wanted.jobs || wanted.finished !== wanted.jobs) {
    throw new Error(`not each job was delivered once: ${counted()}, ${left} left`);
  }
}

/** From the worker's start to its last acknowledged end. */
async function process_(client, { concurrency }) {
  let worker;
  const took = await timed(async () => {
    worker = await client.work(concurrency, handle, finished);
    await empty();
  });
  await worker.stop();
  await check(client);
  return took;
}

const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

/** From the call that adds to the worker's start, in one process: one clock. */
async function latency(client, { count, every }) {
  const worker = await client.work(10, handle, finished);
  await client.add(job());
  await empty();
  wanted.latencies = [];
  const took = await timed(async () => {
    const added = [];
    const began = performance.now();
    for (let number = 0; number < count && performance.now() - began < LATENCY_MS; number++) {
      if (every) {
        await pause(Math.max(0, began + number * every - performance.now()));
        added.push(client.add(job()));
      } else {
        await Promise.all([client.add(job()), empty()]);
        // Not in step with anything that the peer does each so many milliseconds.
        await pause(3 + (number % 7));
      }
    }
    await within(Promise.all(added), 'adding');
    await empty();
  });
  const sorted = wanted.latencies.sort((one, other) => one - other);
  wanted.latencies = null;
  await worker.stop();
  await check(client);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { ...took, samples: sorted.length, p50_ms: at(0.5), p99_ms: at(0.99) };
}

const verbs = {
  add: (client, asked) => timed(() => within(add(client, asked), 'adding')),
  process: process_,
  latency,
  // Jobs that nobody asks for: memory is measured over them.
  async backlog(client, { count }) {
    const before = wanted.jobs;
    const addMany = client.fill || client.addMany;
    await within(add({ addMany }, { count, flight: 4, bulk: true }), 'filling', BACKLOG_PATIENCE_MS);
    wanted.jobs = before;
    return { left: await client.left() };
  },
  // A worker that has done one job, and waits.
  async wait(client) {
    const worker = await client.work(10, handle, finished);
    await client.add(job());
    await empty();
    client.waiting = worker;
    return {};
  },
  async rest(client) {
    await client.waiting.stop();
    await check(client);
    return {};
  },
  pushed: (client, { count }) => client.pushed(count),
};

async function main() {
  const client = await require(`./${peer}.js`)(...given);
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    try {
      console.log(JSON.stringify(await verbs[asked.do](client, asked)));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error.stack || error) }));
    }
  }
  process.exit(0);
}

main().catch((error) => {
  console.log(JSON.stringify({ error: String(error.stack || error) }));
  process.exit(1);
});
