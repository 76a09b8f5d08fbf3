#!/usr/bin/env node
'use strict';

// Starts the binary of this machine and stands in for it: signals go in, the exit code or signal comes out.
//
// A program that replaces this process would be better, and node has none to offer: process.execve is experimental
// and says so on every start. spawnSync would be shorter and is wrong: while it waits, no signal is handled, so that
// SIGTERM would end this process at once and leave the binary behind without a chance to drain.

const { spawn } = require('node:child_process');

const PACKAGES = { 'linux-x64': '@mainstay/linux-x64' };
/** How soon the end of npm is noticed. */
const PARENT_LOOK_MS = 250;
/** Our own fault, as the binary's own exit codes have it. */
const EXIT_INTERNAL = 70;

function fail(text) {
  process.stderr.write(`error: ${text}\n`);
  process.exit(EXIT_INTERNAL);
}

function binary() {
  const machine = `${process.platform}-${process.arch}`;
  const name = PACKAGES[machine];
  if (!name) {
    fail(`there is no mainstay for ${machine}: Linux on x86-64 is what is built`);
  }
  try {
    return require.resolve(`${name}/bin/mainstay`);
  } catch {
    fail(`${name} is not installed\n  fix: npm install mainstay   (without --omit=optional or --no-optional)`);
  }
}

const file = binary();
const child = spawn(file, process.argv.slice(2), { stdio: 'inherit' });

child.on('error', (error) => {
  const musl = error.code === 'ENOENT' ? '; it needs glibc, which Alpine has not' : '';
  fail(`${file} cannot be started: ${error.message}${musl}`);
});

// Ctrl-C in a terminal reaches the whole foreground group: the binary has it already, and a second one would make it
// end at once instead of draining. (npm sends its own on top of that, to this process alone.)
const terminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
const handlers = new Map();
for (const signal of ['SIGTERM', 'SIGHUP', 'SIGUSR2', 'SIGINT', 'SIGQUIT']) {
  const fromTerminal = signal === 'SIGINT' || signal === 'SIGQUIT';
  const handler = () => {
    if (!(terminal && fromTerminal)) {
      child.kill(signal);
    }
  };
  handlers.set(signal, handler);
  process.on(signal, handler);
}

// npm starts commands by a shell and sends its SIGTERM there; Debian's shell passes nothing on. It ends, and so does
// npm, and we would be left behind with everything running. Elsewhere a parent that ends is nobody's wish (nohup).
if (process.env.npm_command !== undefined) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid !== parent) {
      clearInterval(watch);
      child.kill('SIGTERM');
    }
  }, PARENT_LOOK_MS);
}

child.on('exit', (code, signal) => {
  if (signal === null) {
    process.exit(code);
  }
  // Ended by a signal: end by the same, so that whoever waits for us sees what really happened.
  handlers.forEach((handler, name) => process.removeListener(name, handler));
  process.kill(process.pid, signal);
});
