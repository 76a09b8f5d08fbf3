// Answers by itself; counts each request in Redis first if it is told where one is.
const express = require('express');

const body = 'x'.repeat(200);

async function main() {
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  if (process.env.LIMIT_REDIS) {
    const { rateLimit } = require('express-rate-limit');
    const { RedisStore } = require('rate-limit-redis');
    const client = require('redis').createClient({ url: process.env.LIMIT_REDIS });
    await client.connect();
    const store = new RedisStore({ sendCommand: (...words) => client.sendCommand(words) });
    app.use(rateLimit({ windowMs: 60_000, limit: 60_000_000, standardHeaders: 'draft-6', legacyHeaders: false, store }));
  }
  app.get('/s', (request, response) => response.type('text/plain').send(body));
  app.listen(Number(process.env.PORT), '127.0.0.1');
}

main();
