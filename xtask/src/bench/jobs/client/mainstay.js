// Mainstay's jobs over HTTP with undici, Node's own client: kept connections, and what has ended goes with the next claim.
const http = require('node:http');
const { Pool } = require('undici');

// One call waits for jobs as long as this; a stop ends it.
const WAIT_MS = 10_000;

/** What undici tells of one call, until the whole answer is there. */
class Answer {
  constructor(path, signal, resolve, reject) {
    Object.assign(this, { path, signal, resolve, reject });
    this.status = 0;
    this.chunks = [];
  }

  onRequestStart(controller) {
    if (!this.signal) return;
    this.abort = () => controller.abort(new Error('ended'));
    if (this.signal.aborted) this.abort();
    else this.signal.addEventListener('abort', this.abort, { once: true });
  }

  onResponseStart(_, status) {
    this.status = status;
  }

  onResponseData(_, chunk) {
    this.chunks.push(chunk);
  }

  onResponseEnd() {
    this.forget();
    const text = (this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks)).toString();
    if (this.status >= 300) this.reject(new Error(`${this.path}: ${this.status} ${text}`));
    else this.resolve(JSON.parse(text));
  }

  onResponseError(_, error) {
    this.forget();
    this.reject(error);
  }

  /** One signal is of many calls. */
  forget() {
    this.signal?.removeEventListener('abort', this.abort);
  }
}

class Asking {
  constructor(url, token) {
    this.url = new URL(url);
    this.pool = new Pool(this.url.origin, { connections: 64, headersTimeout: 0, bodyTimeout: 0 });
    this.headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  }

  ask(path, value, signal) {
    return this.call({ method: 'POST', path, headers: this.headers, body: JSON.stringify(value) }, signal);
  }

  get(path) {
    return this.call({ method: 'GET', path, headers: this.headers });
  }

  call(request, signal) {
    return new Promise((resolve, reject) => {
      this.pool.dispatch(request, new Answer(request.path, signal, resolve, reject));
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
