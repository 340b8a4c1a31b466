/** Sparse tables and sequence files as a split uses them. */
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../errors.js';
import {
  abandonSequenceWriter,
  finishSequenceWriter,
  openSequenceWriter,
  writeSequenceRows,
} from '../../native/row-files.js';
import { buildTable } from '../../sparse/builder.js';
import { openResolved, resolveTable } from '../../sparse/table.js';
import { npyHeader } from './npy-file.js';
import type { OpenedTable, SplitTools, WriteTableTask } from './split-tools.js';

const chunkBytes = 4 << 20;
/** A split is to stay below 1 GiB with all that is around the builder. */
const builderMemoryBytes = 512 << 20;

/** Makes a table of a `.npy` file, row i under the key i. */
async function writeTable(task: WriteTableTask): Promise<void> {
  const { npyFile, directory, dim, dtype, shards, signal } = task;
  await buildTable({
    inputs: [npyFile],
    output: directory,
    format: 'npy',
    dim,
    dtype,
    memoryLimit: builderMemoryBytes,
    ...(shards === undefined ? {} : { shardNum: shards }),
    ...(signal ? { signal } : {}),
  });
}

async function openSplitTable(directory: string): Promise<OpenedTable> {
  const resolved = await resolveTable(directory);
  const table = await openResolved(resolved, false);
  const { manifest, model } = resolved;
  const { kind, rows } = manifest;
  const { dtype } = table;
  if (dtype !== 'bytes') {
    return {
      dim: table.dim,
      version: table.version,
      dtype,
      ...(model ? { publishedWith: `version ${model.version} of model ${model.name}` } : {}),
      // Counting reads all pages, which a snapshot's manifest saves.
      countRows: async () => (kind === 'snapshot' ? rows : table.countRows()),
      gather: (keys, options) => table.gather(keys, options),
      close: () => table.close(),
    };
  }
  table.close();
  throw new ServingError(
    'SRV_TABLE_MISMATCH',
    `${directory} has rows of bytes; a split needs rows of numbers`,
  );
}

/** Writes the rows of a `.npy` file as one sequence file: key i, then the 32-bit floats of row i. */
async function writeSequenceFiles(task: Omit<WriteTableTask, 'dtype'>): Promise<void> {
  const { npyFile, directory, rows, dim, signal } = task;
  await mkdir(directory);
  const rowBytes = dim * 4;
  const step = Math.max(1, Math.floor(chunkBytes / rowBytes));
  const header = npyHeader(rows, dim).length;
  const source = await open(npyFile, 'r');
  try {
    const writer = await openSequenceWriter(join(directory, 'part-00000'));
    try {
      for (let start = 0; start < rows; start += step) {
        signal?.throwIfAborted();
        const count = Math.min(step, rows - start);
        const bytes = new Uint8Array(count * rowBytes);
        const { bytesRead } = await source.read(bytes, 0, bytes.length, header + start * rowBytes);
        if (bytesRead !== bytes.length)
          throw new ServingError('SRV_IO', `${npyFile} ended while it was read`);
        await writeSequenceRows(writer, {
          keys: BigUint64Array.from({ length: count }, (_, at) => BigInt(start + at)),
          ends: Float64Array.from({ length: count }, (_, at) => (at + 1) * rowBytes),
          bytes,
        });
      }
      await finishSequenceWriter(writer);
    } finally {
      abandonSequenceWriter(writer);
    }
  } finally {
    await source.close();
  }
}

/** The tables that `onnx-serving` builds and opens. */
export const sparseTools: SplitTools = { writeTable, openTable: openSplitTable, writeSequenceFiles };
