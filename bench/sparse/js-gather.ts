/**
 * Our table from JavaScript: a contestant (contestant-process.ts) that does what table_contestant.cc does, on the same
 * files. Arguments: mapped or memory, file of keys, directory of the table, rows of the table. The ready line says how
 * long it took from asking for the table to its first rows.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { openTable } from '../../src/sparse/table.js';

const [residence, keyFile, directory, rowsText] = process.argv.slice(2);
const firstGather = 832;
const keys = new BigUint64Array(Uint8Array.from(readFileSync(keyFile!)).buffer);

const openedAt = performance.now();
const table = await openTable(directory!, { version: 1, inMem: residence === 'memory' });
table.gather(keys.subarray(0, firstGather));
print({ ready: true, openToGatherMs: performance.now() - openedAt });

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...numbers] = line.split(' ');
  const [batch, threads, seconds] = numbers.map(Number);
  if (command === 'check') print(check());
  // The pages are held by a contestant in C++; this process gets to know them.
  else if (command === 'hold') print(gather(firstGather, 1));
  else if (command === 'gather' && threads === 1) print(gather(batch!, seconds!));
  else throw new Error(`bad command: ${line}`);
}
table.close();

function gather(batch: number, seconds: number): object {
  const batches = Math.floor(keys.length / batch);
  // A caller has its keys in an array of their own.
  const asked = Array.from({ length: batches }, (_, at) => keys.subarray(at * batch, (at + 1) * batch));
  const options = { out: new Float32Array(batch * table.dim) };
  const stride = Math.max(1, Math.floor(8192 / batch));
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  let done = 0;
  for (let at = 0; performance.now() - startedAt < seconds * 1000; ) {
    for (let i = 0; i < stride; i++) {
      table.gather(asked[at]!, options);
      at = at + 1 === batches ? 0 : at + 1;
    }
    done += stride * batch;
  }
  const took = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  return {
    keysPerSecond: done / took,
    nsPerBatch: (1e9 * took * batch) / done,
    keysPerCpuSecond: (1e6 * done) / (user + system),
  };
}

function check(): object {
  const checked = 10_000;
  const { rows, missing } = table.gather(keys.subarray(0, checked));
  let wrong = missing;
  for (let k = 0; k < checked; k++) {
    const index = indexOf(keys[k]!);
    const isRight =
      index < BigInt(rowsText!) && rowIs(rows.subarray(k * table.dim, (k + 1) * table.dim), index);
    if (!isRight) wrong++;
  }
  return { checked, wrong };
}

/** Whether a row is what make_rows wrote. */
function rowIs(row: Float32Array, index: bigint): boolean {
  return row.every((element, d) => element === Number(index % 1024n) + d);
}

/** The row of a key: bench_rows.h. */
function indexOf(key: bigint): bigint {
  const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
  let at = key ^ (key >> 31n) ^ (key >> 62n);
  at = u64(at * inverseOf(0x94d049bb133111ebn));
  at = at ^ (at >> 27n) ^ (at >> 54n);
  at = u64(at * inverseOf(0xbf58476d1ce4e5b9n));
  at = at ^ (at >> 30n) ^ (at >> 60n);
  return u64(at - 0x9e3779b97f4a7c15n);
}

function inverseOf(odd: bigint): bigint {
  let inverse = odd;
  for (let step = 0; step < 6; step++) inverse = BigInt.asUintN(64, inverse * (2n - odd * inverse));
  return inverse;
}

function print(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
