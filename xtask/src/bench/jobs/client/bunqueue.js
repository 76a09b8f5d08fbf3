// bunqueue with the client of its own package, which needs Bun; each add waits for the disk (`durable`).
const NAME = 'bench';

module.exports = async function open(port) {
  const { Queue, Worker } = await import('bunqueue/client');
  const connection = { host: '127.0.0.1', port: Number(port) };
  const options = { attempts: 3, backoff: { type: 'exponential', delay: 2000 }, durable: true };
  const queue = new Queue(NAME, { connection, defaultJobOptions: options });
  return {
    add: (data) => queue.add('job', data, options),
    addMany: (list) => queue.addBulk(list.map((data) => ({ name: 'job', data, opts: options }))),
    // The same rows, sooner.
    fill: (list) => queue.addBulk(list.map((data) => ({ name: 'job', data, opts: { ...options, durable: false } }))),
    async work(concurrency, handle, finished) {
      const worker = new Worker(NAME, async (job) => handle(job.data), { connection, concurrency });
      worker.on('completed', finished);
      worker.on('error', (error) => console.error(error));
      return { stop: () => worker.close() };
    },
    async left() {
      const counts = await queue.getJobCountsAsync();
      return ['waiting', 'delayed', 'active', 'prioritized', 'failed'].reduce((sum, state) => sum + (counts[state] || 0), 0);
    },
  };
};
