/** How the real server stops: what it accepted is answered, whatever comes. */
import assert from 'node:assert/strict';
import { Agent, type ClientRequest, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Answer, call, json, jsonInput } from '../support/http-call.js';
import { packageRoot, ServerProcess } from '../support/server-process.js';
import { makeDirectory, placeModel, removeDirectory, slowModel } from '../support/test-models.js';
import { until } from '../support/until.js';

async function start(
  t: TestContext,
  args: readonly string[] = [],
): Promise<{ server: ServerProcess; url: string }> {
  const directory = makeDirectory('drain');
  t.after(() => removeDirectory(directory));
  const slow = placeModel(directory, 'slow', slowModel(30), { max_batch_size: 1 });
  const server = new ServerProcess(
    t,
    [
      ...['serve', '--model', slow, '--model', join(packageRoot, 'examples/ring')],
      ...['--port', '0', '--thread', '1', '--cache_dir', join(directory, 'cache'), ...args],
    ],
    { env: { HOME: directory } },
  );
  return { server, url: await server.listening() };
}

const slowBody = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };
const inferSlow = (url: string): Promise<Answer> => call(`${url}/v2/models/slow/infer`, { body: slowBody });

async function accepted(url: string, count: number): Promise<void> {
  await until(`${count} requests are accepted`, async () => {
    const text = (await call(`${url}/metrics`)).body.toString();
    const of = (name: string): number =>
      Number(new RegExp(`onnx_serving_${name}\\{model="slow".*\\} (\\d+)`).exec(text)![1]);
    return of('in_flight') + of('queue_depth') === count;
  });
}

test('on SIGTERM every accepted request is answered, new connections are refused, and it exits 0', async (t) => {
  const { server, url } = await start(t);
  const answers = Array.from({ length: 10 }, () => inferSlow(url));
  await accepted(url, 10);
  server.kill('SIGTERM');
  await server.written(/draining/);
  await until('new connections are refused', () =>
    call(`${url}/v2/health/live`).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    ),
  );
  for (const answer of await Promise.all(answers)) {
    assert.equal(answer.status, 200, answer.body.toString());
    assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [1, 2, 3, 4]);
  }
  assert.equal(await server.ended, 0, server.text);
  assert.match(server.err, /drained/);
});

test('SIGTERM under a load of kept connections loses no answer', async (t) => {
  const { server, url } = await start(t, ['--log_level', 'debug']);
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  t.after(() => agent.destroy());
  const seen = { answered: 0, refused: 0, neverAccepted: 0 };
  const lost: string[] = [];
  let isOver = false;
  const client = async (): Promise<void> => {
    while (!isOver) {
      const outcome = await once(agent, `${url}/v2/models/ring/infer`);
      if (outcome.status === 200 && outcome.text.includes('"probability"')) seen.answered += 1;
      else if (outcome.status === 503) seen.refused += 1;
      // The server closed an idle connection while the request was on its way: no byte of it was read.
      else if (outcome.code === 'ECONNREFUSED' || outcome.isReused) seen.neverAccepted += 1;
      else if (outcome.code === 'ECONNRESET' && outcome.isUnread) seen.neverAccepted += 1;
      else lost.push(`${outcome.status} ${outcome.code} ${outcome.text}`);
      if (outcome.status !== 200) isOver = true;
    }
  };
  const clients = Array.from({ length: 8 }, client);
  await until('the load is on', () => seen.answered > 200);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
  await Promise.all(clients);
  t.diagnostic(`${seen.answered} answered, ${seen.refused} refused, ${seen.neverAccepted} never accepted`);
  assert.deepEqual(lost, []);
  assert.equal(seen.refused, 0);
  // What the server has run it has also answered: each request of its log came back to a client.
  const handled = server.err
    .split('\n')
    .filter((line) => /"path":"\/v2\/models\/ring\/infer".*"msg":"request"/.test(line));
  assert.equal(seen.answered, handled.length);
  assert.match(server.err, /drained/);
});

interface Outcome {
  readonly status?: number;
  readonly text: string;
  readonly code?: string;
  /** Whether the connection had served before. */
  readonly isReused: boolean;
  /** Whether nothing came back at all. */
  readonly isUnread: boolean;
}

const ringBody = JSON.stringify({ inputs: [jsonInput('point', 'FP32', [1, 2], [0.5, 0.5])] });

function once(agent: Agent, url: string): Promise<Outcome> {
  return new Promise((resolve) => {
    let text = '';
    let status: number | undefined;
    const sent: ClientRequest = request(url, { method: 'POST', agent }, (reply) => {
      status = reply.statusCode!;
      reply.on('data', (chunk) => {
        text += chunk;
      });
      reply.on('end', () => done());
    });
    const done = (error?: NodeJS.ErrnoException): void =>
      resolve({
        text,
        isReused: sent.reusedSocket && status === undefined,
        isUnread: status === undefined,
        ...(status === undefined ? {} : { status }),
        ...(error?.code ? { code: error.code } : {}),
      });
    sent.on('error', done);
    sent.end(ringBody);
  });
}

test('a second signal cuts the waiting off, awaits the run, and exits 1', async (t) => {
  const { server, url } = await start(t);
  const answers = Array.from({ length: 60 }, () => inferSlow(url).catch((error: Error) => error));
  await accepted(url, 60);
  server.kill('SIGTERM');
  await server.written(/draining/);
  // Signals that come together are one request to stop: this one comes until it is heard.
  const again = setInterval(() => server.kill('SIGTERM'), 100);
  await server.written(/a second signal came/).finally(() => clearInterval(again));
  assert.equal(await server.ended, 1, server.text);
  const outcomes = await Promise.all(answers);
  assert.ok(outcomes.some((outcome) => outcome instanceof Error || outcome.status === 503));
});

test('a drain that takes too long is cut short and exits 1', async (t) => {
  const { server, url } = await start(t, ['--drain_timeout_ms', '50']);
  const answers = Array.from({ length: 60 }, () => inferSlow(url).catch((error: Error) => error));
  await accepted(url, 60);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 1, server.text);
  assert.match(server.err, /the drain did not end in 50 ms/);
  await Promise.all(answers);
});

test('a client that holds its connection open does not hold up the end', async (t) => {
  const { server, url } = await start(t);
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.write('GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n');
  await new Promise((resolve) => socket.once('data', resolve));
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
});

test('a signal while models are being prepared ends the start at once', async (t) => {
  const directory = makeDirectory('drain');
  t.after(() => removeDirectory(directory));
  const repository = join(directory, 'models');
  for (let i = 0; i < 8; i++) placeModel(repository, `slow${i}`, slowModel(200 + i));
  const server = new ServerProcess(t, ['serve', '--model_repository', repository, '--port', '0'], {
    env: { HOME: directory, XDG_CACHE_HOME: directory },
  });
  await server.written(/loading models/);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
  assert.match(server.err, /stopped while the models were loading/);
  assert.doesNotMatch(server.out, /Listening/);
});
