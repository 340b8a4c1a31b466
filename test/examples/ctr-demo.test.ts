import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { categoryColumns, denseColumns } from '../../examples/ctr/columns.js';
import { quantile, sendRows } from '../../examples/ctr/send-rows.js';
import { ShippedModel } from '../../examples/ctr/shipped-model.js';

const program = fileURLToPath(new URL('../../examples/ctr/demo.js', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-ctr-demo-'));
after(() => rmSync(directory, { recursive: true, force: true }));

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function demo(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { timeout: 60_000, env: { ...process.env, XDG_CACHE_HOME: directory } };
    execFile(process.execPath, [program, ...args], options, (error, out, err) => {
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err });
    });
  });
}

describe('the CTR demo', () => {
  let model: ShippedModel;
  let url: string;
  const server = createServer((request, response) => {
    void answer(request).then(([status, body]) => response.writeHead(status).end(JSON.stringify(body)));
  });

  /** What a server with a table says, by a table and a session of this process. */
  async function answer(request: IncomingMessage): Promise<[number, unknown]> {
    let text = '';
    for await (const part of request) text += part;
    if (request.url !== '/v2/models/ctr/infer') return [404, { error: `no route ${request.url}` }];
    const { inputs } = JSON.parse(text) as {
      inputs: { name: string; shape: number[]; datatype: string; data: number[] }[];
    };
    assert.deepEqual(
      inputs.map(({ name, shape, datatype }) => [name, shape, datatype]),
      [
        ['ids', [1, 26], 'INT64'],
        ['dense', [1, 13], 'FP32'],
      ],
    );
    const row = { ids: Int32Array.from(inputs[0]!.data), dense: Float32Array.from(inputs[1]!.data) };
    const [probability] = await model.predict([row]);
    return [200, { outputs: [{ name: 'ctr', datatype: 'FP32', shape: [1, 1], data: [probability] }] }];
  }

  before(async () => {
    model = await ShippedModel.open();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(async () => {
    server.close();
    await model.close();
  });

  test('sends held-out rows and prints how well and how fast they were answered', async () => {
    const { code, out, err } = await demo('--url', url, '--rows', '4000');
    assert.equal(code, 0, err);
    assert.match(out, /^4000 requests in [\d.]+ s: \d+ requests\/s with 32 at a time$/m);
    assert.match(out, /^latency p50 [\d.]+ ms, p99 [\d.]+ ms/m);
    const served = Number(/AUC of the served probabilities: (0\.\d{4})/.exec(out)![1]);
    const truth = Number(/AUC of the truth on these rows: {2}(0\.\d{4})/.exec(out)![1]);
    assert.ok(served > 0.78 && truth - served < 0.03 && truth > served, out);
  });

  test('serves the sample itself when no server is named, and gets the same answers', async () => {
    const flags = ['--rows', '2000', '--concurrency', '8'];
    const [own, other] = [await demo(...flags), await demo('--url', url, ...flags)];
    assert.equal(own.code, 0, own.err);
    // Probabilities differ in their last digits by the batch that a row was in.
    const [served, expected] = [own, other].map(({ out }) =>
      Number(/AUC of the served.*: (0\.\d{4})/.exec(out)?.[1]),
    );
    assert.ok(Math.abs(served! - expected!) <= 0.0002, `${own.out}${other.out}`);
  });

  test('sends a file of Criteo rows with missing fields', async () => {
    const header = ['label', ...[...denseColumns, ...categoryColumns].map(({ name }) => name)];
    const rows = [
      ['0', ...Array<string>(39).fill('')],
      ['1', '1', '-3', '260.0', ...Array<string>(10).fill(''), '68fd1e64', ...Array<string>(25).fill('')],
    ];
    const file = join(directory, 'rows.csv');
    writeFileSync(file, `${[header, ...rows].map((fields) => fields.join()).join('\n')}\n`);
    const { code, out, err } = await demo('--url', url, '--criteo', file);
    assert.equal(code, 0, err);
    assert.match(out, /^2 rows with 74 missing fields in, 2 probabilities out:$/m);
    assert.match(out, /means nothing: the model was trained on generated rows/);
  });

  test('ends with the words of a server that refuses', async () => {
    const { code, err } = await demo('--url', url, '--name', 'other', '--rows', '10');
    assert.equal(code, 1);
    assert.match(err, /other\/infer answered 404: .*no route/);
  });

  test('ends with what its own server wrote when that does not start', async () => {
    const { code, err } = await demo('--model', join(directory, 'nothing-here'), '--rows', '10');
    assert.equal(code, 1);
    assert.match(err, /the server ended before it listened:\n.*nothing-here/s);
  });

  test('refuses a number of rows that is none', async () => {
    const { code, err } = await demo('--url', url, '--rows', 'many');
    assert.equal(code, 2);
    assert.equal(err, '--rows: expected an integer of at least 1, got many\n');
  });
});

describe('sending rows', () => {
  const rows = Array.from({ length: 50 }, (_, at) => ({
    ids: Int32Array.of(at),
    dense: new Float32Array(0),
  }));

  test('keeps so many requests on their way and gives answers in the order of the rows', async () => {
    let running = 0;
    let most = 0;
    const { probabilities, latenciesMs } = await sendRows(rows, 8, async ({ ids }) => {
      most = Math.max(most, ++running);
      for (let turns = ids[0]! % 5; turns >= 0; turns--) await Promise.resolve();
      running -= 1;
      return ids[0]! / 100;
    });
    assert.equal(most, 8);
    assert.deepEqual(
      [...probabilities],
      rows.map((_, at) => at / 100),
    );
    assert.equal(latenciesMs.length, 50);
    assert.equal(quantile(Float64Array.of(1, 2, 3, 4), 0.5), 3);
    assert.equal(quantile(Float64Array.of(1, 2, 3, 4), 1), 4);
  });

  test('sends no more once one failed', async () => {
    let sent = 0;
    const failing = sendRows(rows, 2, async () => {
      sent += 1;
      if (sent === 4) throw new Error('refused');
      return 0;
    });
    await assert.rejects(failing, /refused/);
    assert.ok(sent <= 5, String(sent));
  });
});
