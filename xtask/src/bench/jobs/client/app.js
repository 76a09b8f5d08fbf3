// The app: writes down what it was given to ask with, is handed jobs by POST, and says which it has seen.
const fs = require('node:fs');
const http = require('node:http');

const starts = new Map();
let seen = { jobs: 0, twice: 0, first: 0, last: 0, cpu: null };

function pushed(data) {
  if (!seen.jobs) Object.assign(seen, { first: performance.now(), cpu: process.cpuUsage() });
  if (starts.has(data.n)) seen.twice++;
  starts.set(data.n, true);
  seen.jobs++;
  seen.last = performance.now();
}

/** What came, once so many have; then it begins anew. */
function told(of) {
  const { jobs, twice, first, last, cpu } = seen;
  if (jobs < of) return { jobs, twice };
  const used = process.cpuUsage(cpu);
  starts.clear();
  seen = { jobs: 0, twice: 0, first: 0, last: 0, cpu: null };
  return { jobs, twice, seconds: (last - first) / 1000, cpu_us: used.user + used.system };
}

http
  .createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8');
    request.on('data', (chunk) => (text += chunk));
    request.on('end', () => {
      const { pathname, searchParams } = new URL(request.url, 'http://app');
      if (pathname === '/jobs/push') pushed(JSON.parse(text));
      response.setHeader('content-type', 'application/json');
      response.end(pathname === '/seen' ? JSON.stringify(told(Number(searchParams.get('of')))) : '{}');
    });
  })
  .listen(Number(process.env.PORT), '127.0.0.1', () => {
    const given = { url: process.env.MAINSTAY_URL, token: process.env.MAINSTAY_TOKEN };
    fs.writeFileSync(`${process.env.GIVEN}.new`, JSON.stringify(given));
    fs.renameSync(`${process.env.GIVEN}.new`, process.env.GIVEN);
  });
