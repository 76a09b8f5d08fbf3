// BullMQ as its documentation has it: one Queue, one Worker, ioredis.
const { Queue, Worker } = require('bullmq');

const NAME = 'bench';

module.exports = async function open(port) {
  const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null };
  const defaultJobOptions = {
    attempts: 3,
    backoff: { type: 'exponential', delay: 2000 },
    removeOnComplete: { count: 100 },
    removeOnFail: { count: 500 },
  };
  const queue = new Queue(NAME, { connection, defaultJobOptions });
  await queue.waitUntilReady();
  return {
    add: (data) => queue.add('job', data),
    addMany: (list) => queue.addBulk(list.map((data) => ({ name: 'job', data }))),
    async work(concurrency, handle, finished) {
      const worker = new Worker(NAME, async (job) => handle(job.data), { connection, concurrency });
      worker.on('completed', finished);
      worker.on('error', (error) => console.error(error));
      await worker.waitUntilReady();
      return { stop: () => worker.close() };
    },
    async left() {
      const counts = await queue.getJobCounts('wait', 'paused', 'delayed', 'active', 'prioritized', 'failed');
      return Object.values(counts).reduce((sum, count) => sum + count, 0);
    },
  };
};
