// Mainstay's jobs over HTTP with Node's own client: kept connections, what has ended goes with the next claim.
const http = require('node:http');

// One call waits for jobs as long as this; a stop ends it.
const WAIT_MS = 10_000;

class Asking {
  constructor(url, token) {
    this.url = new URL(url);
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
    this.headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  }

  ask(path, value, signal) {
    const body = JSON.stringify(value);
    const headers = { ...this.headers, 'content-length': Buffer.byteLength(body) };
    const { hostname: host, port } = this.url;
    return new Promise((resolve, reject) => {
      const request = http.request({ agent: this.agent, host, port, path, method: 'POST', headers, signal }, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk) => (text += chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          if (answer.statusCode >= 300) reject(new Error(`${path}: ${answer.statusCode} ${text}`));
          else resolve(JSON.parse(text));
        });
      });
      request.on('error', reject);
      request.end(body);
    });
  }

  get(path) {
    const { hostname: host, port } = this.url;
    return new Promise((resolve, reject) => {
      http.get({ agent: this.agent, host, port, path, headers: this.headers }, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk) => (text += chunk));
        answer.on('end', () => resolve(JSON.parse(text)));
      }).on('error', reject);
    });
  }
}

/** Runs so many jobs at once. One call at a time takes jobs; ends go with it, or by themselves while it waits. */
class Worker {
  constructor(asking, queue, worker, slots, handle, finished) {
    Object.assign(this, { asking, queue, worker, slots, handle, finished });
    this.running = 0;
    this.ended = [];
    this.isTaking = false;
    this.isStopped = false;
    this.isPlanned = false;
    this.calls = new Set();
    this.end = new AbortController();
    this.pump();
  }

  start(job) {
    this.running++;
    // As any handler: it may be asynchronous, and may fail.
    Promise.resolve(job.data).then(this.handle).then(
      () => this.push({ id: job.id, token: job.token, result: null }),
      (error) => this.push({ id: job.id, token: job.token, error: String(error) }),
    );
  }

  push(end) {
    this.running--;
    this.ended.push(end);
    if (this.isPlanned) return;
    // What ends in the same turn goes in the same call.
    this.isPlanned = true;
    setImmediate(() => {
      this.isPlanned = false;
      this.pump();
    });
  }

  pump() {
    if (this.isStopped) return;
    const free = this.slots - this.running;
    const take = !this.isTaking && free > 0 ? { worker: this.worker, max: free, waitMs: WAIT_MS } : null;
    // An end is to be acknowledged at once, so what goes with it does not wait.
    if (this.ended.length) this.call(this.ended.splice(0), take && { ...take, waitMs: 0 });
    else if (take) this.call([], take);
  }

  call(ends, take) {
    if (take) this.isTaking = true;
    const next = take && { ...take, queue: this.queue };
    const asked = ends.length
      ? this.asking.ask('/v1/jobs/finish', next ? { ends, next } : { ends })
      : this.asking.ask(`/v1/queues/${this.queue}/claim`, take, this.end.signal);
    const call = asked.then((answer) => {
      for (const end of answer.ends || []) {
        if (!end.ok) throw new Error(JSON.stringify(end));
        this.finished();
      }
      if (take) this.isTaking = false;
      for (const job of answer.jobs || []) this.start(job);
      // Slots that are still free wait for jobs.
      this.pump();
    }).catch((error) => {
      if (this.isStopped) return;
      throw error;
    }).finally(() => this.calls.delete(call));
    this.calls.add(call);
  }

  async stop() {
    this.isStopped = true;
    this.end.abort();
    await Promise.allSettled(this.calls);
  }
}

module.exports = async function open(queue, app) {
  const asking = new Asking(process.env.MAINSTAY_URL, process.env.MAINSTAY_TOKEN);
  const jobs = `/v1/queues/${queue}/jobs`;
  let workers = 0;
  return {
    add: (data) => asking.ask(jobs, { name: 'job', data }),
    addMany: (list) => asking.ask(jobs, list.map((data) => ({ name: 'job', data }))),
    async work(concurrency, handle, finished) {
      const worker = `w${process.pid}-${workers++}`;
      const there = await presence(asking, worker);
      const running = new Worker(asking, queue, worker, concurrency, handle, finished);
      return {
        async stop() {
          await running.stop();
          there.destroy();
        },
      };
    },
    async left() {
      const { queues } = await asking.get('/v1/queues');
      const { waiting, delayed, active } = queues.find((one) => one.name === queue);
      return waiting + delayed + active;
    },
    /** What the app was given by push: all of it, once each; the time is the app's, from its first to its last. */
    async pushed(count) {
      const at = new URL(app);
      const asked = new Asking(app, '');
      const began = performance.now();
      for (;;) {
        const seen = await asked.get(`${at.pathname}?of=${count}`);
        if (seen.jobs >= count && !(await this.left())) {
          if (seen.twice || seen.jobs !== count) throw new Error(`not each job was pushed once: ${JSON.stringify(seen)}`);
          return seen;
        }
        if (performance.now() - began > 60_000) throw new Error(`only ${JSON.stringify(seen)} of ${count} were pushed`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  };
};

/** Open while the worker lives. */
function presence(asking, worker) {
  const { hostname: host, port } = asking.url;
  return new Promise((resolve, reject) => {
    const request = http.get({ agent: false, host, port, path: `/v1/workers/${worker}/presence`, headers: asking.headers }, (answer) => {
      answer.on('error', () => {});
      answer.resume();
      resolve(request);
    });
    request.on('error', reject);
  });
}
