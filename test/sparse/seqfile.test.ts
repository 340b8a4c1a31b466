import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ServingError } from '../../src/errors.js';
import {
  makeSequenceFile,
  measureSequenceFile,
  type PrintOptions,
  printSequenceFile,
  type ValueText,
} from '../../src/sparse/seqfile.js';
import {
  bigEndian,
  bytesWritable,
  floats,
  hadoopRecord,
  header,
  marker,
  record,
  syncEscape,
  text,
} from '../support/sequence-file.js';

const root = mkdtempSync(join(tmpdir(), 'seqfile-'));
after(() => rmSync(root, { recursive: true }));

const largestKey = 2n ** 64n - 1n;

function fileOf(name: string, ...parts: (Buffer | string)[]): string {
  const path = join(root, name);
  writeFileSync(path, Buffer.concat(parts.map((part) => Buffer.from(part))));
  return path;
}

/** What is printed, and the message of the error that ended it. */
async function printed(
  path: string,
  options: PrintOptions = {},
): Promise<{ lines: string; error?: ServingError }> {
  const pieces: Uint8Array[] = [];
  const lines = (): string => Buffer.concat(pieces).toString();
  try {
    await printSequenceFile(path, options, async (piece) => pieces.push(piece) > 0);
    return { lines: lines() };
  } catch (error) {
    return { lines: lines(), error: error as ServingError };
  }
}

async function cat(path: string, options: PrintOptions = {}): Promise<string> {
  const { lines, error } = await printed(path, options);
  assert.ifError(error);
  return lines;
}

test('a file made of text has the bytes of the description, escapes and all', async () => {
  const rows: [bigint, Buffer][] = [
    [0n, floats(1, -2.5)],
    [largestKey, Buffer.alloc(0)],
    // 16 + 8 + 1976 record bytes meet the limit of 2000 exactly.
    [7n, Buffer.alloc(1968, 1)],
    [8n, Buffer.alloc(1988, 2)],
    [9n, Buffer.alloc(4000, 3)],
    [10n, floats(0.1)],
  ];
  const expected = [header()];
  for (const [key, value] of rows) {
    expected.push(record(key, value));
    if (key === 7n || key === 9n) expected.push(syncEscape);
  }
  const input = fileOf(
    'golden.txt',
    rows.map(([key, value]) => `${key}:${value.toString('hex')}\n`).join(''),
  );
  const output = join(root, 'golden.seq');
  const made = await makeSequenceFile(input, output, { values: 'hex', marker });
  const bytes = readFileSync(output);
  assert.equal(header().length, 96);
  assert.deepEqual(bytes, Buffer.concat(expected));
  assert.deepEqual(made, { records: 6, bytes: bytes.length });
});

test('a file made by hand is printed with exact keys', async () => {
  const path = fileOf(
    'hand.seq',
    header(),
    record(0n, floats(1, 0.1)),
    syncEscape,
    record(largestKey, floats(-0, Number.NaN)),
    record(2n ** 53n + 1n, floats(Number.NEGATIVE_INFINITY, 1e-45)),
    syncEscape,
  );
  assert.equal(await cat(path), '0:1 0.1\n18446744073709551615:-0.0 NaN\n9007199254740993:-Infinity 1e-45\n');
  assert.equal(
    await cat(path, { skip: 1, rows: 1, values: 'hex' }),
    '18446744073709551615:000000800000c07f\n',
  );
  assert.equal(await cat(path, { rows: 0 }), '');
  assert.equal(await cat(path, { skip: 5 }), '');
});

test('a file that Hadoop wrote is recognised by its first record, or as told', async () => {
  const path = fileOf(
    'hadoop.seq',
    header(),
    syncEscape,
    hadoopRecord(5n, floats(1.5)),
    hadoopRecord(6n, Buffer.alloc(0)),
  );
  for (const innerLengths of ['auto', 'yes'] as const) {
    assert.equal(await cat(path, { innerLengths, values: 'floats' }), '5:1.5\n6:\n');
  }
  const { error } = await printed(path, { innerLengths: 'no' });
  assert.equal(error?.code, 'SRV_BAD_INPUT_FILE');
  assert.match(
    error.message,
    /hadoop\.seq, byte 120: a key of 12 bytes, expected 8 bytes \(a file that Hadoop wrote/,
  );
  // 12 bytes of value that look like nothing in particular.
  const plain = fileOf('plain.seq', header(), record(5n, Buffer.from('ABCDEFGHIJKL')));
  assert.equal(await cat(plain), '5:ABCDEFGHIJKL\n');
  assert.match(
    (await printed(plain, { innerLengths: 'yes' })).error?.message ?? '',
    /a key of 8 bytes, expected 12/,
  );
});

test('headers with metadata and other classes are read', async () => {
  const metadata = Buffer.concat([
    bigEndian(2),
    text('a'),
    text('b'),
    text(''),
    Buffer.from([0x8f, 0x80]),
    Buffer.alloc(128, 'm'),
  ]);
  const path = fileOf(
    'metadata.seq',
    header({ keyClass: 'my.Key', valueClass: '', rest: metadata }),
    record(1n, floats(2)),
  );
  assert.equal(await cat(path), '1:2\n');
  const statistics = await measureSequenceFile(path);
  assert.equal(statistics.keyClass, 'my.Key');
  assert.deepEqual(statistics.metadata, [
    { name: 'a', value: 'b' },
    { name: '', value: 'm'.repeat(128) },
  ]);
});

const refused: [string, Buffer, RegExp][] = [
  ['an empty file', Buffer.alloc(0), /byte 0: the file ends in its header/],
  ['text', Buffer.from('1:2 3\n'), /byte 0: no sequence file: it begins with "1:2 ", expected "SEQ"/],
  ['version 4', header({ version: 4 }), /byte 3: a sequence file of version 4, expected version 6/],
  [
    'compressed records',
    header({ flags: [1, 0], rest: Buffer.concat([text('org.Codec'), Buffer.alloc(4)]) }),
    /byte 74: a compressed sequence file \(each record is compressed, codec "org.Codec"\)/,
  ],
  [
    'compressed blocks',
    header({ flags: [1, 1], rest: Buffer.concat([text('org.Codec'), Buffer.alloc(4)]) }),
    /blocks of records are compressed, codec "org.Codec"/,
  ],
  ['a flag that is none', header({ flags: [0, 7] }), /byte 75: block compression flag is 7, expected 0 or 1/],
  ['endless metadata', header({ rest: bigEndian(0x7fffffff) }), /byte 76: a metadata count of 2147483647/],
  [
    'keys that are big-endian',
    header({ keyClass: 'org.apache.hadoop.io.LongWritable' }),
    /LongWritable, which are big-endian/,
  ],
];
for (const [name, bytes, message] of refused) {
  test(`${name} is refused with file, place and reason`, async () => {
    const path = fileOf('refused.seq', bytes);
    await assert.rejects(measureSequenceFile(path), (error: ServingError) => {
      assert.equal(error.code, 'SRV_BAD_INPUT_FILE');
      assert.ok(error.message.startsWith(`${path}, byte `), error.message);
      assert.match(error.message, message);
      return true;
    });
  });
}

test('a missing file and a directory are SRV_IO', async () => {
  await assert.rejects(measureSequenceFile(join(root, 'missing')), { code: 'SRV_IO' });
  await assert.rejects(measureSequenceFile(root), { code: 'SRV_IO' });
  await assert.rejects(makeSequenceFile(join(root, 'missing'), join(root, 'out')), { code: 'SRV_IO' });
  await assert.rejects(makeSequenceFile(fileOf('in.txt', '1:1'), root), { code: 'SRV_IO' });
  await assert.rejects(makeSequenceFile(fileOf('in.txt', '1:1'), join(root, 'no', 'out')), {
    code: 'SRV_IO',
  });
});

test('a file cut off anywhere gives the records before the cut and names the place', async () => {
  const parts = [header(), record(1n, floats(1)), record(2n, floats(2)), syncEscape, record(3n, floats(3))];
  const whole = Buffer.concat(parts);
  const lines = ['1:1\n', '2:2\n', '3:3\n'];
  let end = 0;
  const clean = parts.map((part) => (end += part.length));
  for (let length = 0; length < whole.length; length++) {
    const path = fileOf('cut.seq', whole.subarray(0, length));
    const found = await printed(path, { values: 'floats' });
    const records = [clean[1]!, clean[2]!, clean[4]!].filter((place) => place <= length).length;
    assert.equal(found.lines, lines.slice(0, records).join(''), `cut at ${length}`);
    if (clean.includes(length)) assert.ifError(found.error);
    else {
      assert.equal(found.error?.code, 'SRV_BAD_INPUT_FILE', `cut at ${length}`);
      assert.ok(found.error.message.startsWith(`${path}, byte `), found.error.message);
    }
  }
});

test('a byte changed anywhere gives the records before it, and an error that names the file or other rows', async () => {
  for (const isHadoop of [false, true]) {
    const make = isHadoop ? hadoopRecord : record;
    const parts = [header(), make(1n, floats(1)), make(2n, floats(2)), syncEscape, make(3n, floats(3))];
    const whole = Buffer.concat(parts);
    const first = parts[0]!.length;
    const second = first + parts[1]!.length;
    for (let place = 0; place < whole.length; place++) {
      for (const change of [0x01, 0x80, 0xff]) {
        const bytes = Buffer.from(whole);
        bytes[place] = bytes[place]! ^ change;
        const path = fileOf('flipped.seq', bytes);
        const { lines, error } = await printed(path, { values: 'hex' });
        if (place >= second) assert.ok(lines.startsWith('1:0000803f\n'), `byte ${place}`);
        if (!error) continue;
        assert.equal(error.code, 'SRV_BAD_INPUT_FILE');
        assert.ok(error.message.startsWith(`${path}, byte `), error.message);
      }
    }
  }
});

test('a record that lies about its length is refused without memory for it', async () => {
  const large = Buffer.concat([bigEndian(0x7fffffff), bigEndian(8), Buffer.alloc(8)]);
  const path = fileOf('large.seq', header(), record(1n, floats(1)), large);
  const { lines, error } = await printed(path);
  assert.equal(lines, '1:1\n');
  assert.match(
    error?.message ?? '',
    /byte 116: a record of 2147483647 bytes, expected at most 67108864 bytes/,
  );
});

test('printed, made and printed again the lines are the same, in each form', async () => {
  let state = 1;
  const random = (below: number): number => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
  const forms: [ValueText, () => Buffer][] = [
    ['floats', () => Buffer.from(Array.from({ length: 4 * random(20) }, () => random(256)))],
    ['hex', () => Buffer.from(Array.from({ length: random(300) }, () => random(256)))],
    ['text', () => Buffer.from(Array.from({ length: random(300) }, () => 32 + random(94)))],
  ];
  for (const [values, value] of forms) {
    const keys = [
      0n,
      largestKey,
      2n ** 63n,
      ...Array.from({ length: 300 }, () => BigInt(random(2 ** 31)) ** 2n),
    ];
    const first = fileOf('first.seq', header(), ...keys.map((key) => record(key, value())));
    const lines = await cat(first, { values });
    const again = join(root, 'again.seq');
    await makeSequenceFile(fileOf('lines.txt', lines), again, { values });
    assert.equal(await cat(again, { values }), lines);
    // Floats forget which NaN it was; the other forms keep every byte.
    if (values !== 'floats')
      assert.equal(await cat(again, { values: 'hex' }), await cat(first, { values: 'hex' }));
  }
});

test('the first values tell how they are printed', async () => {
  const first = record(1n, Buffer.from('é, text'));
  assert.equal(await cat(fileOf('a.seq', header(), first)), '1:é, text\n');
  assert.equal(
    await cat(fileOf('b.seq', header(), first, record(2n, Buffer.from([0xff])))),
    '1:c3a92c2074657874\n2:ff\n',
  );
  assert.equal(
    await cat(fileOf('c.seq', header(), record(1n, floats(1)), record(2n, Buffer.alloc(0)))),
    '1:1\n2:\n',
  );
  assert.equal(await cat(fileOf('d.seq', header())), '');
});

test('a value that its form cannot hold ends the lines before it with an error', async () => {
  const path = fileOf('e.seq', header(), record(1n, floats(1)), record(2n, Buffer.from('a\nb')));
  const asFloats = await printed(path, { values: 'floats' });
  assert.equal(asFloats.lines, '1:1\n');
  assert.match(
    asFloats.error?.message ?? '',
    /the value of row 2 with key 2 has 3 bytes, expected a multiple of 4/,
  );
  const asText = await printed(path, { values: 'text' });
  assert.match(asText.error?.message ?? '', /row 2 with key 2 has a line feed/);
});

const badLines: [string, ValueText, RegExp][] = [
  ['x:1', 'floats', /line 2, byte 4: expected key:value with a decimal key, found "x:1"/],
  ['18446744073709551616:1', 'floats', /line 2, byte 4: the key ".*" is larger than 18446744073709551615/],
  ['-1:1', 'floats', /expected key:value/],
  ['+1:1', 'floats', /expected key:value/],
  ['1.5:1', 'floats', /byte 5: expected a colon behind the key, found ".5:1"/],
  ['7', 'floats', /byte 5: expected a colon behind the key, found the end of the line/],
  ['7:1 x', 'floats', /byte 8: expected a number, found "x"/],
  ['7:1,,2', 'floats', /byte 8: expected a number, found ""/],
  ['7:1e39', 'floats', /byte 6: "1e39" is too large for a 32-bit float/],
  ['7:abc', 'hex', /an even number of hexadecimal digits, found 3/],
  ['7:zz', 'hex', /byte 6: expected hexadecimal digits, found "zz"/],
];
for (const [line, values, message] of badLines) {
  test(`the line ${line} is refused, and no file is left`, async () => {
    const input = fileOf('bad.txt', '11:\n', `${line}\n`);
    const directory = mkdtempSync(join(root, 'out-'));
    await assert.rejects(
      makeSequenceFile(input, join(directory, 'out.seq'), { values }),
      (error: ServingError) => {
        assert.equal(error.code, 'SRV_BAD_INPUT_FILE');
        assert.ok(error.message.startsWith(`${input}, line `), error.message);
        assert.match(error.message, message);
        return true;
      },
    );
    assert.deepEqual(readdirSync(directory), []);
  });
}

test('a file that cannot be made leaves the earlier one', async () => {
  const output = join(root, 'kept.seq');
  await makeSequenceFile(fileOf('good.txt', '1:1\r\n\r\n0002:.5,\t+3'), output);
  const lines = '1:1\n2:0.5 3\n';
  assert.equal(await cat(output), lines);
  await assert.rejects(makeSequenceFile(fileOf('bad.txt', '1:2\nbad'), output));
  assert.equal(await cat(output), lines);
});

test('the statistics of a file, and of what comes before its damage', async () => {
  const parts = [
    header(),
    record(5n, floats(1, 2)),
    syncEscape,
    record(largestKey, Buffer.alloc(0)),
    syncEscape,
  ];
  const whole = fileOf('whole.seq', ...parts);
  const expected = {
    keyClass: bytesWritable,
    valueClass: bytesWritable,
    metadata: [],
    hasInnerLengths: false,
    fileBytes: 176,
    records: 2,
    escapes: 2,
    valueBytes: 8,
    smallestKey: 5n,
    largestKey,
    shortestValue: 0,
    longestValue: 8,
  };
  assert.deepEqual(await measureSequenceFile(whole), expected);
  const damaged = fileOf('damaged.seq', ...parts, 'x');
  const { damage, ...counted } = await measureSequenceFile(damaged);
  assert.deepEqual(counted, { ...expected, fileBytes: 177 });
  assert.equal(damage?.code, 'SRV_BAD_INPUT_FILE');
  assert.equal(
    damage.message,
    `${damaged}, byte 176: the file ends within a record: expected 8 bytes from here, found 1 bytes`,
  );
  const { records, smallestKey } = await measureSequenceFile(fileOf('none.seq', header()));
  assert.deepEqual([records, smallestKey], [0, undefined]);
});
