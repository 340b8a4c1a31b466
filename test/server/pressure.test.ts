/** What the server does when there is too much of something: requests, bytes, time. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { type Answer, call, errorOf, json, jsonInput } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { scaleModel, slowModel } from '../support/test-models.js';
import { until } from '../support/until.js';

let served: Served;
let url: string;

before(async () => {
  served = await serveModels(
    {
      slow: { model: slowModel(40), settings: { max_queue_size: 2, max_batch_size: 1 } },
      scale: scaleModel(),
    },
    {
      runtime: { threads: 1 },
      server: { headerTimeoutMs: 100, bodyTimeoutMs: 200, maxInflightBytes: 300_000 },
    },
  );
  url = served.url;
});
after(() => served.close());

const body = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };
const infer = (model: string, parameters?: object): Promise<Answer> =>
  call(`${url}/v2/models/${model}/infer`, { body: parameters ? { ...body, parameters } : body });

const gaugeOf = async (name: string, model: string): Promise<number> => {
  const text = await served.runtime.metrics();
  return Number(new RegExp(`^onnx_serving_${name}\\{model="${model}".*\\} (\\d+)$`, 'm').exec(text)![1]);
};

/** Starts a request that holds the only worker, and `queued` more behind it. */
async function holdTheWorker(queued: number): Promise<Promise<Answer>[]> {
  const held = [infer('slow')];
  await until('the worker is busy', async () => (await gaugeOf('in_flight', 'slow')) === 1);
  for (let i = 0; i < queued; i++) held.push(infer('slow'));
  await until('the queue is filled', async () => (await gaugeOf('queue_depth', 'slow')) === queued);
  return held;
}

async function assertAllGood(answers: readonly Promise<Answer>[]): Promise<void> {
  for (const answer of await Promise.all(answers)) {
    assert.equal(answer.status, 200, answer.body.toString());
    assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [1, 2, 3, 4]);
  }
}

test('a full queue refuses at once with 503 and Retry-After, and answers what it took', async () => {
  const held = await holdTheWorker(2);
  const refused = await infer('slow');
  assert.equal(refused.status, 503);
  assert.match(errorOf(refused), /the queue of slow version 1 is full: 2 requests wait \(max_queue_size\)/);
  assert.equal(refused.headers['retry-after'], '1');
  const other = infer('scale');
  await assertAllGood(held);
  assert.equal((await other).status, 200);
  await assertAllGood([infer('slow')]);
});

test('a deadline that passes in the queue is a 504, and the others are answered', async () => {
  const held = await holdTheWorker(1);
  const late = await infer('slow', { timeout: 1000 });
  assert.equal(late.status, 504);
  assert.match(errorOf(late), /the deadline of a request to slow version 1 passed after \d+ ms in the queue/);
  await assertAllGood(held);
});

test('an urgent request goes before the ones that wait', async () => {
  const order: string[] = [];
  const [running] = await holdTheWorker(0);
  const usual = infer('slow').then(() => order.push('usual'));
  await until('the usual one waits', async () => (await gaugeOf('queue_depth', 'slow')) === 1);
  const urgent = infer('slow', { priority: 1 }).then(() => order.push('urgent'));
  await Promise.all([running, usual, urgent]);
  assert.deepEqual(order, ['urgent', 'usual']);
});

test('a request whose client goes away while it waits is never run', async () => {
  const read = async (): Promise<{ execution_count: number }> =>
    json<{ model_stats: { execution_count: number }[] }>(await call(`${url}/v2/models/slow/stats`))
      .model_stats[0]!;
  const earlier = await read();
  const held = await holdTheWorker(0);
  const leaving = request(`${url}/v2/models/slow/infer`, { method: 'POST', agent: false });
  leaving.on('error', () => undefined);
  leaving.end(JSON.stringify(body));
  await until('it waits', async () => (await gaugeOf('queue_depth', 'slow')) === 1);
  leaving.destroy();
  await assertAllGood(held);
  await until('it is dropped', async () => (await gaugeOf('queue_depth', 'slow')) === 0);
  assert.equal((await read()).execution_count - earlier.execution_count, 1);
  const text = await served.runtime.metrics();
  assert.match(
    text,
    /onnx_serving_requests_total\{model="slow",version="1",protocol="http",code="SRV_CANCELLED"\} 1/,
  );
});

test('a client that sends its body a byte at a time is cut off, and holds nobody up', async () => {
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  const text = JSON.stringify(body);
  socket.write(`POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Length: ${text.length}\r\n\r\n`);
  let at = 0;
  const drip = setInterval(() => socket.write(text[at++]!), 60);
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk.toString();
  });
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  assert.equal((await infer('scale')).status, 200);
  await closed;
  clearInterval(drip);
  assert.ok(at < text.length, 'the connection was closed before the body was whole');
  assert.match(answer, /^HTTP\/1\.1 408 /);
  assert.equal((await infer('scale')).status, 200);
});

test('a client that does not finish its headers is cut off', async () => {
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.write('POST /v2/models/scale/infer HTTP/1.1\r\nHost:');
  socket.on('error', () => undefined);
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk.toString();
  });
  await new Promise<void>((resolve) => socket.on('close', () => resolve()));
  assert.match(answer, /^HTTP\/1\.1 408 /);
  assert.equal((await infer('scale')).status, 200);
});

test('bodies over the limit of all bodies in memory are refused with 503 until there is room', async () => {
  const big = Buffer.alloc(200_000, 32);
  const first = request(`${url}/v2/models/scale/infer`, {
    method: 'POST',
    agent: false,
    headers: { 'content-length': '200001' },
  });
  first.on('error', () => undefined);
  await new Promise<void>((resolve) => first.write(big, () => resolve()));
  let second: Answer;
  do {
    second = await call(`${url}/v2/models/scale/infer`, { body: big });
    // Until the server has read what the first one sent, the second finds room and is merely no JSON.
  } while (second.status === 400);
  assert.equal(second.status, 503);
  assert.match(errorOf(second), /max_inflight_bytes/);
  assert.equal(second.headers['retry-after'], '1');
  first.destroy();
  await until('the room is free again', async () => {
    const { status } = await call(`${url}/v2/models/scale/infer`, { body: big });
    return status === 400;
  });
  assert.equal((await infer('scale')).status, 200);
});

test('tensor bytes over the limit of the queues are refused with 503', async () => {
  const small = await serveModels({ slow: slowModel(20) }, { runtime: { threads: 1, maxQueueBytes: 2048 } });
  try {
    const rows = (count: number): Promise<Answer> =>
      call(`${small.url}/v2/models/slow/infer`, {
        body: { inputs: [jsonInput('x', 'FP32', [count, 4], Array(4 * count).fill(1))] },
      });
    const refused = await rows(64 * 3);
    assert.equal(refused.status, 503);
    assert.match(errorOf(refused), /max_queue_bytes/);
    assert.equal((await rows(64)).status, 200);
  } finally {
    await small.close();
  }
});

test('a long body that is not JSON is refused like a short one', async () => {
  const text = JSON.stringify({ inputs: [jsonInput('x', 'FP32', [17_000, 4], Array(68_000).fill(1.25))] });
  const long = await serveModels({ scale: scaleModel() });
  try {
    const send = (sent: string): Promise<Answer> => call(`${long.url}/v2/models/scale/infer`, { body: sent });
    assert.equal((await send(text)).status, 200);
    for (const [bad, reason] of [
      [text.slice(0, -1), /failed to parse the request JSON buffer/],
      [text.replace('1.25]', '1.2.5]'), /input 'x'/],
      [text.replace(',1.25]', ']'), /input 'x'/],
    ] as const) {
      const answer = await send(bad);
      assert.equal(answer.status, 400);
      assert.match(errorOf(answer), reason);
    }
    assert.equal((await send(text)).status, 200);
  } finally {
    await long.close();
  }
});
