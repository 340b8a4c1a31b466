import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type BuildTableOptions, buildTable } from '../../src/sparse/builder.js';
import {
  digestOfVersion,
  listVersions,
  type Manifest,
  readManifest,
  resolveChain,
} from '../../src/sparse/manifest.js';
import { openTable } from '../../src/sparse/table.js';
import { writeKeyValue } from './row-files.js';

const root = mkdtempSync(join(tmpdir(), 'table-manifest-'));
after(() => rmSync(root, { recursive: true }));

const table = join(root, 'table');
const first = join(table, '1');
let truth: Manifest;

before(async () => {
  const inputs = [
    writeKeyValue(join(root, 'rows.txt'), [
      [1n, [1, 2]],
      [2n, [3, 4]],
    ]),
  ];
  await buildTable({ output: table, inputs, shardNum: 2, defaultRow: 'zeros' });
  await buildTable({ output: table, inputs, mode: 'delta' });
  await buildTable({ output: table, inputs, mode: 'delta' });
  truth = await readManifest(first);
});

/** Writes something else in the place of the manifest, for as long as `use` runs. */
async function withManifest(content: unknown, use: () => Promise<void>): Promise<void> {
  const path = join(first, 'manifest.json');
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  try {
    await use();
  } finally {
    writeFileSync(path, JSON.stringify(truth));
  }
}

function withFile(change: Record<string, unknown>): unknown {
  return { ...truth, files: [{ ...truth.files[0], ...change }, truth.files[1]] };
}

test('every lie of a manifest is found, and named', async () => {
  const lies: readonly (readonly [unknown, RegExp])[] = [
    [{ ...truth, version: 2 }, /version: 2, but the directory is 1/],
    [{ ...truth, version: 0 }, /version/],
    [{ ...truth, kind: 'delta' }, /parent: a delta needs/],
    [{ ...truth, kind: 'delta', parent: 1 }, /parent: a delta needs/],
    [{ ...truth, kind: 'delta', parent: 1 }, /parent_digest: a delta needs the digest of the version/],
    [{ ...truth, kind: 'delta', parent_digest: 'abc' }, /parent_digest/],
    [{ ...truth, parent_digest: '0'.repeat(64) }, /parent: a snapshot stands on no other/],
    [{ ...truth, kind: 'other' }, /kind/],
    [{ ...truth, parent: 1 }, /parent: a snapshot stands on no other/],
    [{ ...truth, dtype: 'f64' }, /dtype/],
    [{ ...truth, dtype: 'bytes' }, /dim: 2 does not fit/],
    [{ ...truth, dim: 0 }, /dim: 0 does not fit/],
    [{ ...truth, dim: 3 }, /default_row: 2 numbers, rows have 3/],
    [{ ...truth, shard_num: 3 }, /2 files for 3 shards/],
    [{ ...truth, hash_seed: '-1' }, /hash_seed/],
    [{ ...truth, rows: 3 }, /rows: the files have 2, not 3/],
    [{ ...truth, deletes: 1 }, /deletes: the files have 0, not 1/],
    [{ ...truth, created: 5 }, /created/],
    [{ ...truth, default_row: [1] }, /default_row: 1 numbers/],
    [{ ...truth, files: [] }, /files/],
    [{ ...truth, files: [truth.files[0], truth.files[0]] }, /files\[1\]\.shard: expected 1, got 0/],
    [{ ...truth, fils: [] }, /fils: unknown key.*files/],
    [withFile({ name: '../x' }), /files\[0\]\.name/],
    [withFile({ name: 'absent.shard' }), /absent\.shard is missing/],
    [withFile({ bytes: 17 }), /has \d+ bytes, not 17/],
    [withFile({ digest: 'xyz' }), /files\[0\]\.digest/],
    [withFile({ rows: 9 }), /rows: the files have/],
    [withFile({ deletes: 9 }), /deletes: the files have/],
    ['{"format": 1, ', /is not JSON/],
    ['[]', /./],
    ['null', /./],
  ];
  for (const [lie, message] of lies) {
    await withManifest(lie, () =>
      assert.rejects(readManifest(first), { code: 'SRV_TABLE_CORRUPT', message }, JSON.stringify(lie)),
    );
  }
  await withManifest({ ...truth, format: 2 }, () =>
    assert.rejects(readManifest(first), { code: 'SRV_TABLE_UNSUPPORTED', message: /format 2/ }),
  );
  assert.deepEqual(await readManifest(first), truth);
});

test('a file that was cut is found by its size', async () => {
  const copy = join(root, 'cut', '1');
  await buildTable({ output: join(root, 'cut'), inputs: [join(root, 'rows.txt')] });
  truncateSync(join(copy, 'part-00000-of-00001.shard'), 5000);
  await assert.rejects(readManifest(copy), { code: 'SRV_TABLE_CORRUPT', message: /has 5000 bytes, not/ });
});

test('versions are numeric directories with a manifest', async () => {
  mkdirSync(join(table, '9'));
  mkdirSync(join(table, '08'));
  mkdirSync(join(table, 'notes'));
  assert.deepEqual(await listVersions(table), [1, 2, 3]);
  await assert.rejects(listVersions(join(root, 'absent')), { code: 'SRV_TABLE_NOT_FOUND' });
});

test('a chain leads from the snapshot to the version', async () => {
  const versions = async (wanted?: number): Promise<number[]> =>
    (await resolveChain(table, wanted)).map(({ manifest }) => manifest.version);
  assert.deepEqual(await versions(), [1, 2, 3]);
  assert.deepEqual(await versions(2), [1, 2]);
  assert.deepEqual(await versions(1), [1]);
  await assert.rejects(versions(7), { code: 'SRV_TABLE_NOT_FOUND', message: /no version 7/ });
});

test('a parent that is absent, or does not fit, is named', async () => {
  renameSync(join(table, '2'), join(table, 'two'));
  await assert.rejects(resolveChain(table), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /version 3 is a delta on version 2, which is not there/,
  });
  renameSync(join(table, 'two'), join(table, '2'));
  await withManifest({ ...truth, dtype: 'f16' }, () =>
    assert.rejects(resolveChain(table), {
      code: 'SRV_TABLE_MISMATCH',
      message: /has dtype f32, but version 1/,
    }),
  );
});

test('a delta knows its parent by its content, however the parent got there', async () => {
  const place = join(root, 'anew');
  const rows = (name: string, value: number): string =>
    writeKeyValue(join(root, name), [[1n, [value, value]]]);
  const build = (name: string, value: number, options: Partial<BuildTableOptions> = {}) =>
    buildTable({ output: place, inputs: [rows(name, value)], threads: 1, ...options });
  await build('anew-1.txt', 1);
  await build('anew-2.txt', 2, { mode: 'delta' });
  const { manifest } = await build('anew-3.txt', 3, { mode: 'delta' });
  const second = await readManifest(join(place, '2'));
  const digest = createHash('sha256')
    .update(second.files[0]!.digest + second.parent_digest!)
    .digest('hex');
  assert.deepEqual([manifest.parent_digest, digestOfVersion(second)], [digest, digest]);

  rmSync(join(place, '1'), { recursive: true });
  await build('anew-1.txt', 1, { version: 1 });
  assert.equal((await resolveChain(place)).length, 3);

  rmSync(join(place, '1'), { recursive: true });
  await build('other.txt', 9, { version: 1 });
  const other = digestOfVersion(await readManifest(join(place, '1')));
  const mismatch = {
    code: 'SRV_TABLE_MISMATCH',
    message: new RegExp(
      `version 2 changes a version 1 with the digest ${second.parent_digest}, but that in \\S+/1 has ${other}: it was built anew`,
    ),
  };
  await assert.rejects(resolveChain(place), mismatch);
  await assert.rejects(openTable(place), mismatch);
  await assert.rejects(build('anew-4.txt', 4, { mode: 'delta' }), mismatch);

  // The delta in the middle is built anew on it, with the same rows: its own files are those of before.
  rmSync(join(place, '2'), { recursive: true });
  await build('anew-2.txt', 2, { mode: 'delta', version: 2, parent: 1 });
  assert.deepEqual((await readManifest(join(place, '2'))).files, second.files);
  await assert.rejects(resolveChain(place), {
    code: 'SRV_TABLE_MISMATCH',
    message: /version 3 changes a version 2 with the digest/,
  });
});
