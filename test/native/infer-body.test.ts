import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scanInferBody, scanInferBodyAsync } from '../../src/native/binding.js';
import { runInWorker } from './run-in-worker.js';

/** The parsed envelope and the text of each section. */
function take(text: string): { envelope: unknown; sections: string[] } {
  const body = Buffer.from(text);
  const scan = scanInferBody(body);
  const sections: string[] = [];
  for (let i = 0; i < scan.sections.length; i += 2) {
    sections.push(body.subarray(scan.sections[i], scan.sections[i + 1]).toString());
  }
  return { envelope: JSON.parse(scan.envelope), sections };
}

const request = {
  id: 'a',
  inputs: [
    {
      name: 'x',
      shape: [2, 2],
      datatype: 'FP32',
      data: [
        [1, 2.5],
        [3, -4e-7],
      ],
    },
    { name: 'text ]"\\ é€😀', shape: [1], datatype: 'BYTES', parameters: { data: [1] }, data: ['a]"}\\'] },
  ],
  outputs: [{ name: 'y', data: [7] }],
};

test('tensor data is cut out of a request and its place takes an ordinal number', () => {
  for (const space of [undefined, 2, '\t']) {
    const { envelope, sections } = take(JSON.stringify(request, null, space));
    assert.deepEqual(
      sections.map((text) => JSON.parse(text)),
      request.inputs.map(({ data }) => data),
    );
    const inputs = request.inputs.map((input, ordinal) => ({ ...input, data: ordinal }));
    assert.deepEqual(envelope, { ...request, inputs });
  }
});

test('data that is not an array is cut too', () => {
  const { envelope, sections } = take(
    '{"inputs":[{"data": 1.5},{"data":"]"},{"data":{"data":[]}},{"data":null}]}',
  );
  assert.deepEqual(sections, ['1.5', '"]"', '{"data":[]}', 'null']);
  assert.deepEqual(envelope, { inputs: [{ data: 0 }, { data: 1 }, { data: 2 }, { data: 3 }] });
});

test('a key spelt with escapes is the same key, so no request can write an ordinal itself', () => {
  const { envelope, sections } = take(
    '{"\\u0069nputs":[{"d\\u0061ta":5,"data":[1],"\\u0064\\u0061\\u0074\\u0061":6}]}',
  );
  assert.deepEqual(sections, ['5', '[1]', '6']);
  assert.deepEqual(envelope, { inputs: [{ data: 2 }] });
});

test('what follows a cut value cannot turn its ordinal into another number', () => {
  for (const text of [
    '{"inputs":[{"data":[1]5}]}',
    '{"inputs":[{"data":5[1]}]}',
    '{"inputs":[{"data":1.e5"x"}]}',
  ]) {
    assert.throws(() => JSON.parse(scanInferBody(Buffer.from(text)).envelope), SyntaxError);
  }
});

test('keys named data elsewhere stay where they are', () => {
  for (const text of [
    '{"data":[1],"outputs":[{"data":[1]}],"inputs":{"data":[1]}}',
    '{"inputs":[[{"data":[1]}],"data",{"x":{"data":[1]}}]}',
    '[{"inputs":[{"data":[1]}]}]',
    '{"a":{"inputs":[{"data":[1]}]}}',
    '{"inputs":7,"x":[{"data":[1]}]}',
    '7',
  ]) {
    assert.deepEqual(take(text), { envelope: JSON.parse(text), sections: [] });
  }
});

test('a request with more inputs than the offsets have room for is read again', () => {
  const inputs = Array.from({ length: 100 }, (_, i) => ({ data: [i] }));
  const { sections } = take(JSON.stringify({ inputs }));
  assert.deepEqual(
    sections,
    inputs.map(({ data: [i] }) => `[${i}]`),
  );
  assert.equal(take('{"inputs":[{"data":[1]}]}').sections.length, 1);
});

test('text that ends too early or does not match is refused with its offset', () => {
  for (const [text, message] of [
    ['{"inputs":[{"data":[1,2', 'the data at byte 19 does not end'],
    ['{"inputs":[{"data":["a', 'the string at byte 20 does not end'],
    ['{"inputs":[{"name":"x', 'the string at byte 19 does not end'],
    ['{"inputs":[{"name":"x\\', 'the string at byte 19 does not end'],
    ['{"inputs":[{"data":[1}]}', "'}' at byte 21 closes nothing that is open"],
    ['{"inputs":[', 'the array at byte 10 does not end'],
    [`${'['.repeat(129)}`, 'the value at byte 128 is nested more than 128 levels deep'],
  ] as const) {
    assert.throws(() => scanInferBody(Buffer.from(text)), {
      name: 'ServingError',
      code: 'SRV_BAD_JSON',
      message,
    });
  }
});

test('bytes that are not UTF-8 are refused with their offset', () => {
  for (const bad of ['\xFF', '\xC0\x80', '\xED\xA0\x80', '\xF4\x90\x80\x80', '\xE2\x82']) {
    assert.throws(() => scanInferBody(Buffer.from(`{"id":"é${bad}"}`, 'latin1').fill(0x61, 7, 8)), {
      code: 'SRV_BAD_JSON',
      message: 'the text at byte 8 is not UTF-8',
    });
  }
});

test('the asynchronous scan gives the same result and the same errors', async () => {
  const body = Buffer.from(JSON.stringify(request));
  assert.deepEqual(await scanInferBodyAsync(body), scanInferBody(body));
  await assert.rejects(scanInferBodyAsync(Buffer.from('{"inputs":[{"data":[1')), {
    name: 'ServingError',
    code: 'SRV_BAD_JSON',
    message: 'the data at byte 19 does not end',
  });
  await assert.rejects(scanInferBodyAsync('{}' as unknown as Uint8Array), { code: 'SRV_INTERNAL' });
});

test('the scan works in a worker and gives our errors there', async () => {
  const good = `return binding.scanInferBody(Buffer.from(input)).envelope;`;
  assert.equal(await runInWorker(good, '{"inputs":[{"data":[1]}]}'), '{"inputs":[{"data":0 }]}');
  assert.deepEqual(await runInWorker(good, ']'), {
    code: 'SRV_BAD_JSON',
    name: 'ServingError',
    message: "']' at byte 0 closes nothing that is open",
  });
});

test('arguments of the wrong type are refused', () => {
  for (const body of [
    undefined,
    '{}',
    new Uint16Array(2),
    new DataView(new ArrayBuffer(2)),
    new ArrayBuffer(2),
  ]) {
    assert.throws(() => scanInferBody(body as unknown as Uint8Array), {
      code: 'SRV_INTERNAL',
      message: /scanInferBody: body is/,
    });
  }
});
